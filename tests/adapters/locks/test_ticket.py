"""The ticket queue step by step, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import pytest

from ebooklet.adapters.holding import HeldLease
from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming, open_service
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import LockLostError, LockTimeout, StoreError
from ebooklet.ports.remote_store import Body, Condition, ObjectMeta
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule


class CountingStore(MemoryRemoteStore):
    """Keeps a list of requests; times are whole seconds of the clock, as some servers tell."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(now_ms=lambda: clock.now_us() // 1_000_000 * 1000)
        self.requests: list[str] = []
        self.hidden = 0  # listings that come back empty

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        assert condition is None, "such a store would ignore it"
        self.requests.append("put")
        return super().put(key, body)

    def delete(self, keys: Iterable[str]) -> None:
        self.requests.append("delete")
        super().delete(keys)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        self.requests.append("list")
        if self.hidden:
            self.hidden -= 1
            return iter(())
        return super().list(prefix, after=after)


def names(store: MemoryRemoteStore) -> list[str]:
    return [meta.key for meta in MemoryRemoteStore.list(store, "")]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> CountingStore:
    return CountingStore(clock)


def service(store: MemoryRemoteStore, clock: ManualClock) -> TicketLockService:
    return TicketLockService(store, clock, TicketTiming(background=False))


def held(store: MemoryRemoteStore, clock: ManualClock, timeout: float = 0) -> HeldLease:
    lease = service(store, clock).acquire("db", timeout=timeout)
    assert isinstance(lease, HeldLease)
    return lease


def test_an_uncontended_lock_costs_a_second(store: CountingStore, clock: ManualClock) -> None:
    """Five requests and the settling second to acquire; one to verify, one to release."""
    began = clock.monotonic()
    lease = held(store, clock)
    assert store.requests == ["put", "put", "list", "list", "put"]
    assert 1.0 <= clock.monotonic() - began <= 1.1
    lease.verify()
    lease.release()
    assert store.requests[5:] == ["list", "delete"]
    assert names(store) == []


def test_two_tickets_of_one_second_make_no_two_holders(
    store: CountingStore, clock: ManualClock
) -> None:
    """One that arrives while another settles waits, whichever id is smaller."""
    results: list[str] = []

    def rival(_: float) -> None:
        clock.on_sleep = None
        try:
            service(store, clock).acquire("db", timeout=0)
        except LockTimeout:
            results.append("refused")
        else:
            results.append("entered")

    clock.on_sleep = rival
    try:
        held(store, clock)
    except LockTimeout:
        results.append("refused")
    else:
        results.append("entered")
    assert sorted(results) == ["entered", "refused"]


def test_a_dead_holder_is_followed_after_takeover_s(
    store: CountingStore, clock: ManualClock
) -> None:
    """A minute after it must have given up: for its requests under way, and within two minutes."""
    dead = held(store, clock)
    began = gave_up = clock.monotonic()

    def watch(_: float) -> None:
        nonlocal gave_up
        if not dead.lost:
            gave_up = clock.monotonic()

    clock.on_sleep = watch
    lease = held(store, clock, timeout=1000)
    entered = clock.monotonic()
    assert entered - gave_up >= 60
    assert entered - began <= service(store, clock).takeover_s <= 120
    assert dead.lost
    assert lease.token > dead.token


def test_a_waiter_that_was_suspended_takes_a_new_place(
    store: CountingStore, clock: ManualClock
) -> None:
    """Others may be about to break its old ticket: it must not enter with that one."""
    holder = held(store, clock)
    seen: list[set[str]] = []

    def others(_: float) -> None:
        seen.append({name for name in names(store) if name.endswith("-1")})
        if len(seen) == 2:
            clock.advance(50)  # more than half of the time after which others break it
        elif len(seen) == 4:
            holder.release()

    clock.on_sleep = others
    lease = held(store, clock, timeout=300)
    before, after = seen[1], {name for name in names(store) if name.endswith("-1")}
    assert len(before) == 2
    assert len(after) == 1
    assert not before & after
    lease.verify()


def test_a_beating_holder_is_never_broken(store: CountingStore, clock: ManualClock) -> None:
    """Its heartbeat changes the presence; its place in the queue stays."""
    lease = held(store, clock)
    due = clock.monotonic()

    def renew(_: float) -> None:
        nonlocal due
        if clock.monotonic() >= due:
            assert lease.renew()
            due = clock.monotonic() + 20

    clock.on_sleep = renew
    with pytest.raises(LockTimeout, match="for 60"):
        held(store, clock, timeout=600)
    lease.verify()


