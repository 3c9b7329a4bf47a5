"""What one writer's push means to another: merges, conflicts, replacements."""

from __future__ import annotations

from typing import Any

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import (
    ConflictError,
    OutcomeUnknown,
    PushInProgressError,
    ReadOnlyError,
    RemoteDeleted,
    RemoteMissingError,
    RemoteRewound,
    ReplaceConflict,
    UUIDMismatchError,
)

from .conftest import Opener, kinds, store_of


def start(opener: Opener, **content: Any) -> None:
    with opener("a", "c") as db:
        db.update(content)
        db.push()


def test_writers_of_different_keys_merge(opener: Opener) -> None:
    """A lost race rebases and both commits are in the result."""
    start(opener, a=1, b=2)
    with opener("a", "w") as one, opener("b", "c") as two:
        one["x"] = 1
        two["y"] = 2
        del two["b"]
        assert one.push().updated
        assert two.push().updated
        assert dict(two.items()) == {"a": 1, "x": 1, "y": 2}
        assert one.pull().updated
        assert dict(one.items()) == dict(two.items())
        assert len(one) == 3


def test_a_conflict_is_reported_and_everything_stays_pending(opener: Opener) -> None:
    """The keys are named, nothing is committed, and each way out works."""
    start(opener, a=1, b=2)
    with opener("a", "w") as one, opener("b", "c") as two:
        one["a"], two["a"] = "one", "two"
        two["free"] = True
        one.push()
        with pytest.raises(ConflictError, match="'a' changed both") as error:
            two.push()
        assert error.value.keys == ("a",)
        assert kinds(two) == {"a": "modified", "free": "added"}
        assert two["a"] == "two"
        with opener("c", "c") as third:
            assert third["a"] == "one"
            assert "free" not in third
        assert two.push(conflict="ours").updated
        one.pull()
        assert one["a"] == "two"


def test_theirs_gives_way(opener: Opener) -> None:
    """With "theirs" the remote's value is read again and the rest is pushed."""
    start(opener, a=1)
    with opener("a", "w") as one, opener("b", "c", conflict="theirs") as two:
        one["a"], two["a"], two["b"] = "one", "two", 3
        one.push()
        assert two.push().n_set == 1
        assert two["a"] == "one"
        assert dict(two.items()) == {"a": "one", "b": 3}


def test_a_conflict_survives_close_and_is_settled_by_discard(opener: Opener) -> None:
    """It is warned of once and told again by every pull, through a reopen; discard settles it."""
    start(opener, a=1)
    with opener("b", "c") as two:
        assert two["a"] == 1
        two["a"] = "two"
    with opener("a", "w") as one:
        one["a"] = "one"
        one.push()
    with pytest.warns(UserWarning, match="'a' changed both"), opener("b", "w") as two:
        assert two["a"] == "two"
    with opener("b", "w") as two:
        two["free"] = 1
        with pytest.raises(ConflictError):
            two.push()
        assert two.changes().conflicts == {"a"}
        assert [(c["key"], c["conflict"]) for c in two.changes()] == [("a", True), ("free", False)]
        again = two.pull()
        assert (again.updated, again.conflicts) == (False, ("a",))
        two.changes().discard(["a", "free"])
        assert (two.pull().conflicts, two.changes().conflicts) == ((), frozenset())
        assert two["a"] == "one"
        assert not two.push().updated


def test_delete_against_modify_is_a_conflict(opener: Opener) -> None:
    """A deletion is a value like any other."""
    start(opener, a=1)
    with opener("a", "w") as one, opener("b", "c") as two:
        del one["a"]
        two["a"] = 2
        one.push()
        with pytest.raises(ConflictError, match="changed both"):
            two.push()


def test_equal_changes_on_both_sides_agree(opener: Opener) -> None:
    """The same value written twice is no conflict, whatever the timestamps."""
    start(opener, a=1)
    with opener("a", "w") as one, opener("b", "c") as two:
        one["a"] = two["a"] = 5
        del one["a"]
        one["a"] = 5
        one.push()
        two.push()
        assert dict(two.items()) == {"a": 5}


def test_pull_drops_stale_copies_only(opener: Opener) -> None:
    """A changed value is fetched anew; an unchanged one is still local."""
    start(opener, a=1, b=2)
    with opener("b", "c") as two:
        two.load_items()
        with opener("a", "w") as one:
            one["a"] = 10
            one.push()
        assert two["a"] == 1
        result = two.pull()
        assert (result.updated, result.n_changed) == (True, 1)
        assert two._copy.local.get("a") is None
        assert two._copy.local.get("b") is not None
        assert two["a"] == 10


def test_nothing_to_do_commits_nothing(opener: Opener) -> None:
    """An empty push is falsy; forced, it commits."""
    start(opener, a=1)
    with opener("a", "w") as db:
        assert not db.push()
        forced = db.changes().push(force_push=True)
        assert forced.updated
        assert forced.seq == 2


