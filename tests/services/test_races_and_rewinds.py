"""Threads between the steps of a push or pull, lost heads in mode lock, and damaged folders."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.adapters.remote.probe import Verdict
from ebooklet.bootstrap import open as open_database
from ebooklet.database import EBooklet
from ebooklet.errors import AccessDenied, OutcomeUnknown, ReplaceConflict
from ebooklet.services import conflicts, iterating, reading
from ebooklet.services import pull as pull_service
from ebooklet.services.heads import HeadStore
from ebooklet.services.itemreads import ItemReader
from ebooklet.services.journal import HEAD_SLOT
from ebooklet.services.rebasing import leave_base
from ebooklet.services.working_copy import WorkingCopy
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.services.conftest import Opener, store_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def locked(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Opens databases whose head is moved under a lock, on a server without conditions."""
    verdict = Verdict("lock", "quoted", "", "no conditions here")
    monkeypatch.setattr("ebooklet.adapters.remote.probe.probe", lambda *_, **__: verdict)

    def open_(name: str = "a", flag: str = "c", **options: Any) -> EBooklet[Any]:
        return opener(name, flag, lock=NullLockService(SystemClock()), **options)

    return open_


def heads(db: EBooklet[Any]) -> dict[str, bytes]:
    """Both copies of the head, as they are stored."""
    store = db._copy.reachable_remote()
    return {key: store.get(key).body for key in ("db", "db.alt")}


def put_back(db: EBooklet[Any], stored: dict[str, bytes]) -> None:
    """What a delayed write of an older head does."""
    for key, body in stored.items():
        db._copy.reachable_remote().put(key, body)


def overtake(locked: Opener, name: str) -> None:
    """Commit on what stands, so that a later head that was lost cannot stand there again."""
    with locked(name, "w") as other:
        other[name] = 0
        other.push()


