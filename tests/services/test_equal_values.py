"""Values that both sides have: local copies stay, times follow, and nobody fetches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import booklet
import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag
from ebooklet.testing.faulty import FaultyRemoteStore
from tests.services.conftest import kinds

LARGE = "x" * 500  # stored apart from the index


@pytest.fixture
def store() -> FaultyRemoteStore:
    """A remote that counts."""
    return FaultyRemoteStore(MemoryRemoteStore())


@pytest.fixture
def two(store: FaultyRemoteStore, tmp_path: Path) -> Any:
    """Two local files of one database with a large and a small value, both loaded."""

    def open_(name: str, flag: Flag = "w") -> EBooklet[Any]:
        made: dict[str, Any] = {"value_serializer": "json"} if flag == "c" else {}
        return open_database(
            store,
            tmp_path / f"{name}.blt",
            flag,
            lock="optimistic",
            **made,
        )

    with open_("a", "c") as a:
        a.update({"k": LARGE, "small": 1, "other": 2})
        a.push()
    with open_("b", "c") as b:
        b.load_items()
    return open_


def test_an_equal_change_keeps_its_local_copy(store: FaultyRemoteStore, two: Any) -> None:
    """Both wrote the same value: it stays here, under the remote's time, read without a request."""
    with two("a") as a, two("b") as b:
        a.set("k", "y" * 500, timestamp=5_000)
        b.set("k", "y" * 500, timestamp=9_000)
        a.push()
        b.pull()
        store.calls.clear()
        assert b["k"] == "y" * 500
        assert store.calls == []
        assert kinds(b) == {"k": "modified"}
        # Of two times the later one counts, whichever side pulls.
        assert b.get_timestamp("k") == 9_000
        b.push()
        a.pull()
        assert a.get_timestamp("k") == 9_000
        assert (kinds(a), kinds(b)) == ({}, {})


def test_the_earlier_of_two_times_gives_way(store: FaultyRemoteStore, two: Any) -> None:
    """Nothing stays pending, and the copy here takes the remote's time over without a fetch."""
    with two("a") as a, two("b") as b:
        a.set("k", "y" * 500, timestamp=9_000)
        b.set("k", "y" * 500, timestamp=5_000)
        a.push()
        b.pull()
        store.calls.clear()
        assert (b["k"], b.get_timestamp("k"), kinds(b)) == ("y" * 500, 9_000, {})
        assert store.calls == []


def test_a_pull_takes_times_over(store: FaultyRemoteStore, two: Any) -> None:
    """A timestamp set elsewhere reaches copies that are here, which are not fetched again."""
    with two("a") as a, two("b") as b, two("b2", "c") as cold:
        a.set_timestamp("k", 7_000)
        a.set("small", 1, timestamp=8_000)
        a.push()
        assert b.pull().n_changed == 2
        store.calls.clear()
        assert b["k"] == LARGE
        assert store.calls == []
        cold.pull()
        for db in (b, cold):
            assert (db.get_timestamp("k"), db.get_timestamp("small")) == (7_000, 8_000)
            assert dict(db.timestamps())["k"] == 7_000
            assert kinds(db) == {}


def test_times_taken_over_are_no_edit_later(two: Any, tmp_path: Path) -> None:
    """An edit of another key with plain Booklet does not put the old time back."""
    with two("a") as a, two("b") as b:
        a.set_timestamp("k", 7_000)
        a.push()
        b.pull()
    with booklet.open(tmp_path / "b.blt", "w") as plain:
        plain["other"] = 3
        assert plain.get_timestamp("k") == 7_000
    with two("b") as b:
        assert kinds(b) == {"other": "modified"}
        b.push()
    with two("a") as a:
        assert a.get_timestamp("k") == 7_000


def test_a_time_set_here_meets_a_time_set_there(two: Any) -> None:
    """The later one counts, on both sides, and it is no conflict."""
    for mine, theirs in ((5_000, 9_000), (9_000, 5_000)):
        with two("a") as a, two("b") as b:
            a.set_timestamp("k", theirs)
            a.push()
            b.set_timestamp("k", mine)
            b.push()
            a.pull()
            assert a.get_timestamp("k") == b.get_timestamp("k") == 9_000
            a.set_timestamp("k", 1_000)
            a.push()


def test_an_overwritten_value_does_not_disturb_an_iteration(two: Any) -> None:
    """A pull that changes values, but not the set of keys, is like overwriting them."""
    with two("a") as a, two("b") as b:
        a["k"] = "new"
        a.push()
        keys = iter(b)
        next(keys)
        b.pull()
        assert len(list(keys)) == 2
        a["added"] = 1
        a.push()
        keys = iter(b)
        next(keys)
        b.pull()
        with pytest.raises(RuntimeError):
            list(keys)
