"""Sweeping beside writers: nobody loses anything, whatever moment it falls into."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core.head import Proto
from ebooklet.core.names import mint_sid, segment_key
from ebooklet.database import EBooklet
from ebooklet.errors import EBookletError, LockTimeout, OutcomeUnknown, RemoteUnavailable
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services import draft
from ebooklet.services.fsck.examining import examine
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.fsck.sweeping import sweep
from ebooklet.services.place import RemotePlace
from ebooklet.services.request import Flag
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule

LEFT = segment_key("db", mint_sid(1_000_000, b"0123456789"))


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


def swept(store: RemoteStore) -> FsckReport:
    return sweep(place(store), min_age_ms=0, lock_timeout=0)


def writer(store: RemoteStore, flag: Flag = "c") -> EBooklet[Any]:
    serializer = "json" if flag == "c" else None
    return open_database(store, None, flag, value_serializer=serializer, lock="optimistic")


@pytest.fixture
def inner() -> MemoryRemoteStore:
    """A store with a database of one commit."""
    store = MemoryRemoteStore()
    with writer(store) as db:
        db.update({f"k{n}": "x" * 200 for n in range(50)})
        db.push()
    return store


STEPS = [("put", 0), ("put", 1), ("cas", 0)]


def pushed_around(
    inner: RemoteStore, op: str, skip: int, between: Callable[[], object]
) -> dict[str, Any]:
    """Push with something in between, and return what there is then, read cold."""
    store = FaultyRemoteStore(inner)
    with writer(store, "w") as db:
        db.update({f"new{n}": random.Random(n).randbytes(3_000).hex() for n in range(80)})
        db["k0"] = "changed"
        del db["k1"]
        db.set_metadata("m" * 70_000)
        rule = store.add(StoreRule(StoreFault.DELAY, op=op, skip=skip, amount=0, then=between))
        assert db.push()
        assert rule.struck
        expected = dict(db.items())
    with writer(inner, "r") as reader:
        assert dict(reader.items()) == expected
        assert reader.get_metadata() == "m" * 70_000
    return expected


@pytest.mark.parametrize(("op", "skip"), STEPS)
def test_a_push_in_the_middle_loses_nothing(inner: MemoryRemoteStore, op: str, skip: int) -> None:
    """Swept at any step of a push without the lock, with no grace: all of it lands, whole."""
    reports: list[FsckReport] = []
    content = pushed_around(inner, op, skip, lambda: reports.append(swept(inner)))
    assert len(content) == 129
    if op == "cas":
        assert reports[0].swept  # its own segments, uploaded and not yet committed
    report = examine(place(inner), min_age_ms=0, check_objects=True)
    assert report.ok
    assert report.n_commits == 2


def test_without_the_floor_it_would_lose(
    inner: MemoryRemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above watches something: a writer that does not look at the floor dangles."""
    monkeypatch.setattr(draft, "sid_ms", lambda _: 1 << 48)
    with pytest.raises((EBookletError, AssertionError)):
        pushed_around(inner, "cas", 0, lambda: swept(inner))
    assert examine(place(inner), min_age_ms=0).claimed_but_missing


def test_a_push_that_comes_first_keeps_its_segments(inner: MemoryRemoteStore) -> None:
    """What was an orphan when the sweep looked is none any more: the sweep looks again."""
    store = FaultyRemoteStore(inner)
    inner.put(LEFT, b"left")

    def push() -> None:
        with writer(inner, "w") as db:
            db["meanwhile"] = "y" * 5_000
            db.push()

    store.add(StoreRule(StoreFault.DELAY, op="cas", amount=0, then=push))
    report = swept(store)
    assert report.swept == (LEFT,)
    assert report.seq == 2
    with writer(inner, "r") as reader:
        assert reader["meanwhile"] == "y" * 5_000
    assert examine(place(inner), min_age_ms=0, check_objects=True).ok


def test_a_push_that_began_before_the_report(inner: MemoryRemoteStore) -> None:
    """Committed between the list and the head: neither missing nor an orphan."""
    store = FaultyRemoteStore(inner)

    def push() -> None:
        with writer(inner, "w") as db:
            db["meanwhile"] = "y" * 5_000
            db.push()

    store.add(StoreRule(StoreFault.DELAY, op="get", key="db", amount=0, then=push))
    report = examine(place(store), min_age_ms=0)
    assert report.ok
    assert report.orphans == ()
    assert report.seq == 2