def test_segments_of_a_lost_race_keep_their_length(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit names what an earlier attempt uploaded with its true size."""
    with opener("a") as a:
        a.push()
        with opener("b", "w") as b:
            a["large"] = "x" * 300_000
            b["other"] = "y"
            commit = HeadStore.commit

            def late(self: HeadStore, *args: Any) -> Any:
                if self is a._copy.heads and b.changes():
                    b.push()
                return commit(self, *args)

            monkeypatch.setattr(HeadStore, "commit", late)
            assert a.push()
        assert a._copy.base is not None
        assert all(row.length >= row.live for row in a._copy.base.commit.segs)


def test_large_metadata_are_kept_alive_by_the_head(opener: Opener) -> None:
    """Their segment stays among those the head needs, also when the history spills."""
    with opener() as db:
        db.set_metadata("m" * 100_000)
        for n in range(70):
            db["n"] = n
            db.push()
        assert db._copy.base is not None
        head = db._copy.base.head
        assert head.metadata_ref is not None
        assert head.metadata_ref.sid in head.hsegs


def test_metadata_set_during_a_push_stay_pending(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with the timestamp of those that were pushed."""
    with opener() as db:
        commit = HeadStore.commit

        def then_set(self: HeadStore, *args: Any) -> Any:
            done = commit(self, *args)
            monkeypatch.undo()
            db.set_metadata(2, timestamp=777)
            return done

        db.set_metadata(1, timestamp=777)
        monkeypatch.setattr(HeadStore, "commit", then_set)
        db.push()
        assert db.get_metadata() == 2
        assert db.push().updated
    with opener("b", "w") as other:
        assert other.get_metadata() == 2


def test_a_value_set_while_a_pull_decides_stays_pending(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull that found both sides equal says nothing about what was set since."""
    with opener("a") as a:
        a.set("k", 0, timestamp=1)
        a.push()
    with opener("b", "w") as b, opener("a", "w") as a:
        a.set("k", 1, timestamp=2)
        a.push()
        b.set("k", 1, timestamp=2)
        ours = conflicts.ours_of

        def then_set(copy: Any, key: str) -> Any:
            found = ours(copy, key)
            monkeypatch.undo()
            b["k"] = 2
            b.sync()
            return found

        monkeypatch.setattr(conflicts, "ours_of", then_set)
        b.pull()
        assert b["k"] == 2
        assert [change["key"] for change in b.changes()] == ["k"]


def test_set_timestamp_keeps_what_another_thread_sets(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value is not put back to what it was."""
    with opener() as db:
        db["k"] = 1
        read = reading.read

        def then_set(copy: Any, key: object) -> Any:
            found = read(copy, key)
            monkeypatch.undo()
            db["k"] = 2
            return found

        monkeypatch.setattr(reading, "read", then_set)
        db.set_timestamp("k", 99)
        assert db["k"] == 2
        assert db.get_timestamp("k") == 99


def test_a_reader_forgets_what_it_fetched_when_others_move_on(opener: Opener) -> None:
    """Neither the base nor pending changes of others are overlaid with older values."""
    with opener("a") as a:
        a["k"] = a["l"] = "old" * 50
        a.push()
        first = opener("s", "r")
        assert first["k"] == "old" * 50
        a["k"] = "new" * 50
        a.push()
        with opener("s", "w") as writer:
            writer["l"] = "mine"
        first.close()
    with opener("s", "w") as writer:
        assert writer["k"] == "new" * 50
        assert writer["l"] == "mine"


def test_values_fetched_by_a_reader_never_replace_pending_ones(opener: Opener) -> None:
    """A reader that closes last leaves another process's pending change alone."""
    with opener("a") as a:
        a["k"] = "old" * 50
        a.push()
    reader = opener("s", "r")
    assert reader["k"] == "old" * 50
    with opener("s", "w") as writer:
        writer["k"] = "mine"
    reader.close()
    with opener("s", "w") as writer:
        assert writer["k"] == "mine"
        assert [change["key"] for change in writer.changes()] == ["k"]


def test_a_lost_head_found_by_the_next_session(locked: Opener, tmp_path: Path) -> None:
    """Killed after a push whose head was then lost: all of it is pending again."""
    with locked() as db:
        db["x"] = 0
        db.set_metadata(0)
        db.push()
        old = heads(db)
        db["x"], db["y"] = 1, 1
        db.set_metadata(1)
        db.push()
        shutil.copytree(tmp_path / "a.blt.ebk", tmp_path / "killed.blt.ebk")
        shutil.copy2(tmp_path / "a.blt", tmp_path / "killed.blt")
        put_back(db, old)
        overtake(locked, "z")
    with locked("killed", "w") as again:
        assert dict(again.items()) == {"x": 1, "y": 1, "z": 0}
        assert again.get_metadata() == 1
        assert again.push().n_set == 2
    with locked("fresh", "w") as fresh:
        assert (dict(fresh.items()), fresh.get_metadata()) == (
            {"x": 1, "y": 1, "z": 0},
            1,
        )


def test_a_lost_head_found_by_the_same_session(locked: Opener) -> None:
    """Values are here although they were to be evicted; metadata and a replacement too."""
    with locked() as db:
        db["x"] = 0
        db.set_metadata(0)
        db.push()
        old = heads(db)
        db["x"] = 1
        db.set_metadata(1)
        db.push()
        db.prune(timestamp=2**55)
        put_back(db, old)
        overtake(locked, "y")
        db.pull()
        assert (db["x"], db.get_metadata()) == (1, 1)
        db.push()
        old = heads(db)
        db.clear()
        db["new"] = 1
        db.push()
        put_back(db, old)
        overtake(locked, "z")
        db.pull()
        assert dict(db.items()) == {"new": 1}
        db.push()
    with locked("fresh", "w") as fresh:
        assert (dict(fresh.items()), fresh.get_metadata()) == ({"new": 1}, 1)


def test_without_a_base_nothing_stored_counts_as_fresh(opener: Opener) -> None:
    """The remembered head was lost, all else is in order: what differs is reported."""
    with opener("a") as a:
        a["k"] = "old"
        a.push()
    with opener("b", "w") as b, opener("a", "w") as a:
        a._copy.local.write_slot(HEAD_SLOT, None)
        a.close()
        b["k"] = "new"
        b.push()
    with opener("a", "w") as a:
        assert [change["key"] for change in a.changes()] == ["k"]


def test_keys_lost_with_a_damaged_file_are_not_deleted(opener: Opener, tmp_path: Path) -> None:
    """A file cut short after a clean close: what is gone is fetched again."""
    with opener() as db:
        db.update({f"k{n}": "v" * 3000 for n in range(30)})
        db.push()
    file = tmp_path / "a.blt"
    with file.open("r+b") as damaged:
        damaged.truncate(file.stat().st_size - 20_000)
    with opener("a", "w") as db:
        assert len(db) == 30
        assert not db.changes().pending_deletes


@pytest.mark.parametrize(("way", "soiled"), [("delete", False), ("delete", True), ("clear", False)])
def test_a_deletion_killed_half_way_is_finished(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, soiled: bool
) -> None:
    """It was journalled, so it counts; no value stays readable, other writes unsynced or not."""
    with opener() as db:
        db["k"] = "v"
        db.push()
        if soiled:
            db["unsynced"] = 1

        def killed(*_: object) -> None:
            shutil.copytree(tmp_path / "a.blt.ebk", tmp_path / "killed.blt.ebk")
            shutil.copy2(tmp_path / "a.blt", tmp_path / "killed.blt")
            raise KeyboardInterrupt  # which, unlike a kill, lets it be taken back

        monkeypatch.setattr(type(db._copy.local), way, killed)
        with pytest.raises(KeyboardInterrupt):
            db.clear() if way == "clear" else db.pop("k")
        monkeypatch.undo()
    with opener("killed", "w") as db:
        assert "k" not in db
        assert db.get("k") is None
        assert db.push().updated
    with opener("killed", "w") as db:
        assert "k" not in dict(db.items())


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100])
@pytest.mark.parametrize("which", ["db", "db.alt"])
def test_a_head_cut_short_is_read_from_its_copy(
    locked: Opener, url: str, which: str, cut: int
) -> None:
    """In mode lock a failed write may leave any number of bytes of one copy; the other counts."""
    with locked("a") as db:
        db["k"] = 1
        assert db.push()
    store = store_of(url)
    store.put(which, store.get(which).body[:cut])
    with locked("b", "r") as db:
        assert db["k"] == 1
    with locked("a", "w") as db:
        db["k"] = 2
        assert db.push()
    assert len({store.get(key).body for key in ("db", "db.alt")}) == 1