def test_force_waits_for_requests_under_way(store: CountingStore, clock: ManualClock) -> None:
    """Breaking takes effect at once, entering comes a minute later."""
    former = held(store, clock)
    began = clock.monotonic()
    lease = service(store, clock).acquire("db", timeout=0, force=True)
    assert clock.monotonic() - began >= 60
    with pytest.raises(LockLostError):
        former.verify()
    lease.verify()


def test_a_heartbeat_under_way_does_not_stop_force(
    store: CountingStore, clock: ManualClock
) -> None:
    """What it brings back has no place in the queue: it is not waited for."""
    held(store, clock)
    [presence] = [name for name in names(store) if name.endswith("-0")]
    body = store.get(presence).body

    def beat(_: float) -> None:
        clock.on_sleep = None
        store.put(presence, body)

    clock.on_sleep = beat
    lease = service(store, clock).acquire("db", timeout=0, force=True)
    assert presence in names(store)
    lease.verify()


def test_breaking_and_then_acquiring_waits_too(store: CountingStore, clock: ManualClock) -> None:
    """`break_lock` followed by `acquire` is no shortcut."""
    held(store, clock)
    lock = service(store, clock)
    assert [info.state for info in lock.break_lock("db")] == ["held"]
    began = clock.monotonic()
    lock.acquire("db", timeout=0)
    assert clock.monotonic() - began >= 60


def marks(store: MemoryRemoteStore) -> list[str]:
    return [name for name in names(store) if name.endswith("-2")]


def test_who_comes_after_a_breaking_waits_too(store: CountingStore, clock: ManualClock) -> None:
    """Somebody else's breaking is seen by a mark, which the next to enter takes away."""
    former = held(store, clock)
    began = clock.monotonic()
    service(store, clock).break_lock("db")
    assert len(marks(store)) == 1
    lease = held(store, clock, timeout=100)
    assert clock.monotonic() - began >= 60
    assert not marks(store)
    assert lease.token > former.token
    lease.release()
    assert names(store) == []


def test_who_was_waiting_behind_the_breaker_waits_too(
    store: CountingStore, clock: ManualClock
) -> None:
    """A breaker that gives up while it waits leaves what it owes to those behind it."""
    held(store, clock)
    began = clock.monotonic()

    def interrupt(_: float) -> None:
        clock.on_sleep = None
        clock.advance(30)
        raise KeyboardInterrupt

    clock.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        service(store, clock).acquire("db", timeout=0, force=True)
    assert names(store) == marks(store) != []
    lease = held(store, clock, timeout=100)
    assert 60 <= clock.monotonic() - began <= 100
    lease.verify()


