"""Staged writers: what they lay down becomes one commit, and none that dangles or counts twice."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

import ebooklet
from ebooklet import Database, Encryption, KeyFile, LocalHalf, Staged, StagedWriter
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.memory import open_store
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.advance import amended
from ebooklet.core.head import Gc, Head, Proto, decode_head, encode_head
from ebooklet.core.names import segment_key, sid_ms
from ebooklet.database import EBooklet
from ebooklet.errors import (
    ConflictError,
    EncryptionError,
    OfflineError,
    ReadOnlyError,
    RemoteMissingError,
    ReplaceConflict,
    SerializationError,
    StagedExpired,
    UUIDMismatchError,
)
from ebooklet.plugins.hooks import Conflict, hookimpl
from ebooklet.serializers.json import JSON
from ebooklet.services.fsck.sweeping import sweep
from ebooklet.services.place import RemotePlace
from ebooklet.services.staging import commit as committing
from ebooklet.services.staging import tables
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.services.conftest import Opener, store_of

LONG: Final = "x" * 200  # does not sit in the index


def stage(
    writer: StagedWriter[Any], sets: Mapping[str, Any] = {}, deletes: Iterable[str] = ()
) -> Staged:
    """What a worker does, on the machine that it is on: with a writer that came as a pickle."""
    there: StagedWriter[Any] = pickle.loads(pickle.dumps(writer))
    with there:
        there.update(sets)
        for key in deletes:
            del there[key]
    back: Staged = pickle.loads(pickle.dumps(there.result))
    return back


def head_of(url: str) -> Head:
    return decode_head(store_of(url).get("db").body, key="db")


def amend(store: MemoryRemoteStore, change: Callable[[Head], Mapping[str, Any]]) -> None:
    """Write a head that says something else about the same commits, as maintenance does."""
    head = decode_head(store.get("db").body, key="db")
    new = amended(head, write_id=random.randbytes(16), ms=head.ms, **change(head))
    store.put("db", encode_head(new))


def sweep_all(store: MemoryRemoteStore) -> tuple[str, ...]:
    """Sweep with no grace at all."""
    clock = SystemClock()
    service = NullLockService(clock)
    place = RemotePlace(
        store=store,
        db_key="db",
        clock=clock,
        locks=lambda _: service,
        probe=lambda: Proto("cas"),
        owned=False,
    )
    return sweep(place, min_age_ms=0, lock_timeout=0).swept


def named(head: Head) -> set[bytes]:
    return {row.sid for row in head.tip.segs}


def sids(*results: Staged) -> set[bytes]:
    return {segment.sid for each in results for segment in each.segments}


@pytest.fixture
def db(opener: Opener) -> Iterator[EBooklet[Any]]:
    """A writer of a database with one commit."""
    with opener() as db:
        db.update({"a": 1, "b": LONG, "c": 3})
        db.push()
        yield db


def read(opener: Opener) -> dict[str, Any]:
    """What a newcomer finds."""
    with opener(None, "r") as reader:
        assert reader.fsck(check_objects=True).ok
        return dict(reader.items())


# One commit


def test_one_commit_of_many_writers(db: EBooklet[Any], opener: Opener, url: str) -> None:
    """Nobody sees anything before the merge, and everybody all of it after."""
    writer = db.fork()
    first = stage(writer, {"a": 10, "d": LONG + "d"}, ["b"])
    second = stage(writer, {"e": LONG + "e"}, ["never there"])
    assert (first.n_set, first.n_deleted, second.n_deleted) == (2, 1, 1)
    assert read(opener) == {"a": 1, "b": LONG, "c": 3}
    result = db.merge(first, second, message="from afar")
    assert (result.updated, result.seq, result.n_set, result.n_deleted) == (True, 2, 3, 1)
    expected = {"a": 10, "c": 3, "d": LONG + "d", "e": LONG + "e"}
    assert read(opener) == expected
    assert dict(db.items()) == expected  # what was stored here and changed is not served
    tip = head_of(url).tip
    assert (tip.op, tip.message, tip.seq) == ("merge", "from afar", 2)
    assert sids(first, second) <= named(head_of(url))  # where they were laid


def test_pending_changes_stay_pending(db: EBooklet[Any], opener: Opener) -> None:
    """Metadata too; a key that both changed is in conflict, as after anybody's commit."""
    writer = db.fork()
    db["mine"] = 1
    db["a"] = "mine"
    del db["c"]
    db.set_metadata({"mine": True})
    with pytest.warns(UserWarning, match="'a' changed both here and in the remote"):
        assert db.merge(stage(writer, {"a": "staged", "x": 1}))
    assert {change["key"] for change in db.changes()} == {"mine", "a", "c"}
    assert read(opener) == {"a": "staged", "b": LONG, "c": 3, "x": 1}
    with pytest.raises(ConflictError):
        db.push()
    assert db.push(conflict="ours")
    assert read(opener) == {"a": "mine", "b": LONG, "mine": 1, "x": 1}
    assert db.get_metadata() == {"mine": True}


