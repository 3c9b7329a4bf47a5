"""Pulling: taking in what others committed, without touching what is pending here."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

from ebooklet.core.digest import value_digest
from ebooklet.core.index.diff import Change, diff
from ebooklet.core.journal import ABSENT, UNKNOWN, Base
from ebooklet.errors import ObjectNotFound, RemoteMissingError, RemoteRewound, UUIDMismatchError
from ebooklet.services.conflicts import UNRELATED, describe, find_conflicts
from ebooklet.services.metadata import committed_metadata
from ebooklet.services.reading import base_entries
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import BORROW_TIMEOUT_S, WorkingCopy

_BATCH_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull found.

    Attributes:
        updated: whether the remote had moved.
        n_changed: keys that differ from what this copy knew. Of values, only those stored locally
            are dropped, to be fetched again when they are read.
        conflicts: keys that changed both here and there; they stay pending.
        seq: sequence number of the commit this copy now stands on; 0 without a remote.
    """

    updated: bool
    n_changed: int = 0
    conflicts: tuple[str, ...] = ()
    seq: int = 0

    def __bool__(self) -> bool:
        return self.updated


def pull(copy: WorkingCopy) -> PullResult:
    """Bring this copy up to the remote's newest commit; pending changes stay.

    Raises:
        RemoteMissingError: this copy had a remote, and it is gone.
        RemoteRewound: the remote shows an older head than one seen before.
    """
    copy.require_open()
    # A head read before another thread moved the base would look like a rewound remote.
    with copy.base_lock:
        current = copy.heads.read()
        if current is None:
            if copy.base is not None:
                raise RemoteMissingError(
                    "the remote database is gone; local data are kept",
                    op="pull",
                    key=copy.db_key,
                )
            return PullResult(updated=False)
        return take_in(copy, current)


def take_in(copy: WorkingCopy, current: Snapshot) -> PullResult:
    """`advance_base`, borrowing the local store from other readers where that is needed."""
    base = copy.base
    if copy.local.writable or (base is not None and base.head.write_id == current.head.write_id):
        return advance_base(copy, current)
    with copy.local.exclusive(BORROW_TIMEOUT_S):
        copy.reload()
        return advance_base(copy, current)


def advance_base(
    copy: WorkingCopy, current: Snapshot, *, over_replacement: bool = False
) -> PullResult:
    """Make `current` the base: drop local copies that are stale, keep what is pending.

    A crash at any point leaves a state in which every value stored locally is pending, or equal
    in the old base and in the new one.
    """
    lost, compare = confirm_writes(copy, current)
    check_advance(copy, current)
    base = copy.base
    if base is not None and base.head.write_id == current.head.write_id:
        with copy.lock:
            copy.set_base(current)
        if compare:
            _settle_equal(copy)
        return PullResult(updated=False, seq=current.commit.seq)
    ahead = base is not None and current.head.seq > base.head.seq
    if base is not None and ahead and copy.pending.replace and not over_replacement:
        # A replacement never rebases: what it was decided on has to stand, or be looked at again.
        return PullResult(updated=False, seq=base.commit.seq)
    copy.nodes.adopt(current)
    with copy.moving():
        n_changed = _move(copy, base, current)
        with copy.lock:
            copy.pending.set_bases(lost, UNKNOWN)
            copy.journal.rebased(copy.pending, lost)
            _settle_on(copy, current, changed=n_changed > 0)
    if compare:
        _settle_equal(copy)
    conflicts = find_conflicts(copy)
    if conflicts:
        warnings.warn(
            f"{describe(conflicts)} changed both here and in the remote; your changes stay pending "
            "until they are discarded or pushed with conflict='ours'",
            UserWarning,
            stacklevel=4,
        )
    return PullResult(
        updated=True, n_changed=n_changed, conflicts=tuple(conflicts), seq=current.commit.seq
    )


def _move(copy: WorkingCopy, base: Snapshot | None, current: Snapshot) -> int:
    """Drop what `current` made stale; return the number of keys that differ."""
    if base is None:
        rebase_unknown(copy, ABSENT)
        return 0
    if copy.pending.replace:
        return 0  # only what was set since the replacement began is stored here
    n_changed = 0
    try:
        for changes in copy.nodes.scan(diff(base.root, current.root)):
            n_changed += len(changes)
            _apply(copy, changes)
    except ObjectNotFound:
        # The old base is no longer retained: lookups in the new one take the diff's place.
        n_changed += _compare_all(copy, current)
        rebase_unknown(copy, UNRELATED)
    return n_changed


def _settle_on(copy: WorkingCopy, current: Snapshot, *, changed: bool) -> None:
    """Make `current` the base, in memory and on disk."""
    copy.pending.shape += changed
    if not copy.pending.metadata:
        _take_metadata(copy, current)
    copy.pending.absorb()
    copy.journal.flush(copy.pending)
    copy.local.sync()
    copy.set_base(current)
    copy.journal.write_base(current)


