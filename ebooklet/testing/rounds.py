"""Round trips in a row: what latency multiplies, counted without waiting for any.

Requests that are under way at the same time cost one round trip together. Of the calls of a store
the longest chain is counted in which each began after the one before it had ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from ebooklet.adapters.place import PlacedStore
from ebooklet.connection import DEFAULT_THREADS
from ebooklet.errors import EBookletError
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    ObjectMeta,
    Origin,
    RemoteStore,
    StoredObject,
)
from ebooklet.testing.clock import ManualClock

__all__ = ["RoundCountingStore", "Trip", "in_a_row"]


@dataclass(slots=True)
class Trip:
    """One request.

    Attributes:
        op: the call: get, head, put, delete, list or copy.
        key: of the object; of a list, its prefix.
        began: its place among all beginnings and ends.
        ended: the same; None while it is under way.
        n_bytes: of the body that it brought or took.
    """

    op: str
    key: str
    began: int
    ended: int | None = None
    n_bytes: int = 0


def in_a_row(trips: Iterable[Trip]) -> int:
    """How many round trips were in a row; those still under way have held nobody up.

    Source: the greedy choice by earliest end, which finds the most intervals that are disjoint
    (Kleinberg and Tardos, Algorithm Design, §4.1), and disjoint intervals are a chain.
    """
    row, last = 0, -1
    for began, ended in sorted(
        ((trip.began, trip.ended) for trip in trips if trip.ended is not None),
        key=lambda span: span[1],
    ):
        if began > last:
            row, last = row + 1, ended
    return row


class RoundCountingStore(PlacedStore):
    """Passes every call on to `inner`, and knows which were in a row.

    It says of itself that other machines reach it, so that all is done that hides latency. Where
    calls of several threads have to overlap, let one wait for the other: a `StoreRule` whose
    `then` waits at a `threading.Barrier` makes that sure, and fails where none comes.

    Reads can take virtual time, each round trip a latency, and the bytes of all that is under way
    together what they take: what learns from it sees the endpoint that is played.

    Args:
        inner: any store.
        parallel: parts that `get_ranges` reads at once, in one round trip.
        clock: moved on by each read; None for no time at all.
        latency_s: of a round trip, in seconds.
        bytes_per_s: that the line carries.

    Attributes:
        trips: all requests so far, in the order in which they began.

    Example:
        >>> from ebooklet.adapters.remote.memory import MemoryRemoteStore
        >>> store = RoundCountingStore(MemoryRemoteStore())
        >>> _ = store.put("k", b"body")
        >>> parts = [ByteRange("k", n, n + 1) for n in range(4)]
        >>> b"".join(store.get_ranges(parts))
        b'body'
        >>> in_a_row(store.trips), len(store.trips)
        (2, 5)
    """

    def __init__(
        self,
        inner: RemoteStore,
        *,
        parallel: int = DEFAULT_THREADS,
        clock: ManualClock | None = None,
        latency_s: float = 0.02,
        bytes_per_s: float = 100e6,
    ) -> None:
        super().__init__(inner)
        self.inner = inner
        self.parallel = parallel
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self.trips: list[Trip] = []
        self._events = 0
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """The inner store's, but for who can reach it, and how."""
        return replace(self.inner.capabilities, shared=True, parallel=self.parallel)

    @property
    def in_a_row(self) -> int:
        """How many round trips were in a row; see `in_a_row`."""
        with self._lock:
            return in_a_row(self.trips)

    def forget(self) -> None:
        """Count anew from here."""
        with self._lock:
            self.trips.clear()

    # The port.

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        with self._trip("get", key) as trip:
            found = self.inner.get(key, start=start, stop=stop)
            trip.n_bytes = len(found.body)
            self._travel(trip.n_bytes)
            return found

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`."""
        at_once = self.parallel
        for at in range(0, len(ranges), at_once):
            parts = ranges[at : at + at_once]
            trips = [self._begin("get", part.key) for part in parts]
            bodies = list(self.inner.get_ranges(parts))
            for trip, body in zip(trips, bodies, strict=True):
                trip.n_bytes = 0 if isinstance(body, EBookletError) else len(body)
                self._end(trip)
            self._travel(sum(trip.n_bytes for trip in trips))
            yield from bodies

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`."""
        with self._trip("head", key):
            return self.inner.head(key)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """See `RemoteStore.put`."""
        with self._trip("put", key) as trip:
            meta = self.inner.put(key, body, condition=condition, cache_control=cache_control)
            trip.n_bytes = meta.size
            return meta

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`; one request for all."""
        keys = list(keys)
        with self._trip("delete", keys[0] if keys else ""):
            self.inner.delete(keys)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See `RemoteStore.list`; one request."""
        with self._trip("list", prefix):
            found = list(self.inner.list(prefix, after=after))
        return iter(found)

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """See `RemoteStore.copy`."""
        with self._trip("copy", target):
            return self.inner.copy(source, target, origin=origin)

    def server_time_ms(self) -> int | None:
        """The inner store's."""
        return self.inner.server_time_ms()

    def close(self) -> None:
        """Close the inner store."""
        self.inner.close()

    # Counting.

    def _travel(self, n_bytes: int) -> None:
        if self._clock is not None:
            self._clock.advance(self.latency_s + n_bytes / self.bytes_per_s)

    @contextmanager
    def _trip(self, op: str, key: str) -> Iterator[Trip]:
        trip = self._begin(op, key)
        try:
            yield trip
        finally:
            self._end(trip)

    def _begin(self, op: str, key: str) -> Trip:
        with self._lock:
            trip = Trip(op, key, self._events)
            self._events += 1
            self.trips.append(trip)
            return trip

    def _end(self, trip: Trip) -> None:
        with self._lock:
            trip.ended = self._events
            self._events += 1
