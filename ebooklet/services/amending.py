"""Amending: a head that says something else about the same commits (FORMAT §2).

Branches and tags live in the head and are moved by the same compare-and-swap as commits. So each
is decided on the very head that it replaces: what gc has let go in the meantime is met there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from ebooklet.core.advance import amended
from ebooklet.core.head import encode_head
from ebooklet.core.sealing import DatabaseSealer
from ebooklet.errors import (
    ObjectNotFound,
    RemoteMissingError,
    RemoteUnavailable,
)
from ebooklet.ports.lock_service import Lease
from ebooklet.services.backoff import pause_after_race
from ebooklet.services.confirming import confirm_writes
from ebooklet.services.explaining import explaining
from ebooklet.services.fencing import check_fence
from ebooklet.services.founding import is_founder
from ebooklet.services.guards import nothing_pushed
from ebooklet.services.heads import HeadMoved
from ebooklet.services.pull import advance_base
from ebooklet.services.readiness import check_may_change
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.turns import turn
from ebooklet.services.working_copy import WorkingCopy

Amendment: TypeAlias = Callable[[Snapshot, DatabaseSealer], Mapping[str, object] | None]
"""From the head that stands, and its sealer, to the fields that change; None if none has to."""

_LOST_RACES: Final = 50


def amend(copy: WorkingCopy, op: str, amendment: Amendment) -> Snapshot:
    """Replace the head by one that says something else; what is pending is left alone.

    Args:
        copy: the working copy, writable.
        op: what is being done, for messages.
        amendment: called for each attempt, on the head that this one is to replace. What it raises
            comes out, and nothing has changed.

    Returns:
        The head that then stands, or stood a moment ago.

    Raises:
        RemoteMissingError: nothing was pushed yet.
        PushInProgressError: another thread writes.
        LockLostError, RemoteDeleted, RemoteUnavailable, OutcomeUnknown and others: the same call
            may be repeated.
    """
    check_may_change(copy, op)
    with copy.pushing(op), copy.base_lock, turn(copy, op) as lease:
        if lease is not None:
            lease.check()
        return _amend(copy, op, amendment, lease)


def _amend(copy: WorkingCopy, op: str, amendment: Amendment, lease: Lease | None) -> Snapshot:
    current = copy.heads.read()
    for attempt in range(_LOST_RACES):
        if current is None:
            raise nothing_pushed(op, copy.location, copy.db_key)
        if current.head.uuid != copy.uuid and is_founder(copy.local, copy.journal.place.here):
            raise RemoteMissingError(
                f"cannot {op}: nothing was pushed from here yet, and somebody else has created "
                f"{copy.location} by now; push() or pull() joins it",
                op=op,
                key=copy.db_key,
            )
        copy.heads.check_same(current, copy.uuid)
        check_fence(current, lease, copy.db_key)
        current.head.require_writable(op, copy.location, copy.db_key)
        confirm_writes(copy, current, moves=False)
        sealer = copy.keyring.sealer_of(current.head, current.record)
        try:
            fields = amendment(current, sealer)
        except ObjectNotFound:
            # A collection may have come in between, and deleted what this head still tells of.
            again = copy.heads.read()
            if again is not None and again.head.write_id == current.head.write_id:
                with explaining(copy):
                    raise
            current = again
            continue
        if fields is None:
            return current
        pause_after_race(copy.clock, attempt)
        head = sealer.protect(
            amended(
                current.head,
                write_id=copy.clock.token_bytes(16),
                ms=copy.clock.now_us() // 1000,
                fence=max(current.head.fence, lease.token if lease is not None else 0),
                **fields,
            )
        )
        try:
            landed = copy.heads.commit(head, encode_head(head), current, lease)
        except HeadMoved as moved:
            current = moved.current
            continue
        _follow(copy, current, landed)
        return landed
    raise RemoteUnavailable(
        "other writers won the race for the head every time; nothing was changed: repeat it",
        op=op,
        key=copy.db_key,
    )


def _follow(copy: WorkingCopy, replaced: Snapshot, landed: Snapshot) -> None:
    """Stay in step: a copy that stood on the replaced head stands on this one, with all it has."""
    if landed.ref.id != replaced.ref.id:
        advance_base(copy, landed)  # its own branch moved
    elif copy.base is not None and copy.base.is_as(replaced):
        with copy.lock:
            copy.set_base(landed)
            copy.journal.write_base(landed)