def test_a_second_head_that_is_not_published(locked: Opener, url: str) -> None:
    """Readers who are refused the second copy go by the first; without it, nobody guesses."""
    with locked("a") as db:
        db["k"] = 1
        assert db.push()
    store = FaultyRemoteStore(store_of(url))
    store.add(StoreRule(StoreFault.DENY, key=lambda key: key.endswith(".alt"), times=None))
    with open_database(store) as db:
        assert db["k"] == 1
    store.delete(["db"])
    with pytest.raises(AccessDenied):  # its writers must not take it for a place to create one
        open_database(store)


class WatchedLock:
    """The lock of pushes, asked whether it is held while another lock is."""

    def __init__(self, copy: WorkingCopy) -> None:
        self.inner = copy.push_lock
        self.outer = copy.lock
        self.asked: list[bool] = []  # whether a push could not come between, each time

    def locked(self) -> bool:
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(self.outer.acquire, blocking=False).result()
            if taken:
                pool.submit(self.outer.release).result()
        self.asked.append(not taken)
        return self.inner.locked()


def test_no_push_comes_between_the_look_and_the_leap(opener: Opener) -> None:
    """Clearing, discarding and pruning look for a push under the lock that a push takes first."""
    with opener("a") as db:
        db["k"] = 1
        watched = WatchedLock(db._copy)
        db._copy.push_lock = watched  # type: ignore[assignment]  # watches itself
        db.changes().discard()
        db.prune()
        db.clear()
        db._copy.push_lock = watched.inner
        assert watched.asked == [True] * 3


