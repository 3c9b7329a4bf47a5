"""The lease's protocol step by step, in virtual time and with answers that get lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import BinaryIO

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.holding import (
    HEARTBEAT_THREAD,
    HeldLease,
    HolderRecord,
    decode_record,
    encode_record,
)
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming, open_service
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.names import lock_key
from ebooklet.errors import (
    EBookletError,
    LockLostError,
    LockTimeout,
    OutcomeUnknown,
    RemoteIntegrityError,
    RemoteUnavailable,
    StoreError,
)
from ebooklet.ports.remote_store import Body, Condition, ObjectMeta, StoredObject
from ebooklet.testing.clock import ManualClock

TTL_S = 60.0


class LossyStore(MemoryRemoteStore):
    """Counts requests; the next puts end as `plan` says: "lost", "late", "unsent" or "busy"."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.plan: list[str] = []
        self.late: list[Callable[[], object]] = []

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        self.requests.append("get")
        return super().get(key, start=start, stop=stop)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        self.requests.append("put")
        put = super().put
        fate = self.plan.pop(0) if self.plan else ""
        if fate == "busy":
            raise RemoteUnavailable("slow down", op="put", key=key)
        if fate == "late":
            self.late.append(lambda: put(key, body, condition=condition))
        elif fate != "unsent":
            meta = put(key, body, condition=condition)
            if not fate:
                return meta
        raise OutcomeUnknown("no answer", op="put", key=key)


@pytest.fixture
def store() -> LossyStore:
    return LossyStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def service(store: MemoryRemoteStore, clock: ManualClock) -> LeaseLockService:
    return LeaseLockService(store, clock, LeaseTiming(ttl_s=TTL_S, background=False))


def held(store: MemoryRemoteStore, clock: ManualClock, **options: float) -> HeldLease:
    lease = service(store, clock).acquire("db", timeout=options.get("timeout", 0))
    assert isinstance(lease, HeldLease)
    return lease


def test_an_uncontended_lock_costs_two_requests(store: LossyStore, clock: ManualClock) -> None:
    """Two to acquire, one to verify, one to renew, one to release; no waiting."""
    began = clock.monotonic()
    lease = held(store, clock)
    assert store.requests == ["get", "put"]
    assert not lease.waited
    lease.verify()
    lease.renew()
    lease.release()
    assert store.requests[2:] == ["get", "put", "put"]
    assert clock.monotonic() == began


def test_a_lease_that_was_waited_for_says_so(store: LossyStore, clock: ManualClock) -> None:
    """Released while another waited, or raced for: what was read before is to be read again."""
    first = held(store, clock)
    clock.on_sleep = lambda _: first.release()
    second = held(store, clock, timeout=10)
    assert second.waited
    second.release()
    store.plan = ["unsent"]
    assert held(store, clock, timeout=10).waited


def test_a_look_ahead_spares_the_first_read(store: LossyStore, clock: ManualClock) -> None:
    """Where the lock was free or absent a moment ago, taking it is one request; and only then."""
    one = service(store, clock)
    one.look_ahead("db")
    lease = one.acquire("db", timeout=0)
    assert (store.requests, lease.waited) == (["get", "put"], False)
    one.look_ahead("db")  # of a lock that is held, nothing is kept
    lease.release()
    one.acquire("db", timeout=0).release()
    one.look_ahead("db")
    clock.advance(60)
    store.requests.clear()
    one.acquire("db", timeout=0).release()
    assert store.requests == ["get", "put", "put"]


@pytest.mark.parametrize("trouble", [RemoteUnavailable, RemoteIntegrityError])
def test_a_look_ahead_that_fails_is_none(
    store: LossyStore,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    trouble: type[EBookletError],
) -> None:
    """The lock is then taken as if nobody had looked."""

    def fail(*_: object, **__: object) -> StoredObject:
        raise trouble("no answer", op="get")

    one = service(store, clock)
    with monkeypatch.context() as patch:
        patch.setattr(store, "get", fail)
        one.look_ahead("db")
    one.acquire("db", timeout=0)
    assert store.requests == ["get", "put"]


def test_a_look_ahead_that_is_old_lets_nobody_in(store: LossyStore, clock: ManualClock) -> None:
    """Who held the lock since is noticed: still there, or gone and to be read after."""
    one, other = service(store, clock), service(store, clock)
    one.look_ahead("db")
    held_since = other.acquire("db", timeout=0)
    with pytest.raises(LockTimeout):
        one.acquire("db", timeout=0)
    held_since.release()
    one.look_ahead("db")
    other.acquire("db", timeout=0).release()
    lease = one.acquire("db", timeout=0)
    assert lease.waited
    assert lease.token == held_since.token + 2


def test_the_object_outlives_every_release(store: LossyStore, clock: ManualClock) -> None:
    """A deleted lease would restart its tokens."""
    for token in (1, 2, 3):
        lease = held(store, clock)
        assert lease.token == token
        lease.release()
    record = decode_record(store.get(lock_key("db")).body)
    assert record is not None
    assert (record.token, record.state) == (3, "free")