def test_an_empty_database_is_created_by_its_first_push(opener: Opener) -> None:
    """The first push commits even when there is nothing in it."""
    with opener("a", "c") as db:
        assert db.push().updated
    with opener("b", "c") as db:
        assert len(db) == 0


def test_flag_n_replaces_in_one_step_at_the_push(opener: Opener) -> None:
    """Empty at once; the remote is untouched until the push; the intent survives a close."""
    start(opener, a=1, b=2)
    with opener("n", "n") as new:
        assert len(new) == 0
        assert "a" not in new
        new["c"] = 3
        with opener("b", "c") as reader:
            assert dict(reader.items()) == {"a": 1, "b": 2}
    with pytest.warns(UserWarning, match="replaces the whole remote"):
        new = opener("n", "w")
    with new:
        assert dict(new.items()) == {"c": 3}
        assert kinds(new) == {"a": "deleted", "b": "deleted", "c": "added"}
        assert new.push().updated
        new["d"] = 4
        new.push()
        assert dict(new.items()) == {"c": 3, "d": 4}
    with opener("b", "c") as reader:
        assert dict(reader.items()) == {"c": 3, "d": 4}


def test_a_replacement_never_rebases(opener: Opener) -> None:
    """A head that moved stops it; force_push replaces all the same."""
    start(opener, a=1)
    with opener("n", "n") as new:
        new["only"] = 1
        with opener("a", "w") as one:
            one["b"] = 2
            one.push()
        with pytest.raises(ReplaceConflict):
            new.push()
        assert new.push(force_push=True).updated
    with opener("b", "c") as reader:
        assert dict(reader.items()) == {"only": 1}


def test_a_replacement_does_not_rebase_over_a_close_either(opener: Opener) -> None:
    """Another commit between two sessions is met by the push, not taken in by the open."""
    start(opener, a=1)
    with opener("n", "n") as new:
        new["only"] = 1
    with opener("a", "w") as one:
        one["b"] = 2
        one.push()
    with pytest.warns(UserWarning, match="replaces the whole remote"):
        new = opener("n", "w")
    with new:
        new.pull()
        with pytest.raises(ReplaceConflict):
            new.push()
        assert new.push(force_push=True).updated
        assert dict(new.items()) == {"only": 1}
    with opener("b", "c") as reader:
        assert dict(reader.items()) == {"only": 1}


def test_clear_can_be_taken_back(opener: Opener) -> None:
    """discard() brings every key of the remote back."""
    start(opener, a=1, b=2)
    with opener("a", "w") as db:
        db.clear()
        assert len(db) == 0
        assert db.changes().pending_deletes == {"a", "b"}
        db.discard()
        assert dict(db.items()) == {"a": 1, "b": 2}


def test_metadata_travel_and_are_no_key(opener: Opener) -> None:
    """Pushed alone, seen by others, large ones too."""
    start(opener, a=1)
    large = {"text": "x" * 100_000}
    with opener("a", "w") as db:
        db.set_metadata({"v": 1})
        assert db.push().updated
        db.set_metadata(large, timestamp=5)
        assert db.push().updated
        assert not db.push().updated
    with opener("b", "c") as other:
        assert other.get_metadata(include_timestamp=True) == (large, 5)
        assert len(other) == 1
    with opener("c", "r") as reader:
        assert reader.get_metadata() == large


def test_timestamps_travel_with_their_keys(opener: Opener) -> None:
    """A timestamp of one's own is pushed, and changing it alone is a change."""
    with opener("a", "c") as db:
        db.set("a", 1, timestamp=1_000)
        db.push()
        db.set_timestamp("a", 2_000)
        assert kinds(db) == {"a": "modified"}
        assert db.push().n_set == 1
    with opener("b", "c") as other:
        assert other.get_timestamp("a") == 2_000
        assert list(other.timestamps(include_value=True)) == [("a", 2_000, 1)]


def test_the_wrong_local_file_is_refused(opener: Opener, url: str) -> None:
    """Two halves of different databases stay apart, unchanged."""
    start(opener, a=1)
    with opener("other", "c", value_serializer="json") as db:
        db.pull()
    store_of(url).delete(["db"])
    with opener("new", "c") as db:
        db["z"] = 1
        db.push()
    with pytest.raises(UUIDMismatchError):
        opener("a", "w")


def test_a_deleted_remote_is_said_aloud(opener: Opener, url: str) -> None:
    """Nobody creates an empty database over one that vanished under an open handle."""
    start(opener, a=1)
    with opener("a", "w") as db:
        db["b"] = 2
        store_of(url).delete(["db"])
        with pytest.raises(RemoteDeleted):
            db.push()
        assert kinds(db)["b"] in ("added", "modified")


def test_a_rewound_remote_is_refused(opener: Opener, url: str) -> None:
    """An older head than one seen before is not taken for new."""
    start(opener, a=1)
    store = store_of(url)
    old = store.get("db").body
    with opener("a", "w") as db:
        db["b"] = 2
        db.push()
    store.put("db", old)
    with pytest.raises(RemoteRewound):
        opener("a", "w")


