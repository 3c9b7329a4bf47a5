"""A remote store in the memory of this process, shared by name: for tests, examples and scratch."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final
from weakref import WeakValueDictionary

from ebooklet.adapters.objects import (
    check_key,
    check_span,
    no_copy,
    read_body,
    read_part,
    same_etag,
)
from ebooklet.adapters.urloptions import known_options
from ebooklet.connection import RemoteAddress
from ebooklet.errors import EBookletError, ObjectNotFound, PreconditionFailed
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    IfAbsent,
    ObjectMeta,
    Origin,
    StoredObject,
)

__all__ = ["MemoryRemoteStore", "open_store"]

_DEFAULT_DB_KEY: Final = "db"
_REALM: Final = ("memory",)
_CAPABILITIES: Final = Capabilities(
    conditional_put=True,
    server_side_copy=True,
    max_copy_bytes=1 << 40,
    ranges=True,
    writable=True,
    max_put_bytes=1 << 40,
    shared=False,
)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Bucket:
    """Objects of one name: key -> body and meta, in one pair, so that readers need no lock."""

    objects: dict[str, StoredObject] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))


_named: dict[str, _Bucket] = {}
_named_lock = threading.Lock()
_unnamed = itertools.count(1)
_by_location: WeakValueDictionary[str, _Bucket] = WeakValueDictionary()


class MemoryRemoteStore:
    """Objects in a dict; conditions are atomic and every write gets a new ETag.

    Args:
        name: stores of one name share their objects for the life of the process; without a name
            the objects are this store's own.
        now_ms: the store's clock, Unix ms.

    Example:
        >>> store = MemoryRemoteStore()
        >>> _ = store.put("a/key", b"body")
        >>> store.get("a/key", start=1).body
        b'ody'
    """

    def __init__(self, name: str | None = None, *, now_ms: Callable[[], int] = _wall_ms) -> None:
        if name is None:
            self._bucket = _Bucket()
            self._location = f"memory://#{next(_unnamed)}"  # no URL can name this one
        else:
            with _named_lock:
                self._bucket = _named.setdefault(name, _Bucket())
            self._location = f"memory://{name}"
        _by_location[self._location] = self._bucket
        self._now_ms = now_ms

    def __repr__(self) -> str:
        return f"MemoryRemoteStore({self._location!r})"

    @property
    def location(self) -> str:
        """The shared name, as a URL."""
        return self._location

    @property
    def endpoint(self) -> str:
        """This process."""
        return "memory://"

    @property
    def origin(self) -> Origin | None:
        """These objects, to every store of this process."""
        return Origin(_REALM, self._location)

    @property
    def capabilities(self) -> Capabilities:
        """Everything, but for this process only."""
        return _CAPABILITIES

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        check_span(start, stop, key)
        found = self._find(key, "get")
        if start == 0 and stop is None:
            return found
        return StoredObject(found.body[start:stop], found.meta)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`."""
        return (read_part(self, part) for part in ranges)

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`."""
        return self._find(key, "head").meta

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """See `RemoteStore.put`."""
        return self._put(check_key(key, "put"), read_body(body), condition)

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`."""
        for key in keys:
            check_key(key, "delete")
            with self._bucket.lock:
                self._bucket.objects.pop(key, None)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See `RemoteStore.list`; in byte order."""
        with self._bucket.lock:
            held = list(self._bucket.objects.items())
        # UTF-8 keeps the order of code points, so strings sort as their bytes do.
        chosen = [
            (key, found.meta) for key, found in held if key.startswith(prefix) and key > after
        ]
        chosen.sort(key=lambda pair: pair[0])
        return (meta for _, meta in chosen)

    def copies_from(self, origin: Origin | None) -> bool:
        """Every store of this process."""
        return origin is not None and origin.realm == _REALM

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """See `RemoteStore.copy`."""
        check_key(target, "copy")
        bucket: _Bucket | None = self._bucket
        if origin is not None:
            bucket = _by_location.get(origin.container) if self.copies_from(origin) else None
            if bucket is None:
                raise no_copy(self._location, source)
        found = None if bucket is None else bucket.objects.get(check_key(source, "copy"))
        if found is None:
            raise ObjectNotFound("no such object to copy", op="copy", key=source)
        return self._put(target, found.body, None)

    def server_time_ms(self) -> int | None:
        """This store's clock."""
        return self._now_ms()

    def close(self) -> None:
        """Nothing to release; a name's objects stay for the life of the process."""

    def _find(self, key: str, op: str) -> StoredObject:
        found = self._bucket.objects.get(check_key(key, op))
        if found is None:
            raise ObjectNotFound(f"no such object in {self._location}", op=op, key=key)
        return found

    def _put(self, key: str, body: bytes, condition: Condition | None) -> ObjectMeta:
        bucket = self._bucket
        with bucket.lock:
            if condition is not None:
                self._check(bucket.objects.get(key), key, condition)
            meta = ObjectMeta(key, len(body), f'"{next(bucket.versions):032x}"', self._now_ms())
            bucket.objects[key] = StoredObject(body, meta)
        return meta

    def _check(self, found: StoredObject | None, key: str, condition: Condition) -> None:
        if isinstance(condition, IfAbsent):
            if found is not None:
                raise PreconditionFailed("object already exists", op="put", key=key)
        elif found is None:
            raise PreconditionFailed("object to be replaced does not exist", op="put", key=key)
        elif not same_etag(condition, found.meta.etag):
            raise PreconditionFailed("object changed since it was read", op="put", key=key)


def open_store(address: RemoteAddress) -> tuple[MemoryRemoteStore, str]:
    """Open `memory://name` or `memory://name/key`.

    Returns:
        The store of that name, and the database's key in it: the path, or "db" without one.

    Raises:
        InvalidURLError: the URL has options.
    """
    known_options(address)
    return MemoryRemoteStore(address.netloc), address.path or _DEFAULT_DB_KEY
