"""Round trips in a row, which are what latency multiplies: counted, in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.plugins.registry import Registry, RemoteOpener
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.departing import await_departures
from ebooklet.services.request import Flag
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from ebooklet.testing.rounds import RoundCountingStore

N = 10_000  # keys
VALUE = b"v" * 1000


def key(number: int) -> str:
    return f"key{number:08}"


def is_segment(name: str) -> bool:
    return name.startswith("db.d/")


class _OneRemote(Registry):
    """Every URL leads to one store, which is the opened database's own."""

    def __init__(self, store: RemoteStore) -> None:
        super().__init__()
        self._store = store

    def remote_store(self, scheme: str) -> RemoteOpener:
        return lambda address: (self._store, "db")


class Travelled:
    """A database of `N` keys in memory, 20 ms and a line of 100 MB/s away in virtual time."""

    def __init__(self, bucket: MemoryRemoteStore) -> None:
        self.clock = ManualClock()
        self.faults = FaultyRemoteStore(bucket, sleep=lambda _: None)
        self.store = RoundCountingStore(self.faults, clock=self.clock)
        self._registry = _OneRemote(self.store)

    def open(self, flag: Flag = "r", file: Path | None = None, **options: Any) -> EBooklet[Any]:
        return ebooklet.open(
            "rounds://there/db", file, flag, registry=self._registry, clock=self.clock, **options
        )

    @contextmanager
    def trips(self, *, in_a_row: int, requests: int = 1_000) -> Iterator[None]:
        """What is done within takes so many round trips in a row, and requests, or fewer."""
        self.store.forget()
        yield
        assert self.store.in_a_row <= in_a_row, self.store.trips
        assert len(self.store.trips) <= requests, self.store.trips

    def meet(self, *calls: tuple[str, str | Callable[[str], bool]]) -> None:
        """The next calls of these kinds overlap, or none of them returns."""
        wait = partial(threading.Barrier(len(calls)).wait, 10)
        for op, name in calls:
            self.faults.add(StoreRule(StoreFault.DELAY, op=op, key=name, then=wait))

    @property
    def bytes_up(self) -> int:
        return sum(trip.n_bytes for trip in self.store.trips if trip.op == "put")


@pytest.fixture(scope="module")
def bucket() -> MemoryRemoteStore:
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "bytes", lock="optimistic") as db:
        db.update({key(n): VALUE for n in range(N)})
        assert db.push()
    return store


@pytest.fixture
def there(bucket: MemoryRemoteStore) -> Travelled:
    """A copy, which the test may change."""
    own = MemoryRemoteStore()
    for found in bucket.list(""):
        own.put(found.key, bucket.get(found.key).body)
    return Travelled(own)


