"""Heads that a server has lost in both copies, and that a working copy remembers (mode lock).

A late write, or a server that fell back, can put an older head into the place of later ones. Who has
seen a later one holds its very bytes, and its segments are still there: it contains all that the older
one does, so to write it again loses nothing, and brings back the commits of everybody up to it.
"""

from __future__ import annotations

import warnings
from contextlib import suppress

from ebooklet.core.callers import stacklevel
from ebooklet.core.names import parse_sid, segment_prefix
from ebooklet.errors import LockTimeout, ObjectNotFound, RemoteIntegrityError
from ebooklet.ports.lock_service import Lease
from ebooklet.services.inventory import list_segments
from ebooklet.services.place import place_of
from ebooklet.services.retained import retained_segments
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.turns import turn
from ebooklet.services.working_copy import WorkingCopy


def is_lost(copy: WorkingCopy, current: Snapshot) -> bool:
    """Whether the base came after the head that now stands, and could stand there again.

    It cannot where somebody has committed on the older head since, or segments of it are gone.
    """
    base, head = copy.base, current.head
    if base is None or head.proto.mode != "lock" or head.uuid != base.head.uuid:
        return False
    if head.seq >= base.head.seq:
        return False
    try:
        came_after = copy.heads.landed(base.head, head.seq, head.write_id)
        return came_after and _is_whole(copy, base)
    except (ObjectNotFound, RemoteIntegrityError):
        return False


def put_back(copy: WorkingCopy, current: Snapshot) -> Snapshot | None:
    """Write the base, which is lost, in the place of an older head; say so.

    Returns:
        What then stands; None where this copy may not write, and goes on with what it has seen.

    Raises:
        LockLostError, RemoteUnavailable, OutcomeUnknown: the base is still remembered, and the next
            open for writing tries again.
    """
    base = copy.base
    if base is None:
        return None
    with suppress(LockTimeout), turn(copy, "write a lost head again") as lease:
        if lease is not None and not lease.lost:
            return _put_back(copy, base, current, lease)
    _warn(base, current, "The newer one is still read here; who opens it to write restores it")
    return None


def _put_back(copy: WorkingCopy, base: Snapshot, current: Snapshot, lease: Lease) -> Snapshot:
    found = copy.heads.put_back(base, current, lease)
    if found.head.write_id == base.head.write_id:
        _warn(
            base, current, "It was written again from what this copy remembers, and nothing is lost"
        )
    return found


def _is_whole(copy: WorkingCopy, snapshot: Snapshot) -> bool:
    """Whether all that a head retains is there."""
    place = place_of(copy)
    prefix = segment_prefix(copy.db_key)
    needed = retained_segments(place.store, copy.db_key, snapshot.head).sizes
    listed = {parse_sid(meta.key.removeprefix(prefix)): meta.size for meta in list_segments(place)}
    return all(sid in listed and size in (None, listed[sid]) for sid, size in needed.items())


def _warn(base: Snapshot, current: Snapshot, what: str) -> None:
    warnings.warn(
        f"the remote fell back from commit {base.head.seq} to {current.head.seq}: this server does "
        f"not honour conditional writes. {what}. If the older one was restored on purpose, remove the "
        "folder .ebk beside each local file that has seen the newer one first, which gives up the "
        "record of what is pending in it",
        UserWarning,
        stacklevel=stacklevel(),
    )