def test_the_last_named_decides(opener: Opener, db: EBooklet[Any]) -> None:
    """Of two results for one key, as of a task that ran twice, whichever way they differ."""
    writer = db.fork()
    once = stage(writer, {"k": "once", "only once": 1, "gone": 1})
    again = stage(writer, {"k": "again"}, ["gone", "back"])
    assert db.merge(once, again, stage(writer, {"back": 2}))
    assert read(opener) == {
        "a": 1,
        "b": LONG,
        "c": 3,
        "k": "again",
        "only once": 1,
        "back": 2,
    }


def test_inside_one_staging_the_last_write_counts(db: EBooklet[Any], opener: Opener) -> None:
    """As in a dict; timestamps may be given."""
    writer = db.fork()
    with writer:
        writer["k"] = LONG
        writer["k"] = 2
        writer["gone"] = 1
        del writer["gone"]
        del writer["a"]
        writer.set("a", 5, timestamp=77)
    db.merge(writer.result)
    assert read(opener) == {"a": 5, "b": LONG, "c": 3, "k": 2}
    assert db.get_timestamp("a") == 77


def test_nothing_staged_is_no_commit(db: EBooklet[Any]) -> None:
    """Neither of no results, nor of empty ones, nor of what is there already."""
    writer = db.fork()
    assert not db.merge()
    with pytest.raises(TypeError, match=r"merge\(\*results\)"):
        db.merge([stage(writer)])  # type: ignore[call-overload]  # wrong on purpose
    assert not db.merge(stage(writer))
    assert not db.merge(stage(writer, {}, ["never there"])).updated
    with writer:
        writer.set("a", 1, timestamp=db.get_timestamp("a"))
    assert not db.merge(writer.result)