def test_a_dead_holder_is_followed_after_takeover_s(store: LossyStore, clock: ManualClock) -> None:
    """Not before 1.25 ttl of an unchanged ETag, and not later than promised."""
    dead = held(store, clock)
    clock.advance(3.0)
    began = clock.monotonic()
    lease = held(store, clock, timeout=1000)
    waited = clock.monotonic() - began
    assert 1.25 * TTL_S <= waited <= service(store, clock).takeover_s
    assert lease.token == dead.token + 1
    assert dead.lost


def test_a_renewed_holder_is_never_taken_over(store: LossyStore, clock: ManualClock) -> None:
    """Ten ttl long the contender sees the ETag change, and gives up."""
    lease = held(store, clock)
    due = clock.monotonic()

    def renew(_: float) -> None:
        nonlocal due
        if clock.monotonic() >= due:
            assert lease.renew()
            due = clock.monotonic() + TTL_S / 4

    clock.on_sleep = renew
    with pytest.raises(LockTimeout, match=r"for [56]"):
        held(store, clock, timeout=10 * TTL_S)
    lease.verify()
    assert not lease.lost


def test_the_holder_gives_up_first(store: LossyStore, clock: ManualClock) -> None:
    """Half a ttl after its last renewal, long before a contender may enter; for good."""
    lease = held(store, clock)
    clock.advance(TTL_S / 2)
    before = lease.lost
    clock.advance(0.01)
    assert (before, lease.lost) == (False, True)
    assert not lease.renew()
    with pytest.raises(LockLostError, match="renewed in time"):
        lease.check()


def test_suspension_counts_from_the_sending(store: LossyStore, clock: ManualClock) -> None:
    """A renewal acknowledged after a long silence counts from when it was sent."""
    lease = held(store, clock)
    put = store.put

    def slow_put(*args: object, **kwargs: object) -> ObjectMeta:
        meta = put(*args, **kwargs)  # type: ignore[arg-type] # passed through
        clock.advance(0.6 * TTL_S)
        return meta

    store.put = slow_put  # type: ignore[method-assign]  # the store misbehaves from here on
    lease.renew()
    assert lease.lost


@pytest.mark.parametrize(
    ("plan", "requests"),
    [
        (["lost"], ["get", "put", "get"]),
        (["unsent"], ["get", "put", "get", "put"]),
        (["busy"], ["get", "put", "get", "put"]),
        (["unsent", "lost"], ["get", "put", "get", "put", "get"]),
    ],
)
def test_an_acquire_without_answer_is_settled_by_reading(
    store: LossyStore, clock: ManualClock, plan: list[str], requests: list[str]
) -> None:
    """Whether or not the write landed, the lock is held once, under the first token."""
    store.plan = plan
    lease = held(store, clock, timeout=10)
    assert store.requests == requests
    assert lease.token == 1
    lease.verify()


def test_an_acquire_that_lands_late_is_recognised(store: LossyStore, clock: ManualClock) -> None:
    """The second write is refused by our own first one, which is adopted."""
    store.plan = ["late"]
    get = store.get

    def get_then_land(key: str, **span: int) -> StoredObject:
        try:
            return get(key, **span)
        finally:
            while store.late:
                store.late.pop()()

    store.get = get_then_land  # type: ignore[method-assign, assignment]  # the store misbehaves from here on
    lease = held(store, clock, timeout=10)
    assert lease.token == 1
    lease.verify()
    assert lease.renew()


@pytest.mark.parametrize("fate", ["lost", "unsent", "busy", "late"])
def test_a_renewal_without_answer_is_settled(
    store: LossyStore, clock: ManualClock, fate: str
) -> None:
    """Whatever became of it, the next renewals succeed and nobody is told of a loss."""
    lease = held(store, clock)
    store.plan = [fate]
    lease.renew()
    for land in store.late:
        land()
    clock.advance(TTL_S / 4)
    assert lease.renew()
    lease.verify()
    clock.advance(0.4 * TTL_S)
    assert not lease.lost


def test_renewals_that_never_land_lose_the_lock(store: LossyStore, clock: ManualClock) -> None:
    """Reading our own old record again and again proves no renewal."""
    lease = held(store, clock)
    store.plan = ["unsent", "busy"] * 20
    for _ in range(6):
        clock.advance(TTL_S / 10)
        assert not lease.renew()
    assert lease.lost


@pytest.mark.parametrize("fate", ["lost", "unsent", "busy"])
def test_a_release_without_answer_frees(store: LossyStore, clock: ManualClock, fate: str) -> None:
    """The next enters at once."""
    lease = held(store, clock)
    store.plan = [fate]
    lease.release()
    began = clock.monotonic()
    assert held(store, clock).token == 2
    assert clock.monotonic() == began