def check_advance(copy: WorkingCopy, current: Snapshot) -> None:
    """Refuse a head of another database, and one older than this copy has already seen."""
    head = current.head
    if head.uuid != copy.uuid:
        raise UUIDMismatchError(
            f"the local data belong to database {copy.uuid}, the remote is {head.uuid}; nothing "
            "was changed. Open with another file_path, or with flag 'n' to start anew",
            op="pull",
            key=copy.db_key,
        )
    seen = copy.base.head if copy.base else None
    if seen is None or head.seq > seen.seq or head.write_id == seen.write_id:
        return
    if head.proto.mode == "lock":
        # A delayed write can undo a later commit here; what was pushed is pending again by now.
        warnings.warn(
            f"the remote fell back from commit {seen.seq} to {head.seq}: this server does not "
            "honour conditional writes. What this copy had pushed is pending again",
            UserWarning,
            stacklevel=4,
        )
        return
    raise RemoteRewound(
        f"the remote shows commit {head.seq}, but this copy has already seen {seen.seq}: a stale "
        f"or restored head. If it was restored on purpose, remove {copy.local.location}.ebk to "
        "accept it; nothing stored locally is lost",
        op="pull",
        key=copy.db_key,
    )


def confirm_writes(copy: WorkingCopy, current: Snapshot) -> tuple[list[str], bool]:
    """In mode lock, learn from a head just read what became of earlier head writes.

    Returns:
        Keys of lost writes, pending again; and whether keys of an earlier session's write have
        to be compared with the base.
    """
    if not copy.journal.in_doubt:
        return [], False
    in_doubt = copy.journal.in_doubt.items()
    landed = {w: copy.heads.landed(current.head, seq, w) for w, seq in in_doubt}
    base = copy.base
    with copy.lock:
        copy.pending.absorb()
        # An earlier session's write was lost after it became the base: whatever it covered is
        # still pending, on a base that is no part of history.
        orphaned = (
            base is not None
            and landed.get(base.head.write_id) is False
            and not copy.journal.awaits(base.head.write_id)
        )
        lost, compare = copy.journal.confirm(copy.pending, landed)
        if orphaned:
            tables = (copy.pending.sets, copy.pending.deletes)
            lost += [k for table in tables for k, known in table.items() if known is UNKNOWN]
        return list(dict.fromkeys(lost)), compare


def _settle_equal(copy: WorkingCopy) -> None:
    """Drop pending changes that the base already has: their session ended before it knew."""
    with copy.lock:
        copy.pending.absorb()
        sets, deletes = list(copy.pending.sets), list(copy.pending.deletes)
    entries = base_entries(copy, (*sets, *deletes))
    equal = [key for key in deletes if key not in entries]
    for key, found in copy.local.get_many(sets):
        entry = entries.get(key)
        if (
            entry is not None
            and entry.timestamp == found.timestamp
            and entry.digest == value_digest(found.value)
        ):
            equal.append(key)
    stored = copy.local.get_metadata() if copy.pending.metadata else None
    theirs = committed_metadata(copy, copy.base.head) if stored and copy.base else None
    with copy.lock:
        equal = [key for key in equal if key not in copy.pending.touched]
        for key in equal:
            copy.pending.forget(key)
        copy.journal.settled(equal)
        if stored is not None and stored == theirs == copy.local.get_metadata():
            copy.pending.metadata = False
            copy.journal.metadata(pending=False)


def _apply(copy: WorkingCopy, changes: list[Change]) -> None:
    """Drop stale local copies; note what moved under pending keys."""
    with copy.lock:
        copy.pending.absorb()
        moved = [change for change in changes if change.key in copy.pending]
        for change in moved:
            copy.pending.base_moved(change)
        copy.journal.rebased(copy.pending, [change.key for change in moved])
        stale = [change.key for change in changes if change.key not in copy.pending]
        _drop(copy, [key for key in stale if copy.local.contains(key)])
        for key in stale:
            copy.fetched.pop(key, None)


def _drop(copy: WorkingCopy, keys: list[str]) -> None:
    copy.journal.gone(keys)
    copy.local.delete(keys)


def rebase_unknown(copy: WorkingCopy, base: Base) -> None:
    """Say what pending keys were based on, before their base commit is left behind."""
    with copy.lock:
        copy.pending.absorb()
        keys = [
            key
            for table in (copy.pending.sets, copy.pending.deletes)
            for key, known in table.items()
            if known is UNKNOWN
        ]
        copy.pending.set_bases(keys, base)
        copy.journal.rebased(copy.pending, keys)


def _compare_all(copy: WorkingCopy, current: Snapshot) -> int:
    """Check every local copy against the new index, in batches; drop those that differ."""
    n_dropped = 0
    keys = list(copy.local.keys())
    for at in range(0, len(keys), _BATCH_KEYS):
        batch = keys[at : at + _BATCH_KEYS]
        entries = copy.nodes.lookup(current.root, batch)
        differing = [
            key
            for key, found in copy.local.get_many(batch)
            if (entry := entries.get(key)) is None
            or entry.timestamp != found.timestamp
            or entry.digest != value_digest(found.value)
        ]
        with copy.lock:
            copy.pending.absorb()
            stale = [key for key in differing if key not in copy.pending]
            _drop(copy, stale)
        n_dropped += len(stale)
    return n_dropped


def _take_metadata(copy: WorkingCopy, current: Snapshot) -> None:
    head = current.head
    stored = copy.local.get_metadata()
    if head.metadata_timestamp is None or (
        stored is not None and stored[1] == head.metadata_timestamp and stored[0] == head.metadata
    ):
        return
    theirs = committed_metadata(copy, head)
    if theirs is not None and theirs != stored:
        copy.local.set_metadata(*theirs)