@pytest.mark.parametrize("held", [True, False])
def test_where_the_table_lies(
    db: EBooklet[Any], opener: Opener, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """A result is of bounded size: beyond it, its keys lie in the bucket."""
    if not held:
        monkeypatch.setattr(tables, "HELD_BYTES", 1000)
    content = {f"k{n:04}": f"{n}" for n in range(500)}
    result = stage(db.fork(), content, [f"d{n:04}" for n in range(500)])
    size = len(pickle.dumps(result))
    assert (size > 15_000) is held
    assert size < tables.HELD_BYTES + 2_000
    assert db.merge(result)
    assert read(opener) == {"a": 1, "b": LONG, "c": 3, **content}


def test_many_small_segments_become_few(
    db: EBooklet[Any], opener: Opener, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tasks there were, the head stays small; large segments stay where they are."""
    monkeypatch.setattr(committing, "_FEW_ROWS", 3)
    monkeypatch.setattr(committing, "_LARGE_SEGMENT", 50_000)
    writer = db.fork()
    results = [stage(writer, {f"k{n:02}": str(n) + LONG}) for n in range(40)]
    large = [stage(writer, {f"large{n}": str(n) + "y" * 60_000}) for n in range(4)]
    assert db.merge(*results, *large)
    assert len(named(head_of(url)) & sids(*results, *large)) == 4
    assert len(named(head_of(url))) <= 7
    assert len(read(opener)) == 47


def test_merges_alone_do_not_make_a_long_table(
    db: EBooklet[Any], opener: Opener, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is only ever merged into lays its small segments together, as pushes do."""
    monkeypatch.setattr(committing, "_FEW_ROWS", 12)
    for round_ in range(6):
        writer = db.fork()
        assert db.merge(*(stage(writer, {f"{round_}/{n}": LONG + str(n)}) for n in range(10)))
        assert len(named(head_of(url))) <= 14
    assert len(read(opener)) == 63


# Races, conflicts, repetitions


@pytest.mark.parametrize("conflict", ["error", "ours", "theirs"])
def test_keys_that_others_changed_since(db: EBooklet[Any], opener: Opener, conflict: Any) -> None:
    """Others' keys stay, equal values agree, and what differs goes as `conflict` says."""
    result = stage(db.fork(), {"a": 10, "b": LONG + "ours", "same": LONG}, ["c"])
    with opener("other", "w") as other:
        other.update({"a": 11, "c": 33, "same": LONG, "others": 1})
        other.push()
    if conflict == "error":
        with pytest.raises(ConflictError, match="conflict='ours'") as caught:
            db.merge(result)
        assert caught.value.keys == ("a", "c")
        assert read(opener)["b"] == LONG
        return
    assert db.merge(result, conflict=conflict)
    kept = {"a": 10} if conflict == "ours" else {"a": 11, "c": 33}
    assert read(opener) == {**kept, "b": LONG + "ours", "same": LONG, "others": 1}


def test_a_function_decides(db: EBooklet[Any], opener: Opener) -> None:
    """It is shown the values of all three sides, absent ones too, and may make another."""
    result = stage(db.fork(), {"a": 10, "b": "ours", "new": LONG + "ours"}, ["c"])
    with opener("other", "w") as other:
        other.update({"a": 11, "c": 33, "new": LONG + "theirs"})
        del other["b"]
        other.push()
    shown: dict[str, tuple[Any, Any, Any]] = {}

    def decide(key: str, *sides: Any) -> Any:
        shown[key] = sides
        return {"a": 21, "c": ebooklet.ABSENT, "new": LONG + "both", "b": sides[1]}[key]

    assert db.merge(result, conflict=decide)
    assert shown == {
        "a": (1, 10, 11),
        "b": (LONG, "ours", ebooklet.ABSENT),
        "c": (3, ebooklet.ABSENT, 33),
        "new": (ebooklet.ABSENT, LONG + "ours", LONG + "theirs"),
    }
    assert read(opener) == {"a": 21, "b": "ours", "new": LONG + "both"}


class Rules:
    """A plugin that is told of commits, refuses those without a message, and settles conflicts."""

    def __init__(self) -> None:
        self.told: list[int] = []

    @hookimpl
    def before_push(self, message: str | None) -> None:
        if message is None:
            raise PermissionError("say why")

    @hookimpl
    def after_push(self, result: ebooklet.PushResult) -> None:
        self.told.append(result.n_set)

    @hookimpl
    def on_conflict(self, conflict: Conflict) -> Any:
        return "theirs" if conflict.key == "a" else None


def test_hooks_are_asked_and_told(opener: Opener, db: EBooklet[Any]) -> None:
    """As of a push: they may refuse it, decide conflicts before the policy does, and learn of it."""
    rules = Rules()
    with opener("hooked", "w", plugins=[rules]) as hooked:
        result = stage(hooked.fork(), {"a": 10, "c": 30})
        db.update({"a": 11, "c": 33})
        db.push()
        with pytest.raises(PermissionError, match="say why"):
            hooked.merge(result)
        with pytest.raises(ConflictError) as caught:
            hooked.merge(result, message="why")
        assert caught.value.keys == ("c",)
        assert hooked.merge(result, message="why", conflict="ours")
    assert rules.told == [1]
    assert read(opener) == {"a": 11, "b": LONG, "c": 30}


def test_a_lost_race_builds_on_the_winner(opener: Opener, url: str) -> None:
    """The head moves between the upload and its own move: rebased, segments kept."""
    inner = store_of(url)
    store = FaultyRemoteStore(inner)
    with opener() as first:
        first.push()

    def commit() -> None:
        with opener("other", "w") as other:
            other["others"] = LONG
            other.push()

    with ebooklet.open(store, None, "w", lock="optimistic") as db:
        result = stage_here(db.fork(), {"k": LONG})
        store.add(StoreRule(StoreFault.DELAY, op="cas", amount=0, then=commit))
        assert db.merge(result).seq == 3
        assert sids(result) <= named(head_of(url))
        assert dict(db.items()) == {"others": LONG, "k": LONG}


def stage_here(writer: StagedWriter[Any], sets: Mapping[str, Any]) -> Staged:
    """`stage` in this process alone, for stores that do not travel."""
    with writer:
        writer.update(sets)
    return writer.result


def test_a_lost_answer_is_one_commit(opener: Opener, url: str) -> None:
    """The head was moved and nobody heard of it: found in history, not merged again."""
    store = FaultyRemoteStore(store_of(url))
    with opener() as first:
        first.push()
    with ebooklet.open(store, None, "w", lock="optimistic") as db:
        result = stage_here(db.fork(), {"k": LONG})
        store.add(StoreRule(StoreFault.LOSE_ANSWER, op="cas"))
        assert db.merge(result).seq == 2
    assert head_of(url).seq == 2


@pytest.mark.parametrize("foreign", [1, 80])
def test_merged_again_after_a_crash(opener: Opener, url: str, foreign: int) -> None:
    """Whoever merges the same results again finds out that it is done, however many commits ago.

    Fails without: the write id made of the results' ids (`_write_id`): what was deleted since would
    come back.
    """
    with opener() as db:
        db.push()
        results = [stage(db.fork(), {"k": LONG}), stage(db.fork(), {"deleted since": LONG})]
        done = db.merge(*results)
        del db["deleted since"]
        for n in range(foreign):
            db["n"] = n
            db.push()
    with opener("another", "w") as db:
        for same in (results, results[::-1]):
            again = db.merge(*same)
            assert (again.updated, again.seq, again.commit) == (False, done.seq, done.commit)
        assert not db.merge(results[0])  # by itself: what is there already
        assert dict(db.items()) == {"k": LONG, "n": foreign - 1}
    assert head_of(url).seq == done.seq + foreign


def test_on_branches(opener: Opener, db: EBooklet[Any]) -> None:
    """A merge goes to the branch of its handle; the same results can go to another as well."""
    db.branch("side")
    with opener("side", "w", branch="side") as side:
        result = stage(side.fork(), {"k": LONG}, ["a"])
        assert side.merge(result)
        assert not side.merge(result)
        assert dict(side.items()) == {"b": LONG, "c": 3, "k": LONG}
        assert read(opener) == {"a": 1, "b": LONG, "c": 3}
        db.pull()
        assert db.merge(result)
    assert read(opener) == {"b": LONG, "c": 3, "k": LONG}


def test_a_branch_of_the_same_name_has_not_merged_it(opener: Opener, db: EBooklet[Any]) -> None:
    """What the history tells of a branch that was deleted says nothing of the one that took its name.

    Fails without: `_led_to`.
    """
    db.branch("side")
    with opener("side", "w", branch="side") as side:
        result = stage(side.fork(), {"k": LONG})
        assert side.merge(result)
    db.delete_branch("side")
    db.branch("side")
    with opener("again", "w", branch="side") as side:
        assert side.merge(result)
        assert dict(side.items()) == {"a": 1, "b": LONG, "c": 3, "k": LONG}
        assert side.fsck(check_objects=True).ok


def test_two_merge_the_same_at_once(opener: Opener, db: EBooklet[Any], url: str) -> None:
    """Who loses the race finds it done, and stands on the other's commit, not on one of its own.

    Fails without: `_is_anothers`. Both have one write id, and the loser took the winner's for its own.
    """
    store = FaultyRemoteStore(store_of(url))
    result = stage(db.fork(), {"a": LONG, "b": 5})
    done: list[Any] = []
    with ebooklet.open(store, None, "w", lock="optimistic") as loser:
        win = lambda: done.append(db.merge(result))  # noqa: E731
        store.add(StoreRule(StoreFault.DELAY, op="cas", amount=0, then=win))
        lost = loser.merge(result)
        assert (lost.updated, lost.seq, lost.commit) == (False, done[0].seq, done[0].commit)
        assert loser._copy.base is not None
        assert loser._copy.base.ref == head_of(url).branch.commit
        loser["c"] = 4
        assert loser.push()
    assert read(opener) == {"a": LONG, "b": 5, "c": 4}


def test_a_merge_of_old_is_not_taken_for_one_that_lost_its_race(opener: Opener, url: str) -> None:
    """Merged again when the first time is retained no more: a lost race is one, and is run again.

    Fails without: another write id. The row of the first merge, which the head still lists, would
    pass for this one's.
    """
    store = FaultyRemoteStore(store_of(url))
    with opener(history=0) as db:
        db.push()
        result = stage(db.fork(), {"k": 1})
        db.merge(result)
        del db["k"]
        db.push()
        db.gc(grace=timedelta(0))

        def commit() -> None:
            db["others"] = 2
            db.push()

        with ebooklet.open(store, None, "w", lock="optimistic") as other:
            store.add(StoreRule(StoreFault.DELAY, op="cas", amount=0, then=commit))
            assert other.merge(result)
    assert read(opener) == {"k": 1, "others": 2}


# Garbage collection between the staging and the merge


def test_swept_before_the_merge(db: EBooklet[Any], url: str, opener: Opener) -> None:
    """What was collected is refused by name, and merging what a second run gave works.

    Fails without: the floor check of `_kept_segments`: the head would name a segment that is gone.
    """
    kept = stage(db.fork(), {"in the result": 1})
    lost = stage(db.fork(), {"k": LONG})
    assert len(sweep_all(store_of(url))) == 1
    with pytest.raises(StagedExpired, match="run the task that gave this result") as caught:
        db.merge(kept, lost)
    assert caught.value.number == 1
    assert "k" not in db
    assert db.merge(kept, stage(db.fork(), {"k": LONG}))
    assert read(opener) == {"a": 1, "b": LONG, "c": 3, "in the result": 1, "k": LONG}


def floor_above(head: Head, result: Staged) -> Mapping[str, Any]:
    return {"gc": Gc(head.gc.epoch, max(map(sid_ms, sids(result))))}


def epoch_later(head: Head, result: Staged) -> Mapping[str, Any]:
    return {"gc": replace(head.gc, epoch=head.gc.epoch + 1)}


@pytest.mark.parametrize("change", [floor_above, epoch_later])
@pytest.mark.parametrize("late", [False, True])
def test_what_may_be_collected_is_laid_anew(
    db: EBooklet[Any], opener: Opener, url: str, change: Any, late: bool
) -> None:
    """Garbage was collected since it was staged, before the merge or in its midst, and it is there yet.

    Fails without: the floor check, or `_is_sound`'s comparison of the epochs.
    """
    result = stage(db.fork(), {"k": LONG})
    store = FaultyRemoteStore(store_of(url))
    with ebooklet.open(store, None, "w", lock="optimistic") as other:
        if late:
            collect = lambda: amend(store_of(url), lambda head: change(head, result))  # noqa: E731
            store.add(StoreRule(StoreFault.DELAY, op="cas", amount=0, then=collect))
        else:
            amend(store_of(url), lambda head: change(head, result))
        # The place is another's, whose location is the same.
        assert other.merge(replace(result, location=other._copy.location))
    assert not sids(result) & named(head_of(url))
    store_of(url).delete([segment_key("db", sid) for sid in sids(result)])
    assert read(opener) == {"a": 1, "b": LONG, "c": 3, "k": LONG}


def test_a_head_that_left_no_row_in_history(opener: Opener, url: str) -> None:
    """A tag, in a head whose rows are full, is no reason to lay anything anew."""
    with opener() as db:
        for n in range(64):
            db["n"] = n
            db.push()
        db.tag("v1")
        assert head_of(url).recent[-1].write_id != head_of(url).write_id
        result = stage(db.fork(), {"k": LONG})
        db["n"] = "pushed"
        db.push()
        assert db.merge(result)
        assert sids(result) <= named(head_of(url))


def test_merged_dropped_and_collected(opener: Opener, url: str) -> None:
    """What a commit named once, and no longer, is gone, though it lies above the floor.

    Fails without: `_is_sound`'s comparison of the epochs.
    """
    with opener(history=0) as db:
        db.push()
        once = stage(db.fork(), {"k": LONG})
        db.merge(once)
        del db["k"]
        db.push()
        (key,) = (segment_key("db", sid) for sid in sids(once))
        assert key in db.gc(grace=timedelta(days=7)).dropped  # deleted in time, by any collection
        assert all(sid_ms(sid) > head_of(url).gc.floor for sid in sids(once))
        store_of(url).delete([key])
        other = stage(db.fork(), {"m": LONG})
        with pytest.raises(StagedExpired) as caught:
            db.merge(other, once, conflict="ours")
        assert caught.value.number == 1
    assert read(opener) == {}


def test_a_database_created_anew_meanwhile(opener: Opener, url: str) -> None:
    """What young orphans a deletion left are laid anew, and what it took is refused.

    Fails without: the epoch that `first_head` raises.
    """
    with opener() as db:
        db["a"] = 1
        db.push()
        result, gone = stage(db.fork(), {"k": LONG}), stage(db.fork(), {"gone": LONG})
        db.delete_remote()
        store_of(url).delete([segment_key("db", sid) for sid in sids(gone)])
        with pytest.raises(ebooklet.EBookletError, match="no database here any more"):
            db.merge(result)
        db.push()
        assert db.merge(result)
        assert not sids(result) & named(head_of(url))
        with pytest.raises(StagedExpired):
            db.merge(gone)
    assert read(opener) == {"a": 1, "k": LONG}


def test_a_database_created_anew_by_who_knows_nothing(
    opener: Opener, url: str, tmp_path: Path
) -> None:
    """A local file without its folder begins the counting again, under the same uuid.

    Fails without: `_is_sound`'s look for the head that the writer saw.
    """
    with opener() as db:
        db["a"] = 1
        db.push()
        result = stage(db.fork(), {"k": LONG})
    with opener("a", "w") as db:
        db.delete_remote()
    shutil.rmtree(tmp_path / "a.blt.ebk")
    with opener("a", "c") as db:
        db.push()
        assert head_of(url).seq == 1
        assert db.merge(result, conflict="ours")
        assert not sids(result) & named(head_of(url))
    assert read(opener) == {"a": 1, "k": LONG}


def test_another_place_of_the_same_database(opener: Opener, url: str) -> None:
    """A copy has the uuid and not the segments: nothing of them is named there."""
    copy_url = f"{url}-copy"
    with opener() as db:
        db.push()
        db.copy_remote(copy_url)
        result = stage(db.fork(), {"k": LONG})
    with ebooklet.open(copy_url, None, "w") as copy, pytest.raises(StagedExpired):
        copy.merge(result)


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_anything(opener: Opener, url: str, seed: int) -> None:
    """Staging, merging, others' pushes, sweeps and gc with no grace: nothing dangles, or is lost.

    Fails without: the floor check of `_kept_segments`, or the epochs in `_is_sound`.
    """
    chance = random.Random(seed)
    oracle: dict[str, Any] = {}
    staged: list[tuple[Staged, dict[str, Any]]] = []
    with opener("other") as other:
        other.push()
    with opener("other", "w", history=0) as other, opener("driver", "w") as db:
        for step in range(14):
            match chance.choice("ssmmpgc"):
                case "s":
                    content = {f"k{chance.randrange(6)}": f"{step}" + LONG * chance.randrange(2)}
                    staged.append((stage(db.fork(), content), content))
                case "m" if staged:
                    chosen = [chance.choice(staged) for _ in range(2)]
                    try:
                        merged = db.merge(*(result for result, _ in chosen), conflict="ours")
                    except StagedExpired:
                        continue
                    if merged.updated:
                        for _, content in chosen:
                            oracle |= content
                case "p":
                    other.pull()
                    other[f"k{chance.randrange(6)}"] = oracle_value = f"pushed at {step}"
                    key = next(change["key"] for change in other.changes())
                    other.push(conflict="ours")
                    oracle[key] = oracle_value
                case "g":
                    sweep_all(store_of(url))
                case "c":
                    assert other.gc(grace=timedelta(0))
            assert read(opener) == oracle


# Encryption, dictionaries, serializers


def test_encrypted(opener: Opener, url: str, tmp_path: Path) -> None:
    """Writers take the path of the key file and no key; neither values nor keys travel in the clear."""
    keys = KeyFile.generate(tmp_path / "keys.json", key_id="old")
    with opener(encryption=keys) as db:
        db.push()
        writer = db.fork()
        secret = keys.key("old")
        assert secret not in pickle.dumps(writer)
        result = stage(writer, {"secret name": "secret value", "long": "secret" + LONG})
        assert b"secret" not in pickle.dumps(result)
        rotated = stage(writer, {"rotated": LONG})
        assert db.merge(result)
        keys.add("new")
        assert db.rotate_keys()
        assert db.merge(rotated)
        assert not sids(rotated) & named(head_of(url))  # laid anew, under the new key
        assert head_of(url).tip.key_ids == ("new",)
    with opener("cold", "r", encryption=keys) as reader:
        assert dict(reader.items()) == {
            "secret name": "secret value",
            "long": "secret" + LONG,
            "rotated": LONG,
        }


def test_keys_at_hand_do_not_travel(opener: Opener, tmp_path: Path) -> None:
    """The message says how writers find them; in this process they are at hand."""
    path = tmp_path / "keys.json"
    keys = KeyFile.generate(path, key_id="k")
    with opener(encryption=Encryption({"k": keys.key("k")}, current="k")) as db:
        db.push()
        with pytest.raises(EncryptionError, match=r"fork\(encryption="):
            pickle.dumps(db.fork())
        here = stage_here(db.fork(), {"here": 1})
        assert db.merge(here, stage(db.fork(encryption=keys), {"there": LONG}))
        assert dict(db.items()) == {"here": 1, "there": LONG}


def test_dictionaries(opener: Opener) -> None:
    """Writers compress with the newest that the database lists, and readers need no other."""
    content = {
        f"k{n:04}": {"id": n, "kind": "sample", "where": [n / 7, n / 11]} for n in range(600)
    }
    with opener(value_serializer="json+zstd:dict") as db:
        db.update(content)
        db.push()
        writer = db.fork()
        assert len(pickle.dumps(writer)) < 2_000  # not in it
        more = {f"m{n:04}": value for n, value in enumerate(content.values())}
        result = stage(writer, more)
        assert result.seen.dictionary is not None
        assert db.merge(result)
        lost = replace(result, id=bytes(16), seen=replace(result.seen, dictionary=7))
        with pytest.raises(StagedExpired, match="dictionary"):
            db.merge(lost)
    assert read(opener) == content | more


def test_what_does_not_serialise(db: EBooklet[Any]) -> None:
    """It says which key; the staging goes on, if the caller does."""
    writer = db.fork()
    with writer:
        with pytest.raises(SerializationError) as caught:
            writer["k"] = object()
        assert caught.value.key == "k"
        with pytest.raises(TypeError):
            writer[3] = 1  # type: ignore[index]  # wrong on purpose
        writer["good"] = 1
    assert db.merge(writer.result).n_set == 1


# Care


def test_a_writer_is_used_inside_with(db: EBooklet[Any]) -> None:
    """Before and after it says so; an error inside leaves no result; twice at once is refused."""
    writer = db.fork()
    with pytest.raises(ValueError, match="inside `with"):
        writer["k"] = 1
    with pytest.raises(ValueError, match="has ended well"):
        _ = writer.result
    with writer:
        writer["k"] = 1
        with pytest.raises(ValueError, match="in use in this thread"):
            writer.__enter__()
        assert "writing" in repr(writer)
    assert writer.result.n_set == 1

    def fail() -> None:
        with writer:
            writer["k"] = 2
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with pytest.raises(ValueError, match="has ended well"):
        _ = writer.result


def test_threads_that_share_a_writer_stage_apart(db: EBooklet[Any], opener: Opener) -> None:
    """Each has a result of its own."""
    writer = db.fork()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: stage_here(writer, {f"k{n}": LONG}), range(8)))
    assert [each.n_set for each in results] == [1] * 8
    assert db.merge(*results).n_set == 8
    assert len(read(opener)) == 11