def test_a_release_into_an_outage_does_not_raise(
    store: LossyStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing a database must not fail for it; the lock expires, and a log line says so."""
    lease = held(store, clock)
    store.plan = ["busy"] * 20
    lease.release()
    assert "will expire" in caplog.text
    store.plan = []
    assert held(store, clock, timeout=100).token == 2


def test_an_outage_while_acquiring_is_reported(store: LossyStore, clock: ManualClock) -> None:
    """A store that refuses every write is not waited for until the timeout."""
    store.plan = ["busy"] * 20
    with pytest.raises(RemoteUnavailable):
        held(store, clock, timeout=1000)
    assert store.requests.count("put") == 5


def test_a_takeover_is_told_by_name(store: LossyStore, clock: ManualClock) -> None:
    """The former holder learns who took it, and its release leaves the new one alone."""
    former = held(store, clock)
    lease = service(store, clock).acquire("db", timeout=0, purpose="a rescue", force=True)
    assert not former.renew()
    with pytest.raises(LockLostError, match="'a rescue'"):
        former.check()
    former.release()
    lease.verify()


def test_a_deleted_object_loses_the_lock(store: LossyStore, clock: ManualClock) -> None:
    """Somebody deleted everything: that is no proof of holding."""
    lease = held(store, clock)
    store.delete([lock_key("db")])
    with pytest.raises(LockLostError, match="deleted"):
        lease.verify()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a lease",
        b"\xff" * 5000,
        b"\xa1\x00" * 3,
        encode_record(HolderRecord(1, "o", "h" * 300, 1, "p", "held", 1000, 0, bytes(16))),
        encode_record(HolderRecord(1 << 63, "o", "h", 1, "p", "held", 1000, 0, bytes(16))),
        encode_record(HolderRecord(1, "o", "h", 1, "p", "held", 1000, 0, bytes(15))),
    ],
    ids=["empty", "text", "long", "truncated", "host", "token", "nonce"],
)
def test_nonsense_in_the_object_blocks_for_one_takeover(
    store: LossyStore, clock: ManualClock, body: bytes
) -> None:
    """What cannot be read is taken for a dead holder; force need not wait for that."""
    store.put(lock_key("db"), body)
    lock = service(store, clock)
    assert lock.inspect("db") is None
    with pytest.raises(LockTimeout, match="no readable name"):
        lock.acquire("db", timeout=1)
    began = clock.monotonic()
    lease = lock.acquire("db", timeout=1000, fence=41)
    assert clock.monotonic() - began <= lock.takeover_s
    assert lease.token == 42
    store.put(lock_key("db"), body)
    assert lock.acquire("db", timeout=0, force=True).token == 1


def test_a_boundless_ttl_is_cut(store: LossyStore, clock: ManualClock) -> None:
    """A record cannot block others for more than ten minutes of ttl."""
    record = HolderRecord(7, "o", "h", 1, "p", "held", 1 << 62, 0, bytes(16))
    store.put(lock_key("db"), encode_record(record))
    began = clock.monotonic()
    assert held(store, clock, timeout=10_000).token == 8
    assert clock.monotonic() - began <= 1.25 * 600 + 20


def test_a_record_survives_its_encoding() -> None:
    """Every field comes back."""
    record = HolderRecord(9, "owner", "hôst", 123, "gc", "waiting", 60_000, 4, bytes(range(16)))
    assert decode_record(encode_record(record)) == record


def test_age_follows_the_renewals(store: LossyStore, clock: ManualClock) -> None:
    """Told by the holder's beats, not by anybody's clock."""
    lease = held(store, clock)
    for _ in range(8):
        clock.advance(TTL_S / 4)
        assert lease.renew()
    info = service(store, clock).inspect("db")
    assert info is not None
    assert info.age_s == pytest.approx(120, abs=5)


def test_the_registered_service_is_patient(store: LossyStore, clock: ManualClock) -> None:
    """The entry point's service has the format's ttl of a minute."""
    opened = open_service(store, clock)
    assert opened.kind == "lease"
    assert opened.takeover_s == pytest.approx(80)


def test_the_background_renews(store: LossyStore) -> None:
    """With real time running, the record's beat grows without anybody's call."""
    clock = SystemClock()
    lock = LeaseLockService(store, clock, LeaseTiming(ttl_s=0.4))
    lease = lock.acquire("db", timeout=0)
    end = clock.monotonic() + 20
    beat = 0
    while beat < 2 and clock.monotonic() < end:
        record = decode_record(store.get(lock_key("db")).body)
        beat = 0 if record is None else record.beat
        clock.sleep(0.02)
    assert beat >= 2
    lease.release()


def test_store_errors_of_verify_come_out(store: LossyStore, clock: ManualClock) -> None:
    """A verify that could not be asked is an outage, not a loss."""
    lease = held(store, clock)

    def refuse(*_: object, **__: object) -> StoredObject:
        raise RemoteUnavailable("down", op="get", key="k")

    store.get = refuse  # type: ignore[method-assign]  # the store misbehaves from here on
    with pytest.raises(StoreError):
        lease.verify()
    assert not lease.lost


def test_a_released_lease_is_freed_once(store: LossyStore) -> None:
    """A handle dropped right after its release writes no more, which would be in others' way."""
    for _ in range(30):
        lease = open_service(store, SystemClock()).acquire("db", timeout=0)
        store.requests.clear()
        lease.release()
        del lease
        for thread in threading.enumerate():
            if thread.name == HEARTBEAT_THREAD:
                thread.join()
        assert store.requests == ["put"]
