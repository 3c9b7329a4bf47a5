"""Round trips in a row, which are what latency multiplies: counted, in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from ebooklet.testing.rounds import RoundCountingStore

N = 10_000  # keys
VALUE_BYTES = 64 + 1  # the fewest that are not kept in the index


def key(number: int) -> str:
    return f"key{number:08}"


class _OneRemote(Registry):
    """Every URL leads to one store, which is the opened database's own."""

    def __init__(self, store: RemoteStore) -> None:
        super().__init__()
        self._store = store

    def remote_store(self, scheme: str) -> RemoteOpener:
        return lambda address: (self._store, "db")


class Travelled:
    """A database of `N` keys in memory, and how many round trips lead to it and back."""

    def __init__(self, bucket: MemoryRemoteStore) -> None:
        self.faults = FaultyRemoteStore(bucket, sleep=lambda _: None)
        self.store = RoundCountingStore(self.faults)
        self._registry = _OneRemote(self.store)

    def open(self, flag: Flag = "r", file: Path | None = None, **options: Any) -> EBooklet[Any]:
        return ebooklet.open("rounds://there/db", file, flag, registry=self._registry, **options)

    @contextmanager
    def rows(self, at_most: int) -> Iterator[None]:
        """What is done within takes so many round trips in a row, or fewer."""
        self.store.forget()
        yield
        assert self.store.in_a_row <= at_most, self.store.trips

    def meet(self, *calls: tuple[str, str]) -> None:
        """The next calls of these kinds overlap, or none of them returns."""
        wait = partial(threading.Barrier(len(calls)).wait, 10)
        for op, name in calls:
            self.faults.add(StoreRule(StoreFault.DELAY, op=op, key=name, then=wait))


@pytest.fixture(scope="module")
def bucket() -> MemoryRemoteStore:
    store = MemoryRemoteStore()
    values = Random(0)
    with ebooklet.open(store, None, "c", "bytes", lock="optimistic") as db:
        db.update({key(n): values.randbytes(VALUE_BYTES) for n in range(N)})
        assert db.push()
    return store


@pytest.fixture
def there(bucket: MemoryRemoteStore) -> Travelled:
    return Travelled(bucket)


def test_a_session_that_pushes(there: Travelled, tmp_path: Path) -> None:
    """To open, set ten keys, push and close takes four round trips in a row of who does it."""
    file = tmp_path / "mine.blt"
    with there.open("w", file) as db:
        db.update({key(n): b"first" * 20 for n in range(0, N, N // 10)})
        assert db.push()
    await_departures()
    closed = threading.Event()
    wait = partial(closed.wait, 10)
    there.faults.add(StoreRule(StoreFault.DELAY, op="cas", key="db.lock", skip=1, then=wait))
    there.meet(("get", "db"), ("get", "db.lock"))
    with there.rows(4), there.open("w", file) as db:
        db.update({key(n): b"second" * 20 for n in range(0, N, N // 10)})
        assert db.push()
    closed.set()
    with there.open("w", file, lock_timeout=0) as db:  # no sooner than the lock is given back
        assert db[key(0)] == b"second" * 20