def test_of_built_parts() -> None:
    """A `Database` forks as well: the parts are at hand in this process."""
    clock = SystemClock()
    half = LocalHalf(open_store=open_store, path=None, clock=clock)
    store = MemoryRemoteStore()
    with Database[str](local=half, remote=store, serializer=JSON, clock=clock) as db:
        db.push()
        writer = db.fork()
        with writer:
            writer["k"] = LONG
        assert db.merge(writer.result)
        assert dict(db.items()) == {"k": LONG}


def test_what_cannot_be_forked(opener: Opener, url: str, db: EBooklet[Any]) -> None:
    """Each refusal is typed, and says what to do."""
    with opener("reader", "r") as reader, pytest.raises(ReadOnlyError):
        reader.fork()
    with (
        opener("reader", "r", offline=True) as reader,
        pytest.raises((OfflineError, ReadOnlyError)),
    ):
        reader.fork()
    with ebooklet.open(None, None, "c") as alone, pytest.raises(RemoteMissingError):
        alone.fork()
    with (
        ebooklet.open(f"{url}-new", None, "c") as new,
        pytest.raises(RemoteMissingError, match="push"),
    ):
        new.fork()
    with ebooklet.open_rcg(f"{url}-group", None, "c") as group:
        group.push()
        with pytest.raises(TypeError, match="add"):
            group.fork()
    result = stage(db.fork(), {"k": 1})
    db.clear()
    with pytest.raises(ReplaceConflict):
        db.fork()
    with pytest.raises(ReplaceConflict):
        db.merge(result)
    db.close()
    with pytest.raises(ValueError, match="closed"):
        db.merge(result)


