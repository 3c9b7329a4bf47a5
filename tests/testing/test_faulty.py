"""The faulty store: without faults it is a store like any other, with them it does as told."""

from __future__ import annotations

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import (
    AccessDenied,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
)
from ebooklet.ports.remote_store import ByteRange, IfAbsent, IfMatch, RemoteStore
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from ebooklet.testing.remote_store_contract import RemoteStoreContract


class TestFaultyRemoteStore(RemoteStoreContract):
    @pytest.fixture
    def store(self) -> RemoteStore:
        return FaultyRemoteStore(MemoryRemoteStore())

    @pytest.fixture
    def neighbour(self) -> RemoteStore:
        return FaultyRemoteStore(MemoryRemoteStore())


@pytest.fixture
def faulty() -> FaultyRemoteStore:
    store = FaultyRemoteStore(MemoryRemoteStore(), sleep=lambda _: None)
    store.put("k", b"old")
    return store


def test_a_lost_answer_is_a_write(faulty: FaultyRemoteStore) -> None:
    """The write has landed when its answer is lost; so has a deletion."""
    faulty.add(StoreRule(StoreFault.LOSE_ANSWER, op="put"))
    faulty.add(StoreRule(StoreFault.LOSE_ANSWER, op="delete"))
    with pytest.raises(OutcomeUnknown):
        faulty.put("k", b"new")
    assert faulty.get("k").body == b"new"
    with pytest.raises(OutcomeUnknown):
        faulty.delete(["k"])
    with pytest.raises(ObjectNotFound):
        faulty.get("k")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (StoreFault.REFUSE, RemoteUnavailable),
        (StoreFault.DENY, AccessDenied),
        (StoreFault.REJECT, PreconditionFailed),
    ],
)
def test_a_refused_write_is_none(
    faulty: FaultyRemoteStore, fault: StoreFault, error: type[Exception]
) -> None:
    """Refusals leave the object as it was."""
    faulty.add(StoreRule(fault))
    with pytest.raises(error):
        faulty.put("k", b"new")
    assert faulty.get("k").body == b"old"


def test_a_failed_put_may_damage(faulty: FaultyRemoteStore) -> None:
    """Some servers truncate or drop the object that they fail to replace."""
    faulty.add(StoreRule(StoreFault.TRUNCATE, amount=2))
    with pytest.raises(OutcomeUnknown):
        faulty.put("k", b"new")
    assert faulty.get("k").body == b"ne"
    faulty.add(StoreRule(StoreFault.VANISH))
    with pytest.raises(OutcomeUnknown):
        faulty.put("k", b"new")
    with pytest.raises(ObjectNotFound):
        faulty.head("k")


def test_a_held_put_lands_late(faulty: FaultyRemoteStore) -> None:
    """It takes effect when it is let go, and only if its condition holds then."""
    faulty.add(StoreRule(StoreFault.HOLD, times=2))
    with pytest.raises(OutcomeUnknown):
        faulty.put("k", b"late")
    with pytest.raises(OutcomeUnknown):
        faulty.put("k", b"refused", condition=IfAbsent())
    faulty.put("k", b"meanwhile")
    assert faulty.release_held() == 1
    assert faulty.get("k").body == b"late"
    assert faulty.release_held() == 0


def test_stale_reads(faulty: FaultyRemoteStore) -> None:
    """A get, a head or a list may show what stood some writes ago."""
    first = faulty.head("k")
    faulty.put("k", b"newer")
    faulty.put("l", b"other")
    faulty.add(StoreRule(StoreFault.STALE, times=2))
    assert faulty.get("k").body == b"old"
    assert faulty.head("k") == first
    faulty.add(StoreRule(StoreFault.STALE, op="list", amount=2))
    assert list(faulty.list("")) == [first]
    faulty.add(StoreRule(StoreFault.STALE, key="l"))
    with pytest.raises(ObjectNotFound):
        faulty.get("l")
    assert faulty.get("l").body == b"other"


def test_flipped_bits(faulty: FaultyRemoteStore) -> None:
    """One bit of the object is wrong wherever it is read, and no other."""
    faulty.put("k", b"0123")
    faulty.add(StoreRule(StoreFault.FLIP, amount=2, times=None))
    assert faulty.get("k").body == b"0133"
    assert faulty.get("k", start=1, stop=2).body == b"1"
    assert list(faulty.get_ranges([ByteRange("k", 2, 4), ByteRange("k", 0, 2)])) == [b"33", b"01"]


def test_rules_choose_their_calls(faulty: FaultyRemoteStore) -> None:
    """Operation, key, skip and times decide; `then` runs before the fault."""
    seen: list[bytes] = []
    rule = faulty.add(
        StoreRule(
            StoreFault.REFUSE,
            op="cas",
            key=lambda key: key.startswith("k"),
            skip=1,
            times=2,
            then=lambda: seen.append(faulty.get("k").body),
        )
    )
    faulty.put("k", b"plain")
    faulty.put("other", b"", condition=IfAbsent())
    etag = faulty.put("k", b"skipped", condition=IfMatch(faulty.head("k").etag)).etag
    for _ in range(2):
        with pytest.raises(RemoteUnavailable):
            faulty.put("k", b"refused", condition=IfMatch(etag))
    faulty.put("k", b"through", condition=IfMatch(etag))
    assert (rule.struck, seen) == (2, [b"skipped", b"skipped"])
    faulty.add(StoreRule(StoreFault.REFUSE, times=None))
    faulty.clear()
    assert faulty.get("k").body == b"through"


def test_delays_use_the_given_clock() -> None:
    """A delay waits by the function it was given, and the call goes on."""
    waited: list[float] = []
    store = FaultyRemoteStore(MemoryRemoteStore(), sleep=waited.append)
    store.add(StoreRule(StoreFault.DELAY, op="put", amount=1500))
    store.put("k", b"body")
    assert waited == [1.5]
    assert store.get("k").body == b"body"
