"""Deleting a remote database: its head first, then exactly its segments (CONTRACT §7)."""

from __future__ import annotations

from typing import Final, NamedTuple

from ebooklet.core.head import Head
from ebooklet.core.names import alternate_key, parse_sid, segment_prefix, sid_ms
from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    RemoteIntegrityError,
)
from ebooklet.ports.lock_service import Lease
from ebooklet.services.inventory import list_segments
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S
from ebooklet.services.locking import write_lock
from ebooklet.services.metadata import take_metadata
from ebooklet.services.place import RemotePlace, place_of
from ebooklet.services.readiness import check_may_change
from ebooklet.services.retained import HistoryReader
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_ORPHAN_AGE_MS: Final = 24 * 3600 * 1000


class _Condemned(NamedTuple):
    """What is to be deleted, as it was found."""

    head: Snapshot
    segments: list[str]  # object names


def delete_database(
    place: RemotePlace,
    *,
    lease: Lease | None = None,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S,
) -> None:
    """Delete whatever database is at a place; none is no error.

    Its locks and its neighbours stay, and segments younger than a day that nothing retained by the
    head needs: they may be those of a writer who is about to create a database here, and holds no
    lock. Once the head is gone nobody can find the segments, so a deletion that ends half way has
    deleted the database. What it left is swept by fsck, once there is a database again.

    Args:
        place: where it is.
        lease: the write lock, if the caller holds it; otherwise it is taken.
        lock_timeout: seconds to wait for the lock.

    Raises:
        UnsupportedFormatError: what is there is not ours to delete; it is untouched.
        LockTimeout, LockLostError: another writer has, or took, the lock; nothing was deleted.
        EBookletError: a request failed. If some segments are left, a note on the error says so.
    """
    found = place.heads().read()
    if found is None:
        return
    proto, fence = found.head.proto, found.head.fence
    with write_lock(
        place, proto, fence=fence, timeout=lock_timeout, purpose="delete", held=lease
    ) as held:
        condemned = _condemn(place)
        if condemned is not None:
            _remove_head(place, condemned.head, held)
            _remove_segments(place, condemned)


def delete_remote(copy: WorkingCopy) -> None:
    """Delete the remote database of a working copy, and keep what is stored here.

    What is stored here, values that were only cached included, becomes pending: the content of the
    next push, which creates the database anew. Keys that were never fetched are gone.

    A crash at any point leaves one of two states: nothing happened, or the remote is gone, and the
    next open for writing does what is left to do here (`let_go`).

    Raises:
        ReadOnlyError: the handle, or the remote, can only be read.
        OfflineError: the database was opened offline.
        PushInProgressError: a push is under way on this handle.
        UUIDMismatchError: another database is there by now; it is untouched.
        EBookletError: see `delete_database`.
    """
    check_may_change(copy, "delete_remote")
    with copy.pushing("delete_remote"), copy.base_lock:
        _delete(copy, place_of(copy))


def let_go(copy: WorkingCopy, base: Snapshot) -> None:
    """Make everything stored here pending, on top of nothing: the remote is gone.

    Args:
        copy: the working copy, writable.
        base: what it was last in step with. A deletion of its own may have noted a newer head,
            which is then the one that the next goes on from.
    """
    noted = copy.journal.read_former()
    newer = noted is not None and noted.head.seq > base.head.seq
    former = noted if noted is not None and newer else base
    pending = copy.pending
    with copy.lock:
        pending.absorb()
        metadata = copy.local.get_metadata() is not None
        pending.clear()
        pending.replace, pending.metadata = False, metadata
        stored = copy.local.keys()
        for key in stored:
            pending.mark_set(key)
        copy.journal.write_former(former)
        copy.journal.outlived(pending)
        copy.follow(former)
        copy.local.sync()


def was_deleted_here(copy: WorkingCopy) -> bool:
    """Whether this copy has begun to delete the remote that it is in step with, whoever ended it."""
    noted, base = copy.journal.read_former(), copy.base
    return noted is not None and base is not None and noted.head.seq >= base.head.seq


def _delete(copy: WorkingCopy, place: RemotePlace) -> None:
    if copy.lease is not None:
        copy.lease.check()
    copy.sync()  # from here on what is stored here may be all there is
    found = copy.heads.read()
    condemned: _Condemned | None = None
    if found is not None:
        with write_lock(
            place,
            found.head.proto,
            fence=found.head.fence,
            timeout=copy.lock_timeout,
            purpose="delete",
            held=copy.lease,
        ) as held:
            condemned = _condemn(place)
            if condemned is not None:
                copy.heads.check_same(condemned.head, copy.uuid)
                if copy.base is not None and not copy.pending.metadata:
                    take_metadata(copy, copy.base.head)
                copy.journal.write_former(condemned.head)
                _remove_head(place, condemned.head, held)
                let_go(copy, condemned.head)
                _remove_segments(place, condemned)
    if condemned is None and copy.base is not None and copy.elsewhere is None:
        let_go(copy, copy.base)  # somebody else was faster


def _condemn(place: RemotePlace) -> _Condemned | None:
    """Say what goes: the head as it stands now, and segments seen before it.

    Segments that come later may be those of a database that somebody creates once the head is gone.
    So may those that came before and that this head does not need: nothing it could write tells
    their writer, whose head needs no other to be there.
    """
    prefix = segment_prefix(place.db_key)
    listed = list_segments(place)
    head = place.heads().read()
    if head is None:
        return None
    head.head.require_writable("delete_remote", place.location, place.db_key)
    now_ms = place.store.server_time_ms()
    old_ms = 0 if now_ms is None else now_ms - _ORPHAN_AGE_MS
    needed = _needed(place, head.head)
    sids = {meta.key: parse_sid(meta.key.removeprefix(prefix)) for meta in listed}
    return _Condemned(
        head, [key for key, sid in sids.items() if sid in needed or sid_ms(sid) <= old_ms]
    )


def _needed(place: RemotePlace, head: Head) -> set[bytes]:
    """Segments that only this head, or one before it, can name; as far as it can be read."""
    history = HistoryReader(place.store, place.db_key, head)
    needed = set(head.held())
    for ref, commit in history.commits():
        needed.add(ref.block.sid)
        needed.update(row.sid for row in commit.segs)
    needed.update(ref.block.sid for ref in history.unread)
    needed |= history.log_segments() | history.dropped()
    for problem in history.problems:
        if not isinstance(problem, (RemoteIntegrityError, ObjectNotFound)):
            raise problem  # a damaged database goes all the same; its youngest segments may stay
    return needed


def _remove_head(place: RemotePlace, head: Snapshot, lease: Lease | None) -> None:
    """Delete the second copy, then the head itself: in between, the database is all there."""
    for key in (alternate_key(place.db_key), place.db_key):
        if lease is not None:
            lease.verify()
        place.store.delete([key])
    left = place.heads().read()
    if left is not None and left.head.write_id == head.head.write_id:
        raise OutcomeUnknown(
            "the head was deleted and can still be read; wait, then delete again",
            op="delete_remote",
            key=place.db_key,
        )


def _remove_segments(place: RemotePlace, condemned: _Condemned) -> None:
    try:
        place.store.delete(condemned.segments)
    except EBookletError as exc:
        exc.add_note(
            f"The database at {place.location} is deleted. Some of its segments, which nobody can "
            "find any more, are left: sweep them with fsck once there is a database again, or "
            f"delete what lies under '{place.db_key}.d/' by hand."
        )
        raise