def test_a_session_that_pushes(there: Travelled, tmp_path: Path) -> None:
    """To open, set ten keys, push and close takes four round trips in a row of who does it."""
    file = tmp_path / "mine.blt"
    some = range(0, N, N // 10)
    with there.open("w", file) as db:
        db.update({key(n): b"first" * 200 for n in some})
        assert db.push()
    await_departures()
    closed = threading.Event()
    wait = partial(closed.wait, 10)
    there.faults.add(StoreRule(StoreFault.DELAY, op="cas", key="db.lock", skip=1, then=wait))
    there.meet(("get", "db"), ("get", "db.lock"))
    with there.trips(in_a_row=4), there.open("w", file) as db:
        db.update({key(n): b"second" * 200 for n in some})
        assert db.push()
    closed.set()
    with there.open("w", file, lock_timeout=0) as db:  # no sooner than the lock is given back
        assert db[key(0)] == b"second" * 200


@pytest.mark.parametrize(
    ("n_changes", "index_bytes", "segments"), [(1, 16_500, 1), (10, 145_000, 1), (1_000, 4e6, 2)]
)
def test_pushes(there: Travelled, n_changes: int, index_bytes: int, segments: int) -> None:
    """One, ten, and a thousand changes: segments side by side, then the head; few index bytes."""
    chance = Random(1)
    with there.open("w") as db:
        assert len(list(db)) == N  # the index is here
        db.update({key(n): chance.randbytes(1000) for n in chance.sample(range(N), n_changes)})
        there.meet(*[("put", is_segment)] * segments)
        with there.trips(in_a_row=2, requests=segments + 1):
            assert db.push()
    assert there.bytes_up <= 1000 * n_changes + index_bytes


def test_founding() -> None:
    """The lock, both copies of the head and the segments are looked at side by side."""
    there = Travelled(MemoryRemoteStore())
    with there.open("c", value_serializer="bytes") as db:
        db.update({key(n): VALUE for n in range(10)})
        there.meet(("get", "db"), ("get", "db.alt"), ("get", "db.lock"), ("list", "db.d/"))
        with there.trips(in_a_row=3, requests=6):
            assert db.push()


def test_one_key(there: Travelled) -> None:
    """A cold open and one key: three, and few bytes."""
    with there.trips(in_a_row=3, requests=3), there.open() as db:
        assert db[key(N // 3)] == VALUE
    assert sum(trip.n_bytes for trip in there.store.trips) <= 40_000


@pytest.mark.parametrize(
    ("keys", "requests"),
    [
        (Random(2).sample(range(N), 100), 18),
        (Random(3).sample(range(N), 1_000), 10),
        (range(N // 2, N // 2 + 1_000), 6),
    ],
    ids=["100 scattered", "1,000 scattered", "1,000 neighbours"],
)
def test_many_keys(there: Travelled, keys: Sequence[int], requests: int) -> None:
    """Cold, the open included: one round trip for the head, one for the index, one for values."""
    began = there.clock.monotonic()
    with there.trips(in_a_row=3, requests=requests), there.open() as db:
        found = dict(db.get_items([key(n) for n in keys]))
    assert len(found) == len(keys)
    assert set(found.values()) == {VALUE}
    assert there.clock.monotonic() - began <= 0.25


def test_near_by(there: Travelled) -> None:
    """Where answers come at once, requests cost both ends more than the bytes between them."""
    there.store.latency_s, there.store.bytes_per_s = 0.001, 500e6
    with there.trips(in_a_row=3, requests=12), there.open() as db:
        assert len(dict(db.get_items([key(n) for n in range(0, N, 100)]))) == 100


def test_a_prefix(there: Travelled) -> None:
    """A thousand keys of one prefix: what they share out of the index, in one round trip."""
    with there.trips(in_a_row=2, requests=2), there.open() as db:
        assert len(list(db.keys(key(5_000)[:-3]))) == 1_000


def test_everything_into_the_local_file(there: Travelled, tmp_path: Path) -> None:
    """The head, the index, and the values in large parts side by side."""
    with there.trips(in_a_row=3, requests=6), there.open("r", tmp_path / "all.blt") as db:
        assert not db.load_items()
    with there.trips(in_a_row=1, requests=1), there.open("r", tmp_path / "all.blt") as db:
        assert set(db.values()) == {VALUE}


def test_every_item(there: Travelled) -> None:
    """Sixteen items come first, then a thousand, then all that is left in large parts."""
    with there.trips(in_a_row=5, requests=7), there.open() as db:
        assert dict(db.items()) == {key(n): VALUE for n in range(N)}
    with there.trips(in_a_row=3, requests=3), there.open() as db:
        assert next(iter(db.values())) == VALUE
    assert sum(trip.n_bytes for trip in there.store.trips) <= 200_000


def test_all_keys(there: Travelled) -> None:
    """The head and the index, which is so small that it comes at once."""
    with there.trips(in_a_row=2, requests=2), there.open() as db:
        assert len(list(db)) == N


def test_a_slow_line_is_learned(there: Travelled) -> None:
    """Where bytes take long, those between keys are left out; where answers do, they are read."""
    wanted = [[key(n) for n in range(first, N, 100)] for first in range(3)]
    many, few = 50, 20
    there.store.bytes_per_s, there.store.latency_s = 1e6, 0.002
    with there.open() as db:
        list(db.get_items(wanted[0]))
        with there.trips(in_a_row=10):
            list(db.get_items(wanted[1]))
        assert len(there.store.trips) >= many
    there.store.bytes_per_s, there.store.latency_s = 1e9, 0.2
    with there.open() as db:
        list(db.get_items(wanted[0]))
        with there.trips(in_a_row=1, requests=few):
            list(db.get_items(wanted[2]))
