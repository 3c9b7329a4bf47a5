"""The objects that a head stands in: `D`, and in mode lock the second copy `D.alt` (FORMAT §6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Final, NamedTuple

from ebooklet.core.head import MAX_HEAD_BYTES, decode_head
from ebooklet.core.names import alternate_key
from ebooklet.errors import (
    AccessDenied,
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    RemoteIntegrityError,
    RemoteUnavailable,
    UnsupportedFormatError,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease
from ebooklet.ports.remote_store import RemoteStore, StoredObject
from ebooklet.services.clashes import check_name
from ebooklet.services.snapshot import Snapshot

HEAD_CACHE_CONTROL: Final = "no-cache"
SAME_BYTES_ATTEMPTS: Final = 5


class Copies(NamedTuple):
    """What the copies of the head hold."""

    first: Snapshot | None  # the one that readers ask for first, if it is whole
    best: Snapshot | None  # the newest that is whole


class HeadCopies:
    """Reads and writes the objects of one head, whatever they say.

    Args:
        remote: where they lie.
        db_key: key of the first one.
        clock: for the waits between attempts.
    """

    def __init__(self, remote: RemoteStore, db_key: str, clock: Clock) -> None:
        self._remote = remote
        self._key = db_key
        self._clock = clock

    def read(self, *, at_once: bool = False) -> Copies:
        """What each copy holds; in mode cas there is one.

        Args:
            at_once: ask for the second copy beside the first, as where none is expected.

        Raises:
            UnsupportedFormatError: the object is not ours, or of a newer format.
            RemoteIntegrityError: it is damaged and there is no second copy.
            NameClashError: it is another database's, which the server takes for this one.
        """
        with ExitStack() as asking:
            read_second: Callable[[], Snapshot | None]
            read_second = partial(self._read_one, alternate_key(self._key))
            if at_once:
                pool = asking.enter_context(ThreadPoolExecutor(1, "ebooklet-look"))
                read_second = pool.submit(read_second).result
            return self._chosen(read_second)

    def _chosen(self, read_second: Callable[[], Snapshot | None]) -> Copies:
        damage: EBookletError | None = None
        first: Snapshot | None = None
        try:
            first = self._read_one(self._key)
        except RemoteIntegrityError as exc:
            damage = exc
        if first is not None and first.head.proto.mode == "cas":
            check_name(first.head, self._key)
            return Copies(first, first)
        try:
            second = read_second()
        except (RemoteIntegrityError, UnsupportedFormatError):
            second = None
        except AccessDenied:  # published without it; a reader can do with the first
            if first is None and self._remote.capabilities.writable:
                raise
            second = None
        candidates = [one for one in (first, second) if one is not None]
        if not candidates:
            if damage is not None:
                raise damage
            return Copies(None, None)
        best = max(candidates, key=lambda one: one.head.seq)
        check_name(best.head, self._key)
        if best is second:
            best = Snapshot(best.head, best.data, first.etag if first else "")
        return Copies(first, best)

    def mend(self, lease: Lease) -> tuple[str, ...]:
        """In mode lock, write the newer whole copy of the head over one that is not.

        A copy that is whole and older is brought up to it; one of another format, which a newer
        version may have written, is left alone.

        Returns:
            The objects that were written; none in mode cas, where there is one head.

        Raises:
            LockLostError, RemoteUnavailable, OutcomeUnknown: the newer copy still stands.
        """
        lease.verify()
        best = self.read().best
        if best is None or best.head.proto.mode != "lock":
            return ()
        keys = []
        for key in (self._key, alternate_key(self._key)):
            try:
                found = self._read_one(key)
            except RemoteIntegrityError:
                found = None
            except UnsupportedFormatError:
                continue
            if found is None or found.data != best.data:
                keys.append(key)
        self.put(keys, best.data, lease)
        return tuple(keys)

    def put(self, keys: Iterable[str], data: bytes, lease: Lease) -> Mapping[str, str]:
        """Write copies of a head in this order, the lock verified after each; their ETags."""
        etags = {}
        for key in keys:
            etags[key] = self._put_and_read_back(key, data, lease)
            lease.verify()
        return etags

    def get(self, key: str) -> StoredObject | None:
        """One of the objects as it lies, up to the size that a head may have; None: absent."""
        try:
            # One byte more than a head may have: whatever lies there, no more of it is fetched.
            return self._remote.get(key, stop=MAX_HEAD_BYTES + 1)
        except ObjectNotFound:
            return None

    def _put_and_read_back(self, key: str, data: bytes, lease: Lease) -> str:
        trouble: EBookletError | None = None
        for attempt in range(SAME_BYTES_ATTEMPTS):
            if attempt:
                self._clock.sleep(0.1 * 2**attempt)
                try:
                    lease.verify()  # what stands there by now may be the next holder's
                except (RemoteUnavailable, OutcomeUnknown) as exc:
                    trouble = trouble or exc
                    continue
            try:
                self._remote.put(key, data, cache_control=HEAD_CACHE_CONTROL)
            except (RemoteUnavailable, OutcomeUnknown) as exc:
                trouble = exc
            stored = self.get(key)
            if stored is not None and stored.body == data:
                return stored.meta.etag
        raise trouble or OutcomeUnknown(
            "the head was written but reads back differently, so that the server may be failing; "
            "changes stay pending: push again, which finds out what happened",
            op="push",
            key=key,
        )

    def _read_one(self, key: str) -> Snapshot | None:
        stored = self.get(key)
        if stored is None:
            return None
        return Snapshot(decode_head(stored.body, key=key), stored.body, stored.meta.etag)
