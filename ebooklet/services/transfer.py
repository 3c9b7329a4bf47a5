"""Copying a whole remote database from one place to another (FORMAT §8)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, Final, cast

from ebooklet.core.head import Head, Proto, encode_head
from ebooklet.core.names import check_db_key, segment_key, segment_prefix
from ebooklet.errors import (
    AccessDenied,
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    ReadOnlyError,
    RemoteDeleted,
    RemoteIntegrityError,
    RemoteMissingError,
    SnapshotExpired,
    StoreError,
    UnsupportedFormatError,
    UnsupportedOperation,
    UUIDMismatchError,
)
from ebooklet.ports.lock_service import Lease
from ebooklet.services.clashes import check_above, clashes_named
from ebooklet.services.heads import HeadMoved
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S
from ebooklet.services.locking import write_lock
from ebooklet.services.place import RemotePlace
from ebooklet.services.ranged import RangedReader
from ebooklet.services.retained import retained_segments
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SEGMENT_CACHE_CONTROL

_AT_ONCE: Final = 8  # copies by the server, and small segments
_SMALL: Final = 1024 * 1024  # bytes
# Each thread that moves large buffers leaves the allocator some 50 MB to keep; two are enough, as
# what is larger than a segment travels in parts of which four go at once.
_LARGE_AT_ONCE: Final = 2
_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024


def copy_database(
    source: RemotePlace, target: RemotePlace, *, lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S
) -> None:
    """Copy what is committed at `source` to `target`, where no database may be.

    All retained commits come along, under the same uuid: local files that follow the source can
    follow the copy. Segments are immutable and nobody can see them before a head names them, so
    the head, created last, makes the copy exist in one step: a copy that failed or was killed
    leaves no database, and what it has left is overwritten when it is repeated.

    The source is not locked. What one head retains is not deleted before the grace of a later gc
    has passed, so the copy is of that head, whatever is pushed meanwhile. The target is locked, so
    that nobody creates another database there; how its head is moved is for its own server to say.

    Args:
        source: an existing database.
        target: a place without one.
        lock_timeout: seconds to wait for the target's lock.

    Raises:
        ValueError: there is a database at the target, or both are one place; nothing was copied.
        RemoteMissingError: there is none at the source.
        ReadOnlyError: the target can only be read.
        LockTimeout, LockLostError: another has, or took, the target's lock.
        SnapshotExpired, RemoteDeleted: the source was collected or deleted meanwhile: try again.
        EBookletError: a request failed, or something stored is damaged. There is no database at
            the target, or, when the answer to its last request was lost, the whole copy.
    """
    check_db_key(target.db_key)
    if source.location == target.location:
        raise ValueError(f"cannot copy {source.location} to itself; choose another db_key")
    if not target.store.capabilities.writable:
        raise ReadOnlyError(
            f"cannot copy to {target.location}, which can only be read: pass a connection with "
            "credentials",
            op="copy",
            key=target.db_key,
        )
    snapshot = source.heads().read()
    if snapshot is None:
        raise RemoteMissingError(
            f"there is no database at {source.location} to copy: push it first",
            op="copy",
            key=source.db_key,
        )
    _require_absent(target)
    check_above(target.store, target.db_key, target.clock)
    with clashes_named(target.store, target.db_key, target.clock):
        proto = target.probe()
        fence = snapshot.head.fence
        with write_lock(target, proto, fence=fence, timeout=lock_timeout, purpose="copy") as lease:
            _require_absent(target)
            head = _head_for(snapshot.head, target.db_key, proto, lease)
            head.require_writable("copy", source.location, source.db_key)
            with _explained(source, snapshot):
                sizes = retained_segments(source.store, source.db_key, head).sizes
                _Transfer(source, target, sizes, lease).run()
            try:
                target.heads().commit(head, encode_head(head), None, lease)
            except (HeadMoved, UUIDMismatchError) as exc:
                raise _exists(target) from exc


def _require_absent(target: RemotePlace) -> None:
    try:
        found = target.heads().read()
    except (UnsupportedFormatError, RemoteIntegrityError) as exc:
        raise _exists(target) from exc  # whatever it is, it is not ours to overwrite
    if found is not None:
        raise _exists(target)


def _exists(target: RemotePlace) -> ValueError:
    return ValueError(
        f"there is a database at {target.location} already; delete it first, or choose another key"
    )


def _head_for(head: Head, db_key: str, proto: Proto, lease: Lease | None) -> Head:
    """The same commits, as a head of the target's server.

    Segments that gc has dropped at the source and not yet deleted are not copied, so that the
    target's gc has nothing to remember of them.
    """
    return replace(
        head,
        proto=proto,
        fence=max(head.fence, lease.token if lease is not None else 0),
        gc=replace(head.gc, pending=()),
        name=db_key,
    )


@contextmanager
def _explained(source: RemotePlace, copied: Snapshot) -> Iterator[None]:
    """Tell why a segment of the source is missing."""
    try:
        yield
    except ObjectNotFound as exc:
        if exc.key is None or not exc.key.startswith(segment_prefix(source.db_key)):
            raise
        raise _why_missing(source, copied, exc.key) from exc


def _why_missing(source: RemotePlace, copied: Snapshot, key: str) -> EBookletError:
    """What became of a segment that the copied head retains."""
    current = source.heads().read()
    if current is None or current.head.uuid != copied.head.uuid:
        return RemoteDeleted(
            f"the database at {source.location} was deleted while it was copied",
            op="copy",
            key=source.db_key,
        )
    if current.head.write_id != copied.head.write_id:
        retained = retained_segments(source.store, source.db_key, current.head).sizes
        if key not in {segment_key(source.db_key, sid) for sid in retained}:
            return SnapshotExpired(
                f"{source.location} let go of old commits while they were copied: copy it again",
                op="copy",
                key=source.db_key,
            )
    return RemoteIntegrityError(
        f"a segment of {source.location} is missing although its head needs it; nothing was "
        "created. Run fsck",
        op="copy",
        key=key,
    )


class _Transfer:
    """Copies segments, several at once, and sees that each arrived whole."""

    def __init__(
        self,
        source: RemotePlace,
        target: RemotePlace,
        sizes: Mapping[bytes, int | None],
        lease: Lease | None,
    ) -> None:
        self._source = source
        self._target = target
        self._sizes = dict(sizes)
        self._lease = lease
        self._budget = _Budget(_BYTES_IN_FLIGHT)
        self._failed = threading.Event()
        self._refused = False  # the server was asked to copy, and does not

    def run(self) -> None:
        """Copy all of them.

        Raises:
            EBookletError: what failed first; the others were stopped.
        """
        sids = sorted(self._sizes)
        if self._target.store.copies_from(self._source.store.origin):
            sids = self._without(self._copied, sids, _AT_ONCE)
        small = [sid for sid in sids if (self._sizes[sid] or 0) <= _SMALL]
        self._without(self._streamed, small, _AT_ONCE)
        self._without(self._streamed, sorted(set(sids).difference(small)), _LARGE_AT_ONCE)
        self._check_arrived()

    def _without(self, move: Callable[[bytes], bool], sids: list[bytes], n: int) -> list[bytes]:
        """Move segments, `n` at once, and return those that `move` could not."""

        def attempt(sid: bytes) -> bool:
            if self._failed.is_set():
                return True
            try:
                if self._lease is not None:
                    self._lease.check()
                return move(sid)
            except BaseException:
                self._failed.set()  # for those that have not begun; the others end by themselves
                raise

        with ThreadPoolExecutor(n, thread_name_prefix="ebooklet-copy") as pool:
            moved = list(pool.map(attempt, sids))
        return [sid for sid, done in zip(sids, moved, strict=True) if not done]

    def _copied(self, sid: bytes) -> bool:
        """Have the server copy a segment, unless it refuses or the segment is too large."""
        source, target = self._source, self._target
        size = self._size(sid)
        if self._refused or size > target.store.capabilities.max_copy_bytes:
            return False
        key = segment_key(source.db_key, sid)
        try:
            copied = target.store.copy(
                key, segment_key(target.db_key, sid), origin=source.store.origin
            )
        except (AccessDenied, UnsupportedOperation):
            self._refused = True  # some policies and servers allow reading, but not copying
            return False
        except StoreError as exc:
            if type(exc) is not StoreError:
                raise
            return False  # this one does not suit the server: some have lower limits than S3
        if copied.size != size:
            raise RemoteIntegrityError(
                f"a segment of {size} bytes was copied as {copied.size} bytes; nothing was "
                "created. Run fsck on the source",
                op="copy",
                key=key,
            )
        return True

    def _streamed(self, sid: bytes) -> bool:
        """Read a segment here and write it there."""
        size = self._size(sid)
        reader = RangedReader(self._source.store, segment_key(self._source.db_key, sid), size)
        with self._budget.held(min(size, _BYTES_IN_FLIGHT)):
            self._target.store.put(
                segment_key(self._target.db_key, sid),
                cast("BinaryIO", reader),
                cache_control=SEGMENT_CACHE_CONTROL,
            )
        return True

    def _size(self, sid: bytes) -> int:
        size = self._sizes[sid]
        if size is None:
            size = self._source.store.head(segment_key(self._source.db_key, sid)).size
            self._sizes[sid] = size
        return size

    def _check_arrived(self) -> None:
        """Compare lengths: by one list, and where that differs by asking for the object."""
        store = self._target.store
        listed = {meta.key: meta.size for meta in store.list(segment_prefix(self._target.db_key))}
        for sid, size in self._sizes.items():
            key = segment_key(self._target.db_key, sid)
            if listed.get(key) == size:
                continue
            try:
                stored = store.head(key).size
            except ObjectNotFound:
                stored = -1
            if stored != size:
                raise OutcomeUnknown(
                    f"a segment of {size} bytes did not arrive whole at {self._target.location}; "
                    "nothing was created. Copy again",
                    op="copy",
                    key=key,
                )


class _Budget:
    """Lets through who needs memory as long as the sum stays below a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """Wait for `amount` bytes, at most the limit, and hold them."""
        with self._changed:
            self._changed.wait_for(lambda: self._used + amount <= self._limit)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()
