"""A remote store whose immutable objects can be read elsewhere too, for less: at a public URL."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Final
from zlib import crc32

from ebooklet.adapters.objects import read_part
from ebooklet.adapters.place import PlacedStore
from ebooklet.core.callers import stacklevel
from ebooklet.errors import EBookletError, ObjectNotFound, RemoteUnavailable
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Condition,
    ObjectMeta,
    Origin,
    RemoteStore,
    StoredObject,
)

__all__ = ["MirroredRemoteStore"]

_TOLERATED: Final = 3  # refusals in a row: a mirror may lag, and lack the newest objects
_REST_S: Final = 300.0
_REMEMBERED: Final = 1024  # parts of which it is known what the mirror gave


class MirroredRemoteStore(PlacedStore):
    """`primary`, but that parts of its immutable objects come from `mirror` while it serves them.

    Only `get_ranges` asks the mirror; its readers check what they get. All else is the primary's:
    the head, the locks, every write, and `get`, by which readers ask again for what was wrong.

    | the mirror | the part comes from | and then the mirror |
    |---|---|---|
    | has not got the object, refuses, answers amiss | the primary | rests after 3 in a row |
    | does not answer, or is overloaded | the primary | rests |
    | gave other bytes than the primary has | the primary, by `get` | is not asked again |

    A mirror that rests is not asked for five minutes. The first of these is said by a warning, the
    others are not: what a mirror fails to give costs money, never a value.

    Args:
        primary: where the objects are written.
        mirror: a store that has the same objects, read only.
        prefix: what the names of immutable objects begin with.
        mirror_prefix: what stands in its place in the mirror.
        monotonic: a clock that never steps back, in seconds.

    Example:
        >>> from ebooklet.adapters.remote.memory import MemoryRemoteStore
        >>> primary, mirror = MemoryRemoteStore(), MemoryRemoteStore()
        >>> _ = mirror.put("public.d/1", b"a body"), primary.put("db", b"the head")
        >>> store = MirroredRemoteStore(primary, mirror, prefix="db.d/", mirror_prefix="public.d/")
        >>> list(store.get_ranges([ByteRange("db.d/1", 2, 6)])), store.get("db").body
        ([b'body'], b'the head')
    """

    def __init__(
        self,
        primary: RemoteStore,
        mirror: RemoteStore,
        *,
        prefix: str,
        mirror_prefix: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(primary)
        self._primary = primary
        self._mirror = mirror
        self._prefix = prefix
        self._mirror_prefix = mirror_prefix
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rests_until = 0.0
        self._refusals = 0  # in a row
        self._warned = False
        self._given: OrderedDict[ByteRange, int] = OrderedDict()  # checksums of the mirror's parts

    def __repr__(self) -> str:
        return f"MirroredRemoteStore({self._primary!r}, {self._mirror!r})"

    # Through the mirror.

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`; from the mirror, if all of it is immutable."""
        if not all(part.key.startswith(self._prefix) for part in ranges):
            return self._primary.get_ranges(ranges)
        return self._through_mirror(ranges)

    def look(self, mirror_key: str, *, stop: int) -> bytes | None:
        """The first `stop` bytes of one of the mirror's objects, by its name there.

        Returns:
            None if the mirror has no such object, or does not give it.
        """
        if not self._serves():
            return None
        try:
            return self._mirror.get(mirror_key, stop=stop).body
        except ObjectNotFound:
            return None
        except EBookletError as exc:
            self._failed(exc)
            return None

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`; from the primary."""
        found = self._primary.get(key, start=start, stop=stop)
        if stop is not None:
            self._compare(ByteRange(key, start, stop), found.body)
        return found

    def _through_mirror(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        done = 0
        if self._serves():
            there = [
                ByteRange(self._mirror_prefix + p.key.removeprefix(self._prefix), p.start, p.stop)
                for p in ranges
            ]
            for part, given in zip(ranges, self._mirror.get_ranges(there), strict=True):
                body = given
                if isinstance(given, EBookletError):
                    self._failed(given)
                    body = read_part(self._primary, part)
                else:
                    self._gave(part, given)
                yield body
                done += 1
                if not self._serves():
                    break  # ends the mirror's iterator, and with it what it had begun
        if done < len(ranges):
            yield from self._primary.get_ranges(ranges[done:])

    # What is thought of the mirror.

    def _serves(self) -> bool:
        return self._monotonic() >= self._rests_until

    def _gave(self, part: ByteRange, body: bytes) -> None:
        checksum = crc32(body)
        with self._lock:
            self._refusals = 0
            self._given[part] = checksum
            self._given.move_to_end(part)
            if len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)

    def _failed(self, error: EBookletError) -> None:
        """Note that the mirror did not give what it was asked for."""
        with self._lock:
            self._refusals += 1
            if isinstance(error, RemoteUnavailable) or self._refusals >= _TOLERATED:
                self._refusals = 0
                self._rests_until = max(self._rests_until, self._monotonic() + _REST_S)
        self._warn(f"does not give what it is asked for ({error}); such parts are")

    def _compare(self, part: ByteRange, body: bytes) -> None:
        """Whoever asks again for what the mirror gave had reason to doubt it."""
        with self._lock:
            given = self._given.pop(part, None)
            if given is None or given == crc32(body):
                return
            self._rests_until = math.inf
        self._warn(
            f"gave other bytes of {part.key!r} than were written; from here on all of them are"
        )

    def _warn(self, what: str) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            warnings.warn(
                f"the mirror {self._mirror.location} {what} read from {self.location} instead. "
                "Correct db_url or what is published there, or leave db_url out",
                UserWarning,
                stacklevel=stacklevel(),
            )

    # The primary's own.

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`."""
        return self._primary.head(key)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """See `RemoteStore.put`."""
        return self._primary.put(key, body, condition=condition, cache_control=cache_control)

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`."""
        self._primary.delete(keys)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See `RemoteStore.list`."""
        return self._primary.list(prefix, after=after)

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """See `RemoteStore.copy`."""
        return self._primary.copy(source, target, origin=origin)

    def server_time_ms(self) -> int | None:
        """See `RemoteStore.server_time_ms`."""
        return self._primary.server_time_ms()

    def close(self) -> None:
        """Close both."""
        try:
            self._mirror.close()
        finally:
            self._primary.close()