def test_another_database(db: EBooklet[Any], url: str) -> None:
    """What was staged for one cannot be merged into another, nor staged where another is by now."""
    writer = db.fork()
    result = stage(writer, {"k": LONG})
    with ebooklet.open(f"{url}-2", None, "c", "json") as other:
        other.push()
        with pytest.raises(UUIDMismatchError):
            other.merge(result)
    db.delete_remote()
    with pytest.raises(RemoteMissingError, match="as seen from here"), writer:
        pass
    with ebooklet.open(url, None, "c", "json", lock="optimistic") as new:
        new.push()
        with pytest.raises(UUIDMismatchError), writer:
            pass


def test_repr_shows_no_secret() -> None:
    """Neither of the writer nor of what it carries."""
    connection = ebooklet.S3Connection("AKID", "s3cret", "db", "bucket")
    from ebooklet.bootstrap.staging import WriterPlace

    assert "s3cret" not in repr(WriterPlace({"access_key": "s3cret"}))
    assert "s3cret" not in repr(WriterPlace(connection))


# map


def pair(key: str, value: Any) -> tuple[str, Any] | None:
    return None if key == "c" else (f"{key}!", value)


def test_map_that_writes(db: EBooklet[Any], opener: Opener) -> None:
    """Results go straight into the bucket, and one merge commits them."""
    with ThreadPoolExecutor(2) as pool:
        staged = list(db.map(pair, executor=pool, write=True))
        assert read(opener) == {"a": 1, "b": LONG, "c": 3}
        assert db.merge(*staged).n_set == 2
        assert read(opener) == {"a": 1, "b": LONG, "c": 3, "a!": 1, "b!": LONG}
        for wrong, told in (
            ("a", "one str"),
            (("a", 1, 2), "a tuple of 3"),
            ((1, "a"), "a key of type int"),
        ):
            with pytest.raises(TypeError, match=f"pairs .*for 'b' it returned {told}"):
                list(db.map(lambda *_, w=wrong: w, ["b"], executor=pool, write=True))
