"""A remote store over single requests: the port's checks, repetitions and threads, in one place.

A client library is adapted by an object that makes its requests, each once, and names each
failure; what a store has to do around them is the same for every library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import BinaryIO, Protocol, TypeVar

from ebooklet.adapters.deleting import delete_all
from ebooklet.adapters.listing import asked_prefix, is_wanted, start_after
from ebooklet.adapters.objects import check_key, check_span, no_copy, read_part
from ebooklet.adapters.outgoing import Outgoing, check_condition, stored_whole
from ebooklet.adapters.parallel import held_at_once, ordered_map
from ebooklet.adapters.place import Place, PlacedStore
from ebooklet.adapters.pools import Pools
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3failures import RangeNotSatisfiable
from ebooklet.errors import EBookletError, RemoteUnavailable
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    ObjectMeta,
    Origin,
    StoredObject,
)

__all__ = ["RequestingStore", "Requests"]

T = TypeVar("T")


class Requests(Protocol):
    """What one client library does, on one bucket or folder.

    Keys and spans are checked, and every error is one of `ebooklet.errors`, with `op` and `key`.
    A call is one request, sent once, where it is not said to be more. Nothing is sent, and no
    client made, before the first call; clients are made anew in a forked child.
    """

    @property
    def place(self) -> Place:
        """The bucket or folder."""
        ...

    def get(self, key: str, start: int, stop: int | None) -> StoredObject:
        """Read [start, stop), where `start` < `stop`.

        Raises:
            RangeNotSatisfiable: the object ends at `start` or before.
        """
        ...

    def head(self, key: str) -> ObjectMeta:
        """Describe an object."""
        ...

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectMeta]:
        """Yield what begins with `prefix`; many requests, repeated here.

        More may come, and what is not above `after` may be left out.
        """
        ...

    def put(
        self, key: str, body: Outgoing, condition: Condition | None, cache_control: str | None
    ) -> ObjectMeta:
        """Store a body that is not large."""
        ...

    def put_in_parts(self, key: str, body: Outgoing, cache_control: str | None) -> None:
        """Store a large body, holding little of it. Many requests, repeated here."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object, or nothing."""
        ...

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove 2 to 1000 objects whose names fit into XML.

        Raises:
            UnsupportedOperation: there is no such request; nothing was removed.
        """
        ...

    def copy(self, source: str, target: str, container: str | None) -> None:
        """Copy from this container, or from another of the same realm."""
        ...

    def server_time_ms(self) -> int | None:
        """See `RemoteStore.server_time_ms`."""
        ...

    def close(self) -> None:
        """Close the connections; a later call opens them anew."""
        ...


class RequestingStore(PlacedStore):
    """A `RemoteStore` over the requests of a client library.

    Args:
        requests: the library's.
        threads: largest number of transfers at once.
        retry: how reads and unconditional writes are repeated.
    """

    def __init__(self, requests: Requests, *, threads: int, retry: Retry) -> None:
        super().__init__(requests.place)
        self._requests = requests
        self._pools = Pools(threads)
        self._retry = retry

    @property
    def capabilities(self) -> Capabilities:
        """What its place offers, by as many threads as there are."""
        return replace(super().capabilities, parallel=self._pools.threads)

    # Reading.

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        check_key(key, "get")
        check_span(start, stop, key)
        if start == stop:
            return StoredObject(b"", self.head(key))
        try:
            return self._retry.run(partial(self._requests.get, key, start, stop))
        except RangeNotSatisfiable as exc:
            meta = self.head(key)
            if start < meta.size:
                raise RemoteUnavailable(
                    "the object changed while it was read: try again", op="get", key=key
                ) from exc
            return StoredObject(b"", meta)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`."""
        read = partial(read_part, self)
        if len(ranges) < 2:
            return map(read, ranges)
        ahead = held_at_once(ranges, self._pools.threads)
        return ordered_map(self._pools["get"], read, ranges, ahead=ahead)

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`."""
        check_key(key, "head")
        return self._retry.run(partial(self._requests.head, key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See `RemoteStore.list`."""
        asked = asked_prefix(prefix)
        if asked is None:
            return
        for meta in self._requests.list(asked, start_after(prefix, after)):
            if is_wanted(meta.key, prefix, after):
                yield meta

    # Writing.

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """See `RemoteStore.put`."""
        check_key(key, "put")
        outgoing = Outgoing(body)
        check_condition(condition, outgoing, key)
        if outgoing.is_large:
            self._requests.put_in_parts(key, outgoing, cache_control)
            return stored_whole(self.head(key), outgoing)
        send = partial(self._requests.put, key, outgoing, condition, cache_control)
        return self._retry.run(send) if condition is None else self._retry.once(send)

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`."""
        delete_all(
            keys,
            one=self._repeated(self._requests.delete),
            bulk=self._repeated(self._requests.delete_many),
            pools=self._pools,
        )

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """See `RemoteStore.copy`."""
        check_key(source, "copy")
        check_key(target, "copy")
        can = self.capabilities.server_side_copy if origin is None else self.copies_from(origin)
        if not can:
            raise no_copy(self.location, source)
        container = None if origin is None else origin.container
        self._retry.run(partial(self._requests.copy, source, target, container))
        return self.head(target)  # the answer to a copy does not say how long it is

    # The store itself.

    def server_time_ms(self) -> int | None:
        """See `RemoteStore.server_time_ms`."""
        return self._requests.server_time_ms()

    def close(self) -> None:
        """End the threads and close the connections; a later call opens them anew."""
        self._pools.close()
        self._requests.close()

    def _repeated(self, request: Callable[[T], None]) -> Callable[[T], None]:
        return lambda argument: self._retry.run(partial(request, argument))
