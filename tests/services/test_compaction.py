"""Compaction: equal content in fewer bytes, whoever reads, pushes or collects meanwhile."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core import tiers
from ebooklet.core.keeping import Keep
from ebooklet.database import EBooklet
from ebooklet.errors import (
    EBookletError,
    LockTimeout,
    RemoteMissingError,
    ReplaceConflict,
    SnapshotExpired,
)
from ebooklet.services import draft
from ebooklet.services.maintenance import compaction
from ebooklet.services.maintenance.collecting import Collection
from ebooklet.services.maintenance.planning import Rules
from ebooklet.services.place import place_of
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.services.test_collecting import collected, head_of, segments, whole, writer
from tests.services.test_minor_compaction import counted_live


@pytest.fixture
def clock() -> ManualClock:
    """The server's clock."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryRemoteStore:
    """A remote whose time is virtual, with a database of which most is garbage."""
    store = MemoryRemoteStore(now_ms=lambda: clock.now_us() // 1000)
    chance = random.Random(1)
    with writer(store, clock) as db:
        db.update({f"k{n:03}": chance.randbytes(300).hex() for n in range(500)})
        db.push()
        for n in range(500):
            if n % 5:
                db[f"k{n:03}"] = chance.randbytes(300).hex()
        db.push()
        for n in range(500):
            if n % 7:
                del db[f"k{n:03}"]
        db.push()
    return store


def needed(store: MemoryRemoteStore) -> tuple[int, int]:
    """Bytes of the segments that the newest commit needs, and those of them that are live."""
    rows = head_of(store).tip.segs
    return sum(row.length for row in rows), sum(row.live for row in rows)


def compacted(db: EBooklet[Any]) -> int:
    """Compact until there is nothing to do; how many commits that took."""
    for n in range(6):
        if not db.compact():
            return n
    raise AssertionError("compaction does not end")


def test_less_and_the_same(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """Same content, same fingerprint, right counters; what is left is dense, and comes to an end.

    What is pending stays pending, and a collection then frees the rest.
    """
    before, tip = whole(store, clock), head_of(store).tip
    size, live = needed(store)
    assert live < size / 2
    with writer(store, clock, "w") as db:
        db["pending"] = 1
        report = db.compact("smaller")
        assert report
        assert report.bytes_garbage > size / 3
        assert report.seq == head_of(store).seq
        assert compacted(db) <= 2
        base = db._copy.base
        assert base is not None
        assert counted_live(db) == {row.sid: row.live for row in base.commit.segs}
        assert [change["key"] for change in db.changes()] == ["pending"]
    head = head_of(store)
    assert (head.tip.op, head.tip.message) == ("compact", "smaller")
    assert head.tip.fingerprint == tip.fingerprint
    size, live = needed(store)
    assert live > size / 2
    assert whole(store, clock) == before
    listed = len(segments(store))
    assert collected(store, clock)
    assert len(segments(store)) < listed
    assert whole(store, clock) == before


def test_a_reader_and_a_merge_that_are_behind(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """FORMAT 10.6: compacted and collected under a reader and a writer that hold the older head.

    The reader has what it fetched, is told `SnapshotExpired` of the rest, and right after a pull;
    the writer's push merges.

    Fails without: nodes of equal digest that are taken from the newer head, not from the older one.
    """
    before = whole(store, clock)
    with writer(store, clock, "r") as reader, writer(store, clock, "w") as behind:
        first, other = min(before), max(before)
        assert reader[first] == before[first]
        behind[first], behind["new"] = "theirs", "n" * 500
        del behind[other]
        with writer(store, clock, "w") as db:
            compacted(db)
        collected(store, clock)
        collected(store, clock)
        with pytest.raises(SnapshotExpired):
            dict(reader.items())
        assert behind.push()
        expected = {**before, first: "theirs", "new": "n" * 500}
        del expected[other]
        reader.pull()
        assert dict(reader.items()) == expected
    assert whole(store, clock) == expected


def pushed(db: EBooklet[Any]) -> None:
    """Push, and read back all there is."""
    db.push()
    assert db.fsck(check_objects=True).ok


def test_a_merge_onto_older_nodes_would_dangle(
    store: MemoryRemoteStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of the test above removed: who builds on the head it holds names what is gone."""
    with writer(store, clock, "w") as behind:
        base = behind._copy.base
        assert base is not None
        list(behind.keys())
        behind["new"] = "n" * 500
        with writer(store, clock, "w") as db:
            compacted(db)
        collected(store, clock)
        make = draft.Draft.__init__

        def on_older(self: draft.Draft, **parts: Any) -> None:
            make(self, **{**parts, "root": base.root, "base": base})

        monkeypatch.setattr(draft.Draft, "__init__", on_older)
        with pytest.raises((EBookletError, AssertionError)):
            pushed(behind)


@pytest.mark.parametrize("fault", [("put", None), ("cas", "db")], ids=str)
@pytest.mark.parametrize("collecting", [False, True])
def test_a_push_in_the_middle(
    store: MemoryRemoteStore, clock: ManualClock, fault: tuple[str, str | None], collecting: bool
) -> None:
    """A move applies only where the old place still stands, and what was laid down by an attempt
    that lost is used again only if it cannot have been collected.

    Fails without: looking for the segments' content in the head that won; the check of the floor.
    """
    before = whole(store, clock)
    changed, gone = sorted(before)[1:3]

    def push() -> None:
        with writer(store, clock, "w") as other:
            other[changed], other["new"] = "theirs", "n" * 500
            del other[gone]
            other.push()
        if collecting:  # by a handle that cannot have the lock, which the compaction holds
            Collection(place_of(db._copy), None, Rules(0, "main", Keep(1, 0))).run()

    faulty = FaultyRemoteStore(store)
    with writer(faulty, clock, "w") as db:
        op, key = fault
        rule = faulty.add(StoreRule(StoreFault.DELAY, op=op, key=key, amount=0, then=push))
        assert db.compact()
        assert rule.struck
        expected = {**before, changed: "theirs", "new": "n" * 500}
        del expected[gone]
        assert dict(db.items()) == expected
    assert whole(store, clock) == expected
    assert head_of(store).tip.op == "compact"


@pytest.mark.parametrize("fault", [StoreFault.REFUSE, StoreFault.LOSE_ANSWER, StoreFault.DENY])
def test_a_compaction_that_fails_anywhere(
    store: MemoryRemoteStore, clock: ManualClock, fault: StoreFault
) -> None:
    """Whichever request fails, for good, the database is as it was or compact, and goes on."""
    before = whole(store, clock)
    for number in range(100):
        faulty = FaultyRemoteStore(store, sleep=lambda _: None)
        with writer(faulty, clock, "w") as db:
            rule = faulty.add(StoreRule(fault, skip=number, times=100))
            try:
                db.compact()
            except EBookletError:
                assert rule.struck
            struck = rule.struck
            faulty.clear()
        assert whole(store, clock) == before
        if not struck:
            break
        with writer(store, clock, "w") as db:  # garbage for the next round
            key = sorted(before)[number % len(before)]
            db[key] = before[key] = random.Random(number).randbytes(300).hex()
            assert db.push()
    assert number > 4


def test_garbage_is_compacted_by_a_push(
    store: MemoryRemoteStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that finds more garbage than the rest compacts once, and does not fail over it."""
    monkeypatch.setattr(tiers, "_BLOATED_BYTES", 10_000)
    before = whole(store, clock)
    with writer(store, clock, "w") as db:
        db["one more"] = 1

        def fails(*_: Any, **__: Any) -> None:
            raise LockTimeout("somebody else compacts", op="lock", key="db")

        with monkeypatch.context() as patch:
            patch.setattr(compaction, "run_compaction", fails)
            assert db.push()
        assert head_of(store).tip.op == "push"
        db["two more"] = 2
        result = db.push()
        assert result
        assert head_of(store).tip.op == "compact"
        assert head_of(store).seq == result.seq + 1
        db["three more"] = 3
        assert db.push()
        assert head_of(store).tip.op == "push"
    assert whole(store, clock) == {**before, "one more": 1, "two more": 2, "three more": 3}


def test_what_is_dense_is_left_alone(clock: ManualClock) -> None:
    """Nothing to gain is no commit; and what is to be replaced whole is not compacted."""
    store = MemoryRemoteStore(now_ms=lambda: clock.now_us() // 1000)
    with writer(store, clock) as db:
        db.update({f"k{n}": f"{n}" * 50 for n in range(200)})
        with pytest.raises(RemoteMissingError, match=r"push\(\) creates it"):
            db.compact()
        db.push()
        seq = head_of(store).seq
        report = db.compact()
        assert not report
        assert report.finished
        assert head_of(store).seq == seq
        db.clear()
        with pytest.raises(ReplaceConflict):
            db.compact()
