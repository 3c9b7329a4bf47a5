"""Rescuing a lost head beside others: nobody's commit is lost, and no whole head is replaced."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core.head import Gc, Proto, decode_head
from ebooklet.database import EBooklet
from ebooklet.errors import EBookletError, RemoteUnavailable
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.fsck import rescuing
from ebooklet.services.fsck.examining import examine
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.fsck.rescuing import Described, rescue
from ebooklet.services.fsck.sweeping import sweep
from ebooklet.services.place import RemotePlace
from ebooklet.services.request import Flag
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule


def place(store: RemoteStore) -> RemotePlace:
    clock = SystemClock()
    service = NullLockService(clock)
    return RemotePlace(
        store=store,
        db_key="db",
        clock=clock,
        locks=lambda _: service,
        probe=lambda: Proto("cas"),
        owned=False,
    )


def rescued(store: RemoteStore) -> FsckReport:
    return rescue(place(store), Described(value_serializer="json"), min_age_ms=0, lock_timeout=0)


def writer(store: RemoteStore, flag: Flag = "c") -> EBooklet[Any]:
    serializer = "json" if flag == "c" else None
    return open_database(store, None, flag, value_serializer=serializer, lock="optimistic")


@pytest.fixture
def inner() -> MemoryRemoteStore:
    """A store with a database of two commits."""
    store = MemoryRemoteStore()
    with writer(store) as db:
        db.update({f"k{n}": "x" * 200 for n in range(50)})
        db.push()
        db["k0"] = "second"
        db.push()
    return store


WRECKS = {"lost": None, "damaged": b"EBKHEAD1 and no more"}


def wreck(store: RemoteStore, body: bytes | None) -> None:
    if body is None:
        store.delete(["db"])
    else:
        store.put("db", body)


def pushed_around(
    inner: RemoteStore, between: Callable[[], object], op: str = "put", skip: int = 1
) -> None:
    """Push with something in between, before its second segment by default; then read all, cold."""
    store = FaultyRemoteStore(inner)
    with writer(store, "w") as db:
        db.update({f"new{n}": random.Random(n).randbytes(3_000).hex() for n in range(80)})
        del db["k1"]
        store.add(StoreRule(StoreFault.DELAY, op=op, skip=skip, amount=0, then=between))
        assert db.push()
        expected = dict(db.items())
    with writer(inner, "r") as reader:
        assert dict(reader.items()) == expected
    assert examine(place(inner), min_age_ms=0, check_objects=True).ok


@pytest.mark.parametrize("body", WRECKS.values(), ids=WRECKS)
def test_a_push_in_the_middle_loses_nothing(inner: MemoryRemoteStore, body: bytes | None) -> None:
    """While a push uploads, its first segment is swept, and then the head that says so is lost.

    Fails without: the gc floor of the new head, as the test below shows.
    """

    def between() -> None:
        assert sweep(place(inner), min_age_ms=0, lock_timeout=0).swept
        wreck(inner, body)
        assert rescued(inner).ok

    pushed_around(inner, between)


def test_a_push_that_only_lacks_its_head(inner: MemoryRemoteStore) -> None:
    """Its record is the newest that is whole: it is committed by the rescue, and not once more."""

    def between() -> None:
        wreck(inner, None)
        assert "commit 3" in rescued(inner).repaired[0]

    pushed_around(inner, between, "cas", 0)
    assert examine(place(inner), min_age_ms=0).n_commits == 4


def test_without_the_floor_it_would_lose(
    inner: MemoryRemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above watches something: under a lower floor the push names what was deleted."""
    monkeypatch.setattr(rescuing, "Gc", lambda **_: Gc())

    def between() -> None:
        sweep(place(inner), min_age_ms=0, lock_timeout=0)
        wreck(inner, None)
        rescued(inner)

    with pytest.raises((EBookletError, AssertionError)):
        pushed_around(inner, between)


@pytest.mark.parametrize("body", WRECKS.values(), ids=WRECKS)
def test_a_head_that_comes_meanwhile_stays(inner: MemoryRemoteStore, body: bytes | None) -> None:
    """A whole head that appears before the new one is written is never replaced.

    Fails without: the condition on what is written.
    """
    whole = inner.get("db").body
    wreck(inner, body)
    store = FaultyRemoteStore(inner)
    store.add(StoreRule(StoreFault.DELAY, op="cas", amount=0, then=lambda: inner.put("db", whole)))
    report = rescued(store)
    assert report.repaired == ()
    assert "meanwhile" in report.not_repaired
    assert inner.get("db").body == whole


@pytest.mark.parametrize("body", WRECKS.values(), ids=WRECKS)
@pytest.mark.parametrize("fault", [StoreFault.LOSE_ANSWER, StoreFault.REFUSE, StoreFault.REJECT])
def test_a_lost_answer(inner: MemoryRemoteStore, body: bytes | None, fault: StoreFault) -> None:
    """Whether the head landed is found out by reading it: it is made once."""
    wreck(inner, body)
    store = FaultyRemoteStore(inner)
    rule = store.add(StoreRule(fault, op="cas", key="db"))
    report = rescued(store)
    assert rule.struck
    assert report.ok
    assert report.repaired
    assert decode_head(inner.get("db").body, key="db").tip.op == "rescue"
    assert report.n_commits == 3


@pytest.mark.parametrize("body", WRECKS.values(), ids=WRECKS)
def test_a_rescue_that_ends_half_way(inner: MemoryRemoteStore, body: bytes | None) -> None:
    """Whatever request is the last one: there is no head yet, and the next rescue makes it."""
    with writer(inner, "r") as reader:
        expected = dict(reader.items())
    wreck(inner, body)
    ended = 0
    for n_puts in range(9):
        store = FaultyRemoteStore(inner)
        store.add(StoreRule(StoreFault.REFUSE, op="put", skip=n_puts, times=None))
        try:
            report = rescued(store)
        except RemoteUnavailable:
            ended += 1
            left = inner.get("db").body if body is not None else None
            assert left == body
        else:
            assert report.ok
            break
    assert ended >= 2  # the record, what is left of a damaged head, the head
    assert rescued(inner).ok
    with writer(inner, "r") as reader:
        assert dict(reader.items()) == expected
    assert examine(place(inner), min_age_ms=0, check_objects=True).ok