def test_who_comes_after_a_breaking_that_failed_waits_too(clock: ManualClock) -> None:
    """A removal whose answer is lost may have broken the holder.

    Fails if only what was answered is owed.
    """
    inner = MemoryRemoteStore(now_ms=lambda: clock.now_us() // 1000)
    store = FaultyRemoteStore(inner, sleep=clock.sleep)

    def lock() -> TicketLockService:
        return TicketLockService(store, clock, TicketTiming(background=False))

    former = lock().acquire("db", timeout=0)
    store.add(StoreRule(StoreFault.LOSE_ANSWER, op="delete", key=lambda key: key.endswith("-0")))
    began = clock.monotonic()
    with pytest.raises(StoreError):
        lock().acquire("db", timeout=0, force=True)
    lock().acquire("db", timeout=300)
    with pytest.raises(LockLostError):
        former.verify()
    assert clock.monotonic() - began >= 60


def test_who_saw_the_mark_before_the_breaking_waits_too(
    store: CountingStore, clock: ManualClock
) -> None:
    """The minute begins when the ticket is gone, however long ago the mark was left.

    Fails if it is counted from when the mark was first seen.
    """
    former = held(store, clock)
    waiter, breaker = service(store, clock), service(store, clock)
    removed = store.delete
    gone_at: list[float] = []

    def slow(keys: Iterable[str]) -> None:
        store.delete = removed  # type: ignore[method-assign]
        with pytest.raises(LockTimeout):
            waiter.acquire("db", timeout=0)
        waiting_on(80)
        removed(keys)
        gone_at.append(clock.monotonic())

    def waiting_on(seconds: float) -> None:
        for _ in range(4):
            clock.advance(seconds / 4)
            assert former.renew()

    def once(_: float) -> None:
        clock.on_sleep = None
        store.delete = slow  # type: ignore[method-assign]
        breaker.break_lock("db")

    clock.on_sleep = once
    waiter.acquire("db", timeout=300).verify()
    assert clock.monotonic() - gone_at[0] >= 60


def test_a_mark_is_no_holder(store: CountingStore, clock: ManualClock) -> None:
    """It is neither shown nor broken, and waiting because of it ends as any waiting does."""
    held(store, clock)
    service(store, clock).break_lock("db")
    assert service(store, clock).inspect("db") is None
    assert service(store, clock).break_lock("db") == []
    began = clock.monotonic()
    with pytest.raises(LockTimeout, match="to break a lock"):
        held(store, clock, timeout=5)
    assert 5 <= clock.monotonic() - began <= 25
    assert len(names(store)) == 1


def test_force_goes_past_no_mark(store: CountingStore, clock: ManualClock) -> None:
    """By force one enters whatever the timeout, but not while requests may be under way."""
    held(store, clock)
    service(store, clock).break_lock("db")
    began = clock.monotonic()
    service(store, clock).acquire("db", timeout=0, force=True).verify()
    assert clock.monotonic() - began >= 60


def test_a_broken_holder_leaves_nothing_behind(store: CountingStore, clock: ManualClock) -> None:
    """Its heartbeat notices, and takes the presence away that it had just written again."""
    lease = held(store, clock)
    service(store, clock).break_lock("db")
    assert not lease.renew()
    assert lease.lost
    assert names(store) == marks(store)


def test_a_late_listing_is_waited_for(store: CountingStore, clock: ManualClock) -> None:
    """Nobody enters before a listing shows its own ticket."""
    store.hidden = 5
    lease = held(store, clock)
    assert store.requests.count("list") >= 7
    lease.verify()
    assert len(names(store)) == 2


def test_a_store_without_listings_is_refused(store: CountingStore, clock: ManualClock) -> None:
    """Where writes never show, no lock can be built, and the error says so."""
    store.hidden = 1000
    with pytest.raises(StoreError, match="does not list"):
        held(store, clock, timeout=1000)
    assert names(store) == []


def test_foreign_names_are_passed_over(store: CountingStore, clock: ManualClock) -> None:
    """Neither counted as contenders nor deleted."""
    foreign = ["db.lock", "db.lock.x", "db.lock.UPPER-0", "db2.lock.y-0", "db.lock./x-1"[:8]]
    for name in foreign:
        store.put(name, b"")
    lease = held(store, clock)
    lease.release()
    assert service(store, clock).break_lock("db") == []
    assert sorted(names(store)) == sorted(set(foreign))


def test_an_unreadable_ticket_goes_stale(store: CountingStore, clock: ManualClock) -> None:
    """Nonsense under a ticket's name blocks for one takeover at most."""
    name = "0" * 26
    store.put(f"db.lock.{name}-0", b"\xff" * 9000)
    store.put(f"db.lock.{name}-1", b"")
    with pytest.raises(LockTimeout, match="no readable name"):
        held(store, clock)
    lease = held(store, clock, timeout=1000)
    lease.verify()


def test_half_a_ticket_goes_stale(store: CountingStore, clock: ManualClock) -> None:
    """One that died between its two objects blocks for one takeover at most."""
    store.put(f"db.lock.{'0' * 26}-0", b"")
    began = clock.monotonic()
    held(store, clock, timeout=1000)
    assert clock.monotonic() - began <= service(store, clock).takeover_s


def test_a_flood_of_tickets_is_refused(store: CountingStore, clock: ManualClock) -> None:
    """A listing without end is an error, not a loop."""
    for number in range(5000):
        store.put(f"db.lock.{number}", b"")
    with pytest.raises(StoreError, match="more than 4096"):
        service(store, clock).inspect("db")


def test_the_registered_service_is_patient(store: CountingStore, clock: ManualClock) -> None:
    """The entry point's service gives the dead a minute of quiet, and the living two in all."""
    opened = open_service(store, clock)
    assert opened.kind == "ticket"
    assert opened.takeover_s == pytest.approx(111)