def test_missing_databases_and_read_only_handles_refuse(opener: Opener) -> None:
    """Flags r and w create nothing; a reader writes nothing."""
    for flag in "rw":
        with pytest.raises(RemoteMissingError):
            opener("a", flag)
    start(opener, a=1)
    with opener("a", "r") as db:
        for act in (
            lambda: db.__setitem__("k", 1),
            lambda: db.__delitem__("a"),
            db.clear,
            db.push,
            db.prune,
            lambda: db.set_metadata(1),
            lambda: db.update({"a": 2}),
            lambda: db.discard(),
        ):
            with pytest.raises(ReadOnlyError):
                act()
        assert db["a"] == 1


def test_a_second_push_at_the_same_time_is_refused(opener: Opener) -> None:
    """What a push reads must not be cleared, pruned or pushed under it."""
    start(opener, a=1)
    with opener("a", "w") as db, db._copy.push_lock:
        for act in (db.push, db.clear, db.prune, db.discard):
            with pytest.raises(PushInProgressError):
                act()


def test_iteration_notices_additions_and_allows_overwriting(opener: Opener) -> None:
    """Like a dict: overwrite at will, but the set of keys must stand still."""
    start(opener, a=1, b=2, c=3)
    with opener("a", "w") as db:
        for key in db:
            db[key] = 0
        assert set(db.values()) == {0}
        iterator = iter(db)
        next(iterator)
        db["new"] = 1
        with pytest.raises(RuntimeError):
            list(iterator)
        iterator = iter(db)
        next(iterator)
        del db["a"]
        with pytest.raises(RuntimeError):
            list(iterator)


def test_counting_does_not_disturb_an_iteration(opener: Opener) -> None:
    """`len` learns which pending keys are new; that is no change of the keys."""
    start(opener, a=1, b=2)
    with opener("a", "w") as db:
        db["new"] = 3
        for iterator in (db.timestamps(), iter(db), iter(db.items())):
            next(iterator)
            assert len(db) == 3
            assert len(list(iterator)) == 2


def test_views_cover_prefixes_and_ranges(opener: Opener) -> None:
    """Sorted, served from the index and the pending changes together."""
    start(opener, a1=1, a2=2, b1=3, c=4)
    with opener("a", "w") as db:
        db["a3"] = 5
        del db["a1"]
        assert list(db.keys("a")) == ["a2", "a3"]
        assert list(db.items(start="a3", stop="c")) == [("a3", 5), ("b1", 3)]
        assert len(db.values("b")) == 1
        assert "b1" not in db.keys("a")
        assert db.keys() & {"a2", "zz"} == {"a2"}
        assert ("a2", 2) in db.items()


@pytest.mark.parametrize("landed", [True, False])
def test_a_lost_answer_is_settled_by_reading(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    """One commit, whether the head write had happened or not."""
    start(opener, a=1)
    with opener("a", "w") as db:
        store = db._copy.remote
        assert isinstance(store, MemoryRemoteStore)
        put = store.put
        lost: list[object] = []

        def losing(key: str, *args: Any, **options: Any) -> Any:
            if key == "db" and not lost:
                lost.append(key)
                if landed:
                    put(key, *args, **options)
                raise OutcomeUnknown("the answer was lost")
            return put(key, *args, **options)

        monkeypatch.setattr(store, "put", losing)
        db["b"] = 2
        assert db.push().seq == 2
        assert not db.push().updated
        assert not list(db.changes())
    with opener("b", "c") as other:
        assert dict(other.items()) == {"a": 1, "b": 2}


@pytest.mark.parametrize("policy", ["thiers", "", 5])
def test_a_misspelt_conflict_policy_decides_nothing(opener: Opener, policy: Any) -> None:
    """Refused at open and at push, before anything is looked at."""
    start(opener, a=1)
    with pytest.raises(ValueError, match="'ours'"):
        opener("a", "w", conflict=policy)
    with opener("a", "w") as one, opener("b", "c") as two:
        one["a"], two["a"] = 10, 20
        one.push()
        with pytest.raises(ValueError, match="'ours'"):
            two.push(conflict=policy)
    with opener("c", "c") as third:
        assert third["a"] == 10


def test_one_string_is_not_taken_for_keys(opener: Opener) -> None:
    """Nobody means its letters."""
    start(opener, ab=1)
    with opener("a", "w") as db:
        db["ab"] = 2
        for use in (db.discard, db.load_items, lambda keys: list(db.get_items(keys))):
            with pytest.raises(TypeError, match="one string"):
                use("ab")
        assert kinds(db) == {"ab": "modified"}


def test_views_and_changes_can_be_looked_at(opener: Opener) -> None:
    """Their repr says what they are, in any state."""
    start(opener, a=1)
    with opener("a", "w") as db:
        db["b"] = 2
        db.set_metadata(1)
        assert "RangeKeys" in repr(db.keys("a"))
        assert "RangeItems" in repr(db.items())
        assert repr(db.changes()) == "<Changes: 1 keys, metadata>"
        assert len(db.changes()) == 1
    with pytest.raises(ValueError, match="closed"):
        db.changes()