def test_a_creation_beside_a_deletion_is_whole(tmp_path: Path) -> None:
    """Its segments lay there when another database was made and deleted under the same name."""
    store = FaultyRemoteStore(MemoryRemoteStore())

    def opened(name: str) -> EBooklet[Any]:
        path = tmp_path / f"{name}.blt"
        return open_database(store, path, "c", lock="optimistic", value_serializer="json")

    def create_and_delete() -> None:
        with opened("other") as other:
            other["theirs"] = "w" * 300
            other.push()
            assert other.push(force_push=True).updated
            needed = set(names(store))
            other.delete_remote()
            assert len(needed.difference(names(store))) == 2

    with opened("a") as db:
        db["k"] = "v" * 300
        store.add(StoreRule(StoreFault.DELAY, op="cas", key="db", amount=0, then=create_and_delete))
        assert db.push().updated
    with opened("fresh") as fresh:
        assert dict(fresh.items()) == {"k": "v" * 300}


def names(store: FaultyRemoteStore) -> list[str]:
    return [meta.key for meta in store.list("db.d/")]


def test_a_clear_beside_a_pull_replaces_what_it_saw(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread clears while a pull takes in a commit: the push says that one landed since.

    Fails if the base moves under the replacement.
    """
    with opener("a") as a:
        a["k"] = 1
        a.push()
    with opener("a") as a, opener("b") as b:
        a["theirs"] = 2
        a.push()
        leave = leave_base

        def then_cleared(copy: Any, *args: Any) -> Any:
            moved = leave(copy, *args)
            monkeypatch.undo()
            b.clear()
            return moved

        monkeypatch.setattr(pull_service, "leave_base", then_cleared)
        assert not b.pull().updated
        with pytest.raises(ReplaceConflict):
            b.push()
        assert b.push(force_push=True).updated
        assert dict(b.items()) == {}


@pytest.mark.parametrize("method", ["get", "load_items", "items"])
def test_what_was_asked_for_before_a_clear_is_not_kept_after_it(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Values that come while another thread clears are no values of the cleared database."""
    with opener("a") as a:
        a["k"] = "old" * 50
        a.push()
    with opener("b") as b:
        keep = b._copy.keep_fetched

        def cleared_before(*args: Any) -> None:
            monkeypatch.undo()
            b.clear()
            keep(*args)

        monkeypatch.setattr(b._copy, "keep_fetched", cleared_before)
        with suppress(RuntimeError):  # an iteration says that keys went
            list(getattr(b, method)(*["k"] if method == "get" else []))
        assert "k" not in b
        assert b.push().updated
        assert b.get("k") is None


def test_items_that_a_pull_overtakes_are_not_kept_as_the_new_ones(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull right after an iteration has chosen its index leaves nothing of the old one here."""
    with opener("a") as a:
        a["k"] = "old" * 50
        a.push()
        with opener("b") as b:
            a["k"] = "new" * 50
            a.push()

            def overtaken(*args: Any) -> ItemReader:
                monkeypatch.undo()
                assert b.pull().updated
                return ItemReader(*args)

            monkeypatch.setattr(iterating, "ItemReader", overtaken)
            list(b.items())
            assert b["k"] == "new" * 50


def test_a_clear_after_a_lost_creation_replaces_nobody_elses(tmp_path: Path) -> None:
    """The first push never arrived, and a copy of the same file created the database instead.

    Fails if only a replacement with a base can meet a conflict.
    """
    store = FaultyRemoteStore(MemoryRemoteStore(), sleep=lambda _: None)
    clock = ManualClock()

    def opened(name: str) -> EBooklet[Any]:
        path = tmp_path / f"{name}.blt"
        options: dict[str, Any] = {"lock": "optimistic", "clock": clock}
        return open_database(store, path, "c", value_serializer="json", **options)

    with opened("a") as a:
        a["k"] = 1
    shutil.copytree(tmp_path / "a.blt.ebk", tmp_path / "b.blt.ebk")
    shutil.copy2(tmp_path / "a.blt", tmp_path / "b.blt")
    with opened("a") as a:
        store.add(StoreRule(StoreFault.HOLD, op="cas", key="db", times=None))
        with pytest.raises(OutcomeUnknown):
            a.push()
        store.clear()
        a.clear()
        with opened("b") as b:
            b["theirs"] = 2
            assert b.push()
        with pytest.raises(ReplaceConflict):
            a.push()
        assert a.push(force_push=True).updated
    with opened("b") as b:
        assert dict(b.items()) == {}
