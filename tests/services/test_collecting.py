"""Garbage collection: what is retained stays, for whoever is at work; all else goes in the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core import advance
from ebooklet.core.advance import LiveBytes
from ebooklet.core.commit import SegmentRow
from ebooklet.core.head import Head, decode_head
from ebooklet.core.headfields import MAX_PENDING_BATCHES
from ebooklet.core.names import mint_sid, segment_key
from ebooklet.database import EBooklet
from ebooklet.errors import (
    EBookletError,
    LockTimeout,
    ReadOnlyError,
    RemoteMissingError,
    SnapshotExpired,
)
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services import draft
from ebooklet.services.fsck.examining import examine
from ebooklet.services.maintenance.report import GcReport
from ebooklet.services.maintenance.verifying import UsedSegments
from ebooklet.services.place import place_of
from ebooklet.services.request import Flag
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule

DAY_S = 24 * 3600
YEARS_US = 10 * 365 * DAY_S * 1_000_000
NONE = timedelta(0)
LEFT = segment_key("db", mint_sid(1_000_000, b"0123456789"))


@pytest.fixture
def clock() -> ManualClock:
    """The server's clock."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryRemoteStore:
    """A remote whose time is virtual."""
    return MemoryRemoteStore(now_ms=lambda: clock.now_us() // 1000)


def writer(store: RemoteStore, clock: ManualClock, flag: Flag = "c", **more: Any) -> EBooklet[Any]:
    """A handle without the lock, whose values are never merged into other segments."""
    serializer = "json" if flag == "c" else None
    more = {"lock": "optimistic", "clock": clock, **more}
    return open_database(store, None, flag, value_serializer=serializer, **more)


def head_of(store: RemoteStore, db_key: str = "db") -> Head:
    """The head that stands."""
    return decode_head(store.get(db_key).body, key=db_key)


def segments(store: RemoteStore, db_key: str = "db") -> set[str]:
    """The segments that are there."""
    return {meta.key for meta in store.list(f"{db_key}.d/")}


def daily(
    db: EBooklet[Any], clock: ManualClock, days: int, first: int = 0, seconds: float = DAY_S
) -> None:
    """A push a day, of a key that changes, and every other day of one that is new."""
    for day in range(first, first + days):
        clock.advance(seconds)
        db["newest"] = f"{day}" * 100
        if day % 2 == 0:
            db[f"day{day}"] = f"{day}" * 100
        db.push()


def collected(store: RemoteStore, clock: ManualClock, **options: Any) -> GcReport:
    """Collect with no grace and no history, by a handle of its own."""
    with writer(store, clock, "w", **{"history": 0, **options}) as db:
        return db.gc(grace=NONE)


def whole(store: RemoteStore, clock: ManualClock) -> dict[str, Any]:
    """The content, read cold, of a database in which nothing is missing or damaged."""
    with writer(store, clock, "r") as db:
        report = examine(place_of(db._copy), min_age_ms=0, check_objects=True)
        assert report.ok, report
        return dict(db.items())


def test_what_is_too_old_goes(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """Commits beyond 10 and 30 days expire, and never those of the last 30 days or the last 10.

    What only they needed is there until the grace has passed, and then it is not.
    """
    with writer(store, clock) as db:
        daily(db, clock, 45)
        before = segments(store)
        planned = db.gc(dry_run=True)
        assert segments(store) == before
        assert head_of(store).gc.pending == ()
        report = db.gc()
        assert replace(planned, dry_run=False, seq=report.seq) == report
        assert report
        assert (report.n_commits, report.n_expired) == (31, 14)
        assert report.dropped
        assert report.deleted == ()
        assert before <= segments(store)
        clock.advance(3 * DAY_S)
        assert db.gc().n_waiting == len(report.dropped)
        assert before <= segments(store)
        clock.advance(4 * DAY_S)
        again = db.gc()
        assert set(report.dropped) <= set(again.deleted)
        assert report.bytes_freed == 0 < report.bytes_dropped <= again.bytes_freed
        assert segments(store).isdisjoint(report.dropped)
        clock.advance(400 * DAY_S)
        assert db.gc().n_commits == 10
        clock.advance(8 * DAY_S)
        db.gc()
        clock.advance(8 * DAY_S)
        db.gc()
        assert db.gc().deleted == ()
        assert head_of(store).gc.pending == ()  # and so it stays: collecting makes no garbage
        db["more"] = 1
        assert db.push()
        content = dict(db.items())
    assert whole(store, clock) == content


@pytest.mark.parametrize(
    ("history", "kept"),
    [(0, 1), (1, 1), (3, 3), (timedelta(days=5), 6), ("all", 12), (None, 12)],
    ids=str,
)
def test_how_much_is_kept(
    store: MemoryRemoteStore, clock: ManualClock, history: Any, kept: int
) -> None:
    """`history` of `open` is a number, an age or everything; it stays until another is given."""
    with writer(store, clock, history=history) as db:
        daily(db, clock, 12)
    with writer(store, clock, "w") as db:
        assert db.gc(dry_run=True).n_commits == kept
        db.gc()
    if history in (3, "all"):
        with writer(store, clock, "w", history=2) as db:
            assert db.gc().n_commits == 2
        assert head_of(store).branch.keep_n == 2


@pytest.mark.parametrize("history", [-1, timedelta(days=-1), "some", 1.5, True], ids=repr)
def test_histories_that_are_none(store: MemoryRemoteStore, history: Any) -> None:
    """Refused at open, before anything is touched."""
    with pytest.raises((TypeError, ValueError), match="history"):
        open_database(store, None, "c", history=history)
    assert list(store.list("")) == []


STEPS = [("put", 0), ("put", 1), ("cas", 0)]


def pushed_around(
    inner: RemoteStore,
    clock: ManualClock,
    fault: tuple[str, int],
    between: Callable[[], object],
) -> dict[str, Any]:
    """Push with something in between, and return what there is then, read cold."""
    store = FaultyRemoteStore(inner)
    with writer(store, clock, "w") as db:
        db.update({f"new{n}": random.Random(n).randbytes(3_000).hex() for n in range(80)})
        db["day0"] = "changed"
        del db["day2"]
        op, skip = fault
        rule = store.add(StoreRule(StoreFault.DELAY, op=op, skip=skip, amount=0, then=between))
        assert db.push()
        assert rule.struck
        expected = dict(db.items())
    with writer(inner, clock, "r") as reader:
        assert dict(reader.items()) == expected
    return expected


@pytest.mark.parametrize("off_us", [0, YEARS_US, -YEARS_US], ids=["right", "ahead", "behind"])
@pytest.mark.parametrize("fault", STEPS, ids=str)
def test_a_push_in_the_middle_loses_nothing(
    store: MemoryRemoteStore, clock: ManualClock, fault: tuple[str, int], off_us: int
) -> None:
    """FORMAT 10.4: collected at any step of a push without the lock, with no grace, and whatever
    the clocks say: all of it lands, whole.

    Fails without: the check of the floor.
    """
    other = ManualClock(clock.now_us() + off_us, seed=5)
    with writer(store, other) as db:
        daily(db, other, 5)
    reports: list[GcReport] = []
    content = pushed_around(store, other, fault, lambda: reports.append(collected(store, clock)))
    assert reports[0]
    assert reports[0].n_expired == 4
    if fault[0] == "cas":
        assert reports[0].deleted
    assert whole(store, clock) == content


def test_without_the_floor_it_would_lose(
    store: MemoryRemoteStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of the test above removed: a writer that does not look at the floor dangles."""
    with writer(store, clock) as db:
        daily(db, clock, 5)
    monkeypatch.setattr(draft, "sid_ms", lambda _: 1 << 48)
    with pytest.raises((EBookletError, AssertionError)):
        pushed_around(store, clock, ("cas", 0), lambda: collected(store, clock))


def test_a_push_that_comes_first(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """What was an orphan when the collection looked, and what had expired, is looked at again."""
    with writer(store, clock) as db:
        daily(db, clock, 5)
    faulty = FaultyRemoteStore(store)

    def push() -> None:
        with writer(store, clock, "w") as db:
            db["meanwhile"] = "y" * 5_000
            db.push()

    faulty.add(StoreRule(StoreFault.DELAY, op="cas", key="db", amount=0, then=push))
    report = collected(faulty, clock)
    assert report
    assert (report.n_commits, report.n_expired) == (1, 5)
    assert whole(store, clock)["meanwhile"] == "y" * 5_000


@pytest.mark.parametrize("fault", [StoreFault.REFUSE, StoreFault.LOSE_ANSWER, StoreFault.DENY])
def test_a_collection_that_fails_anywhere(
    store: MemoryRemoteStore, clock: ManualClock, fault: StoreFault
) -> None:
    """Whichever request fails, for good, the database is whole, and the next collection finishes."""
    model = {}
    with writer(store, clock) as db:
        for number in range(100):
            daily(db, clock, 2, first=2 * number)
            model = dict(db.items())
            store.put(LEFT, b"left")
            faulty = FaultyRemoteStore(store, sleep=lambda _: None)
            with writer(faulty, clock, "w", history=0) as collector:
                rule = faulty.add(StoreRule(fault, skip=number, times=100))
                try:
                    good = bool(collector.gc(grace=NONE))
                except EBookletError:
                    good = False
                struck = rule.struck
                faulty.clear()
            assert whole(store, clock) == model
            if not struck:
                assert good
                break
            assert collected(store, clock)
            assert LEFT not in segments(store)
    assert number > 8
    held = {segment_key("db", row.sid) for row in head_of(store).tip.segs}
    assert len(segments(store)) <= len(held) + 3  # and of the last batches, which are orphans now


def test_a_delete_that_fails_keeps_its_batch(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """The report says so, and what was to be deleted is still known, and goes the next time.

    Fails without: keeping the batch of a delete that failed.
    """
    with writer(store, clock, history=0) as db:
        daily(db, clock, 3)
        dropped = db.gc().dropped
    clock.advance(8 * DAY_S)
    faulty = FaultyRemoteStore(store)
    faulty.add(StoreRule(StoreFault.DENY, op="delete"))
    with writer(faulty, clock, "w") as db:
        report = db.gc()
        assert not report
        assert report.failed
        assert report.deleted == ()
        assert len(head_of(store).gc.pending) == 1
        assert set(dropped) <= segments(store)
        assert set(dropped) <= set(db.gc().deleted)
    assert whole(store, clock)


def test_many_batches_become_few(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """More collections than there is room for batches lose none of them, nor their grace."""
    dropped: list[str] = []
    with writer(store, clock, history=0) as db:
        for day in range(MAX_PENDING_BATCHES + 4):
            daily(db, clock, 1, first=2 * day + 1)  # each replaces the one before
            dropped += db.gc(grace=timedelta(days=30)).dropped
            assert len(head_of(store).gc.pending) <= MAX_PENDING_BATCHES
        assert len(set(dropped)) == len(dropped) > MAX_PENDING_BATCHES
        assert set(dropped) <= segments(store)
        clock.advance(31 * DAY_S)
        assert set(dropped) <= set(db.gc(grace=timedelta(days=30)).deleted)
    assert whole(store, clock)


@contextmanager
def leaving_out_a_row(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commits made inside do not list the first segment that they use."""
    table_of = LiveBytes.table

    def table(self: LiveBytes, *sizes: Any) -> tuple[SegmentRow, ...]:
        return table_of(self, *sizes)[1:]

    with monkeypatch.context() as patch:
        patch.setattr(advance.LiveBytes, "table", table)
        yield


@pytest.mark.parametrize("verified", [True, False])
def test_a_row_that_is_missing(
    store: MemoryRemoteStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, verified: bool
) -> None:
    """FORMAT 10.7: a commit that leaves out a segment its tree uses stops the collection.

    Fails without: the walk over the tree.
    """
    with writer(store, clock) as db:
        daily(db, clock, 3)

        with leaving_out_a_row(monkeypatch):
            daily(db, clock, 1, first=3)
    if not verified:
        monkeypatch.setattr(UsedSegments, "unlisted", lambda *_: frozenset())
    before = segments(store)
    report = collected(store, clock)
    if verified:
        assert "does not list" in report.refused
        assert not report
        assert segments(store) == before
        assert head_of(store).gc.pending == ()
    else:
        with pytest.raises((EBookletError, AssertionError)):
            whole(store, clock)


def test_what_expires_stops_nothing(
    store: MemoryRemoteStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that leaves out a segment, or has lost one, stops collections while it is retained.

    The one that lets go of it goes through, and what stays is whole.

    Fails without: aging commits before what they need is verified.
    """
    with writer(store, clock) as db:
        daily(db, clock, 3)
        with leaving_out_a_row(monkeypatch):
            daily(db, clock, 1, first=3)
        assert db.fsck(repair=True).repaired
        content = dict(db.items())
        assert "does not list" in db.gc(grace=NONE).refused
    report = collected(store, clock)
    assert (report.refused, report.n_commits, report.n_expired) == ("", 1, 4)
    assert whole(store, clock) == content
    with writer(store, clock, "w", history="all") as db:
        for value in (random.Random(1).randbytes(200_000).hex(), ""):  # in a segment of its own
            db["large"] = value
            db.push()
        content = dict(db.items())
        store.delete([max(store.list("db.d/"), key=lambda meta: meta.size).key])
        assert "missing" in db.gc(grace=NONE).refused
    report = collected(store, clock)
    assert (report.refused, report.n_commits) == ("", 1)
    assert whole(store, clock) == content


def test_counters_that_are_wrong(
    store: MemoryRemoteStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORMAT 10.7: live bytes decide about nothing.

    A segment with one live byte is needed as well. Fails without: membership as what decides.
    """
    with writer(store, clock) as db:
        daily(db, clock, 3)
        table_of = LiveBytes.table

        def table(self: LiveBytes, *sizes: Any) -> tuple[SegmentRow, ...]:
            return tuple(row._replace(live=1) for row in table_of(self, *sizes))

        monkeypatch.setattr(advance.LiveBytes, "table", table)
        daily(db, clock, 1, first=3)
        content = dict(db.items())
    assert collected(store, clock)
    with writer(store, clock, "r") as reader:
        assert not examine(place_of(reader._copy), min_age_ms=0).claimed_but_missing
        assert dict(reader.items()) == content


def test_a_reader_behind(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """FORMAT 10.8: a reader that does not pull reads right for the grace, over ten commits and a
    collection; after that it is told `SnapshotExpired`, and never `KeyError`.

    Fails without: the grace of what is dropped.
    """
    with writer(store, clock, history=0) as db:
        daily(db, clock, 3)
        with writer(store, clock, "r") as reader:
            daily(db, clock, 10, first=3)
            del db["day2"]
            db.push()
            db.gc()
            clock.advance(6 * DAY_S)
            db.gc()
            assert reader["day2"] == "2" * 100
            clock.advance(2 * DAY_S)
            db.gc()
            with pytest.raises(SnapshotExpired):
                reader["newest"]
            reader.pull()
            assert "day2" not in reader
            assert reader["newest"] == "12" * 100


def test_what_was_replaced_can_come_back(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """What a replacement put into the trash is retained until the grace has passed."""
    with writer(store, clock, history=0) as db:
        daily(db, clock, 2)
        db.clear()
        db["a"] = 1
        db.push()
        assert db.gc().n_commits == 2
        assert len(head_of(store).trash) == 1
        clock.advance(8 * DAY_S)
        report = db.gc()
        assert report.n_commits == 1
        assert report.dropped
        assert head_of(store).trash == ()
    assert whole(store, clock) == {"a": 1}


def test_neighbours_are_not_touched() -> None:
    """FORMAT 10.20: of `a`, `a2`, `a/b` and `A` beside each other, one is collected.

    Fails without: the `.d/` behind the key in what is listed; the pattern of segment ids.
    """
    store = MemoryRemoteStore("collected-neighbours")
    names = ["a", "a2", "a/b", "A", "a.d2"]
    left = {name: segment_key(name, mint_sid(1_000_000, b"0123456789")) for name in names}
    strangers = {"a.d/notes.txt", "a.d/" + "0" * 26 + "/b"}
    for key in (*left.values(), *strangers):
        store.put(key, b"left")
    for name in names:
        url = f"memory://collected-neighbours/{name}"
        with open_database(url, None, "c", "json", history=0, lock="optimistic") as db:
            for n in range(3):
                db["a"] = str(n) * 100
                db.push()
    others = {meta.key for meta in store.list("")} - segments(store, "a") - {"a", "a.lock"}
    with open_database("memory://collected-neighbours/a", None, "w", lock="optimistic") as db:
        report = db.gc(grace=NONE)
    assert left["a"] in report.deleted
    assert report.n_expired == 2
    assert {meta.key for meta in store.list("")} >= others | strangers


def test_what_is_pending_stays(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """A collection in the middle of a session pushes nothing, and the next push meets no conflict."""
    with writer(store, clock, lock="exclusive", history=0) as db:
        daily(db, clock, 3, seconds=1)
        db["pending"] = 1
        del db["day2"]
        db.gc(grace=NONE)
        assert "pending" not in whole(store, clock)
        assert db.push()
        daily(db, clock, 2, first=3, seconds=1)
        db.clear()
        db["alone"] = 1
        assert db.gc(grace=NONE)
        assert db.push()
    assert whole(store, clock) == {"alone": 1}


def test_who_cannot_collect(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """Readers, who have no database, who comes while another writes, and who has no server time."""
    with writer(store, clock) as db, pytest.raises(RemoteMissingError):
        db.gc()
    with writer(store, clock) as db:
        daily(db, clock, 2)
        for grace, error in [("1", TypeError), (True, TypeError), (timedelta(days=-1), ValueError)]:
            with pytest.raises(error, match="grace"):
                db.gc(grace=grace)  # type: ignore[arg-type]  # what is tested
    with writer(store, clock, "r") as reader:
        with pytest.raises(ReadOnlyError):
            reader.gc()
        assert reader.gc(dry_run=True)
    with (
        writer(store, clock, "w", lock="exclusive"),
        writer(store, clock, "w", lock_timeout=0) as other,
        pytest.raises(LockTimeout),
    ):
        other.gc()

    class Timeless(FaultyRemoteStore):
        def server_time_ms(self) -> int | None:
            return None

    with writer(Timeless(store), clock, "w") as db:
        store.put(LEFT, b"left")
        report = db.gc(grace=NONE)
        assert "time" in report.refused
        assert LEFT in segments(store)


def test_times_that_go_back(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """A server's time is known to a moment, and may go back by one: no grace is none all the same."""

    class Wavering(FaultyRemoteStore):
        asked = 0

        def server_time_ms(self) -> int | None:
            self.asked += 1
            return clock.now_us() // 1000 - self.asked

    with writer(Wavering(store), clock, history=0) as db:
        daily(db, clock, 4)
        report = db.gc(grace=NONE)
        assert report.dropped
        assert set(report.dropped) <= set(report.deleted)


def record_of(store: RemoteStore, seq: int) -> str:
    """The segment that holds the record of a commit, which is to hold nothing else that stays."""
    ref = next(row.commit for row in head_of(store).recent if row.commit.seq == seq)
    return segment_key("db", ref.block.sid)


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_a_record_that_cannot_be_read(
    store: MemoryRemoteStore, clock: ManualClock, how: str
) -> None:
    """While its commit stays, only what was dropped before is deleted, and the report says why.

    Once it expires nothing stands in the way; what nothing seems to need any more, as what that
    commit alone needed, has its grace.

    Fails without: the stop where an unread commit stays retained; orphans that wait.
    """
    with writer(store, clock, history=0) as db:
        daily(db, clock, 2, first=1)
        dropped = db.gc().dropped
        assert dropped
    with writer(store, clock, "w", history=0) as db:
        db["lone"] = "x" * 500
        db.push()
        key = record_of(store, seq := head_of(store).tip.seq)
        del db["lone"]
        db.push()
        clock.advance(9 * DAY_S)
        for n in range(2):
            db["newest"] = n
            db.push()
        store.put(LEFT, b"left")
        db.tag("kept", version=seq)
        body = store.get(key).body
        store.delete([key])
        if how == "damaged":
            store.put(key, b"x" * len(body))
        before = segments(store)
        planned = db.gc(dry_run=True)
        report = db.gc()
        assert planned.deleted == report.deleted
        assert not report
        assert f"commit {seq} " in report.left
        assert set(report.deleted) == set(dropped) & before
        assert before - set(dropped) == segments(store)
        assert head_of(store).gc.pending == ()
        assert report.n_expired == 0
        content = dict(db.items())

        db.delete_tag("kept")
        clock.advance(9 * DAY_S)
        report = db.gc()
        assert report
        assert (report.n_commits, report.deleted) == (1, ())
        assert LEFT in report.dropped
        assert (key in segments(store)) == (how == "damaged")
        clock.advance(6 * DAY_S)
        assert db.gc()
        assert LEFT in segments(store)
        clock.advance(2 * DAY_S)
        assert LEFT in db.gc().deleted
        assert key not in segments(store)
    assert whole(store, clock) == content


def test_what_an_unread_record_leads_to(store: MemoryRemoteStore, clock: ManualClock) -> None:
    """Nothing that may be its parent is let go of while it stays, whatever the clocks say.

    Fails without: the times of all that is older, which may keep an unread commit.
    """
    with writer(store, clock, history=timedelta(days=10)) as db:
        daily(db, clock, 3)
        ahead = ManualClock(clock.now_us() + 20 * DAY_S * 1_000_000, seed=9)
        with writer(store, ahead, "w") as other:
            other["ahead"] = 1
            other.push()
        db.pull()
        daily(db, clock, 3, first=3)
        lost = record_of(store, 5)
        clock.advance(12 * DAY_S)
        store.delete([lost])
        before = segments(store)
        assert "commit 5 " in db.gc(grace=NONE).left
        assert segments(store) == before
        clock.advance(30 * DAY_S)
        report = db.gc(grace=NONE)
        assert (report.left, report.n_commits) == ("", 1)
        assert len(segments(store)) < len(before)
        content = dict(db.items())
    assert whole(store, clock) == content