def test_a_list_that_is_behind(inner: MemoryRemoteStore) -> None:
    """A segment that a stale list leaves out is asked for before it counts as missing."""
    store = FaultyRemoteStore(inner)
    with writer(store, "w") as db:
        db["new"] = "z" * 5_000
        db.push()
    store.add(StoreRule(StoreFault.STALE, op="list", amount=2))
    assert examine(place(store), min_age_ms=0).ok


@pytest.mark.parametrize("fault", [StoreFault.REFUSE, StoreFault.LOSE_ANSWER, StoreFault.DENY])
def test_a_sweep_that_fails_anywhere(inner: MemoryRemoteStore, fault: StoreFault) -> None:
    """Whichever request fails, for good, the database is whole, and the next sweep finishes."""
    with writer(inner, "r") as reader:
        expected = dict(reader.items())
    for number in range(100):
        for n in range(3):
            inner.put(segment_key("db", mint_sid(1_000_000, bytes(9) + bytes([n]))), b"left")
        store = FaultyRemoteStore(inner, sleep=lambda _: None)
        rule = store.add(StoreRule(fault, skip=number, times=100))
        failed = False
        try:
            swept(store)
        except EBookletError:
            failed = True
        report = examine(place(inner), min_age_ms=0, check_objects=True)
        assert report.ok
        with writer(inner, "r") as reader:
            assert dict(reader.items()) == expected
        if not rule.struck:
            assert not failed
            break
        if report.orphans:
            assert len(swept(inner).swept) == len(report.orphans)
    assert number > 4


def test_a_lost_answer_to_the_floor_is_settled(inner: MemoryRemoteStore) -> None:
    """Once is found out by reading, and the sweep goes on."""
    inner.put(LEFT, b"left")
    store = FaultyRemoteStore(inner)
    store.add(StoreRule(StoreFault.LOSE_ANSWER, op="cas"))
    assert swept(store).swept == (LEFT,)


def test_a_delete_whose_answer_is_lost(inner: MemoryRemoteStore) -> None:
    """It raises, and nothing needed is gone."""
    inner.put(LEFT, b"left")
    store = FaultyRemoteStore(inner)
    store.add(StoreRule(StoreFault.LOSE_ANSWER, op="delete"))
    with pytest.raises(OutcomeUnknown):
        swept(store)
    assert examine(place(inner), min_age_ms=0).ok


def test_writers_that_never_rest(inner: MemoryRemoteStore) -> None:
    """A sweep that loses every race gives up, and says so; it has deleted nothing."""
    inner.put(LEFT, b"left")
    store = FaultyRemoteStore(inner)
    with writer(inner, "w") as db:
        store.add(
            StoreRule(
                StoreFault.DELAY,
                op="cas",
                times=None,
                amount=0,
                then=lambda: db.push(force_push=True),
            )
        )
        with pytest.raises(RemoteUnavailable, match="fewer"):
            swept(store)
    assert inner.get(LEFT).body == b"left"


def test_a_store_without_a_clock(inner: MemoryRemoteStore) -> None:
    """How old a segment is cannot be told: all are young, none is deleted."""

    class Timeless(FaultyRemoteStore):
        def server_time_ms(self) -> int | None:
            return None

    inner.put(LEFT, b"left")
    report = swept(Timeless(inner))
    assert report.orphans == report.skipped_young == (LEFT,)
    assert report.swept == ()
    assert "time" in report.not_swept


def test_the_writer_in_hand_is_waited_for(inner: MemoryRemoteStore) -> None:
    """`ebooklet.fsck` of a store in hand takes the same lock as its writers do.

    It waits for it by the clock it is given, for a minute if nothing else is said.
    """
    inner.put(LEFT, b"left")
    clock = ManualClock()
    start = clock.monotonic()
    with open_database(inner, None, "w"), pytest.raises(LockTimeout):
        ebooklet.fsck(inner, delete_orphans=True, clock=clock)
    assert 60 <= clock.monotonic() - start < 70
    assert ebooklet.fsck(inner, delete_orphans=True, lock_timeout=0).swept == (LEFT,)
