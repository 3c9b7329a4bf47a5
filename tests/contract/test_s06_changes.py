"""Section 6, its table: what a change is, what is shown of it, and each call on it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import booklet
import pytest

import ebooklet
from ebooklet.database import EBooklet
from ebooklet.services.attempts import PushResult
from tests.contract.conftest import Place
from tests.contract.counted import Counted

LARGE = "x" * 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def kinds(db: EBooklet[Any]) -> dict[str, str]:
    return {change["key"]: change["kind"] for change in db.changes().iter_changes()}


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    """A remote that counts its calls."""
    return Counted(tmp_path)


@pytest.fixture
def db(counted: Counted) -> Iterator[EBooklet[Any]]:
    """Three committed keys, one of them large and not fetched yet."""
    with counted.open() as other:
        for key, value in (("a", 1), ("b", 2), ("large", LARGE)):
            other.set(key, value, timestamp=1_000)
        other.push()
    with counted.open("a", "w") as opened:
        yield opened


# The view.


def test_changes_syncs_and_asks_nobody(counted: Counted, db: EBooklet[Any]) -> None:
    """What was set is in the file when changes() returns, and no request was made."""
    db["new"] = 1
    counted.fail()
    counted.calls()
    ch = db.changes()
    assert counted.calls() == []
    counted.heal()
    for name in ("a.blt", "a.blt.ebk"):
        source, target = counted.folder / name, counted.folder / name.replace("a.", "copy.", 1)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    with booklet.open(counted.folder / "copy.blt") as plain:
        assert plain["new"] == 1
    with counted.open("copy", "r") as killed:
        assert kinds(killed) == {"new": "added"}
    assert bool(ch)


def test_what_is_shown_of_a_change(db: EBooklet[Any]) -> None:
    """Plain dicts with the key, both times (aware, UTC) and the kind; sorted; any number of times."""
    db.set("a", 10, timestamp=2_000)
    db.set("new", 1, timestamp=3_000)
    del db["b"]
    db.set_timestamp("large", 4_000)
    ch = db.changes()
    shown = list(ch.iter_changes())
    deleted = shown[1].pop("local_timestamp")  # type: ignore[misc]  # plain dicts, whatever their type says
    assert shown == [
        {
            "key": "a",
            "kind": "modified",
            "local_timestamp": moment(2_000),
            "remote_timestamp": moment(1_000),
            "conflict": False,
        },
        {"key": "b", "kind": "deleted", "remote_timestamp": moment(1_000), "conflict": False},
        {
            "key": "large",
            "kind": "modified",
            "local_timestamp": moment(4_000),
            "remote_timestamp": moment(1_000),
            "conflict": False,
        },
        {
            "key": "new",
            "kind": "added",
            "local_timestamp": moment(3_000),
            "remote_timestamp": None,
            "conflict": False,
        },
    ]
    assert all(type(change) is dict for change in shown)
    assert abs(deleted - datetime.now(UTC)) < timedelta(minutes=10)
    for change in ch:
        for name in ("local_timestamp", "remote_timestamp"):
            when = change[name]
            assert when is None or when.utcoffset() == timedelta(0)
    assert list(ch.iter_changes()) == list(ch) == list(db.changes())
    assert len(ch) == 4
    assert ch.pending_deletes == frozenset({"b"})
    assert isinstance(ch.pending_deletes, frozenset)


def test_a_view_is_always_current(db: EBooklet[Any]) -> None:
    """What is written, pushed or discarded later shows; update and build_changelog change nothing."""
    ch = db.changes()
    assert (list(ch), bool(ch)) == ([], False)
    db["new"] = 1
    assert [change["key"] for change in ch] == ["new"]
    ch.update()
    ch.build_changelog()
    assert [change["key"] for change in ch] == ["new"]
    steps = ch.iter_changes()
    assert next(steps)["key"] == "new"
    db["another"] = 2  # writing while iterating is no error
    assert list(steps) == []
    assert ch.push()
    assert (list(ch), bool(ch), ch.pending_deletes) == ([], False, frozenset())
    del db["new"]
    assert ch.pending_deletes == {"new"}
    ch.discard()
    assert list(ch) == []


def test_a_reader_sees_what_is_pending(counted: Counted, db: EBooklet[Any]) -> None:
    """The file's pending changes, which it reads and neither pushes nor discards."""
    db["a"] = 10
    del db["b"]
    db.close()
    with counted.open("a", "r") as reader:
        ch = reader.changes()
        assert kinds(reader) == {"a": "modified", "b": "deleted"}
        assert ch.pending_deletes == {"b"}
        assert (reader["a"], "b" in reader, len(reader)) == (10, False, 2)
        ch.update()
        for call in (ch.push, ch.discard, reader.push, reader.discard):
            with pytest.raises(ebooklet.ReadOnlyError):
                call()
        assert not ch.pull().updated
        assert kinds(reader) == {"a": "modified", "b": "deleted"}


def test_the_last_state_counts(db: EBooklet[Any], counted: Counted) -> None:
    """Deleted and set again, or set and deleted, any number of times: one change or none."""
    del db["a"]
    db["a"] = 5
    db["new"] = 1
    del db["new"]
    db["b"] = 7
    del db["b"]
    assert kinds(db) == {"a": "modified", "b": "deleted"}
    db["b"] = 8
    assert kinds(db) == {"a": "modified", "b": "modified"}
    assert db.push().n_set == 2
    with counted.open() as cold:
        assert dict(cold) == {"a": 5, "b": 8, "large": LARGE}


def test_changes_cost_what_changed(counted: Counted) -> None:
    """Nothing pending, no request; else the nodes on the way to the pending keys, once."""
    counted.create({f"{n:05}": LARGE for n in range(20_000)})
    with counted.open("a", "w") as db:
        counted.calls()
        assert list(db.changes()) == []
        assert counted.calls() == []
        db["10000"] = 1
        assert kinds(db) == {"10000": "modified"}
        assert len(counted.calls()) <= 3
        assert kinds(db) == {"10000": "modified"}
        assert counted.calls() == []


# Push: what it returns.


def test_what_a_push_returns(counted: Counted) -> None:
    """True only if something was committed and nothing failed; nothing to do commits nothing."""
    with counted.open("a") as db:
        created = db.push()
        assert isinstance(created, PushResult)
        assert isinstance(created, ebooklet.PushResult)
        assert (created.updated, dict(created.failures), bool(created)) == (True, {}, True)
        nothing = db.changes().push()
        assert (nothing.updated, dict(nothing.failures), bool(nothing)) == (False, {}, False)
        assert (nothing.seq, nothing.commit) == (created.seq, created.commit)
        head = counted.store.inner.get("db").body
        assert not db.push()
        db["k"] = 1
        del db["k"]
        assert not db.push().updated
        assert counted.store.inner.get("db").body == head
        for forced in (
            lambda: db.push(force_push=True),
            lambda: db.changes().push(force_push=True),
            lambda: db.changes().push(True),
        ):
            result = forced()
            assert (result.updated, bool(result), result.n_set) == (True, True, 0)
        db["k"] = 1
        assert db.push("a message").seq == created.seq + 4
    assert not PushResult(updated=True, failures={"k": "refused"})
    with counted.open(flag="r") as other:
        assert dict(other) == {"k": 1}


def test_a_push_is_logged(db: EBooklet[Any], caplog: pytest.LogCaptureFixture) -> None:
    """One INFO record on ebooklet.push for a commit, none without."""
    db["new"] = "secret value"
    with caplog.at_level(logging.INFO, logger="ebooklet.push"):
        db.push()
        db.push()
    (record,) = [r for r in caplog.records if r.name == "ebooklet.push"]
    assert record.levelno == logging.INFO
    assert "1 keys set, 0 deleted" in record.getMessage()
    assert "secret" not in record.getMessage()


# Pull.


@pytest.mark.parametrize("flag", ["r", "w"])
def test_pull_takes_in_what_others_committed(place: Place, flag: Any) -> None:
    """Values anew, deleted keys gone, added ones there; the rest needs no second fetch."""
    with place.open() as db:
        db.update(a=1, b=2, kept=LARGE)
        db.push()
    with place.open(file="mine", flag=flag, lock="optimistic") as mine:
        assert dict(mine.items()) == {"a": 1, "b": 2, "kept": LARGE}
        assert not mine.pull()
        with place.open(lock="optimistic") as db:
            db["a"] = 10
            del db["b"]
            db["c"] = 3
            db.push()
            assert mine["a"] == 1
            result = mine.changes().pull()
            assert (result.updated, result.n_changed, result.conflicts) == (True, 3, ())
            assert dict(mine.items()) == {"a": 10, "c": 3, "kept": LARGE}
            assert len(mine) == 3
            assert "b" not in mine
            db["d"] = 4
            db.push()
        assert mine.pull()
        assert mine["d"] == 4


def test_pull_leaves_what_is_pending(counted: Counted, db: EBooklet[Any]) -> None:
    """On other keys than theirs; and what I did not change follows them."""
    db["mine"] = 1
    del db["b"]
    with counted.open("other") as other:
        other["a"] = 10
        other["theirs"] = 2
        other.push()
    assert db.pull().conflicts == ()
    assert dict(db) == {"a": 10, "large": LARGE, "mine": 1, "theirs": 2}
    assert kinds(db) == {"b": "deleted", "mine": "added"}


# Discard.


def test_discard_some_keys(counted: Counted, db: EBooklet[Any]) -> None:
    """A set gives the remote's value back, a deletion the key; others stay, unknown ones are ignored."""
    db.set_metadata("pending")
    db.update(a=10, new=1, large="short", other=3)
    del db["b"]
    db.discard(["a", "b", "new", "unknown", "large"])
    assert dict(db) == {"a": 1, "b": 2, "large": LARGE, "other": 3}
    assert len(db) == 4
    assert kinds(db) == {"other": "added"}
    assert db.get_metadata() == "pending"
    db.discard([])
    assert kinds(db) == {"other": "added"}
    db.close()
    with counted.open("a", "w") as again:
        assert kinds(again) == {"other": "added"}
        assert again["a"] == 1


def test_discard_everything(counted: Counted, db: EBooklet[Any]) -> None:
    """Sets, deletions, a clear and metadata; what was never pushed is gone."""
    db.set_metadata("committed")
    db.push()
    for discard in (db.discard, db.changes().discard):
        db.update(a=10, new=1)
        del db["b"]
        db.set_metadata("pending")
        discard()
        assert dict(db) == {"a": 1, "b": 2, "large": LARGE}
        assert db.get_metadata() == "committed"
        assert not db.changes()
        db.clear()
        db["only"] = 1
        discard()
        assert dict(db) == {"a": 1, "b": 2, "large": LARGE}
    assert not db.push().updated
    with counted.open("never pushed", "c"), counted.open("a2", "c") as fresh:
        fresh["x"] = 1
        fresh.discard()
        assert len(fresh) == 3


# What plain Booklet did in between, against what others committed meanwhile.

# What plain Booklet does to "k", the file holding it or not, and what it leaves in the file.
EDITS: dict[
    str, tuple[bool, bool, Any]
] = {  # (others know k, it is in the file, value; None: gone)
    "added": (False, False, "mine"),
    "modified": (True, True, "mine"),
    "written unseen": (True, False, "mine"),
    "deleted": (True, True, None),
}
# What others do to "k" in their last commit; their time is earlier or later than mine.
REMOTE = {
    "nothing": ...,
    "another key": ...,
    "newer": ("theirs", 9_000),
    "older": ("theirs", 1_000),
    "the same": ("mine", 9_000),
    "deleted": None,
}
MINE_US = 5_000


@pytest.mark.parametrize("n_commits", [1, 2])
@pytest.mark.parametrize("remote", REMOTE)
@pytest.mark.parametrize("edit", EDITS)
def test_nothing_done_with_plain_booklet_is_lost(
    counted: Counted, edit: str, remote: str, n_commits: int
) -> None:
    """Found, kept and pushed; what both sides changed is reported, and stays pending until settled."""
    known, cached, mine = EDITS[edit]
    counted.create({"other": 0, "quiet": 0} | ({"k": "old"} if known else {}))
    with counted.open("a", "w") as db:
        if cached:
            assert db["k"] == "old"
        assert db["other"] == 0
    with booklet.open(counted.folder / "a.blt", "w") as plain:
        if mine is None:
            del plain["k"]
        else:
            plain.set("k", mine, timestamp=MINE_US)
        plain["free"] = "mine too"
    theirs: Any = "old" if known else None
    with counted.open("b") as other:
        for n in range(n_commits - 1):
            other["other"] = n + 1
            other.push()
        match REMOTE[remote]:
            case (value, when):
                theirs = value
                other.set("k", value, timestamp=when)  # type: ignore[arg-type]  # None where the table says so
            case None:
                theirs = other.pop("k", None) and None
        if remote != "nothing":
            other["other"] = "theirs"
            other.push()
        expected = dict(other.items())

    both = theirs != ("old" if known else None) and theirs != mine
    warns: Any = pytest.warns(UserWarning, match="'k' changed both") if both else nullcontext()
    with warns:
        db = counted.open("a", "w")
    with db:
        assert db.get("k") == mine
        assert db["free"] == "mine too"
        assert db["other"] == expected["other"]
        pending = kinds(db)
        assert pending.pop("free") == "added"
        if mine != theirs:
            kind = "deleted" if mine is None else "added" if theirs is None else "modified"
            assert pending == {"k": kind}
        if both:
            with pytest.raises(ebooklet.ConflictError) as error:
                db.push()
            assert error.value.keys == ("k",)
            with counted.open(flag="r") as cold:
                assert dict(cold) == expected  # nothing was committed
    if both:  # over another close; then each of the ways out
        shutil.copytree(counted.folder / "a.blt.ebk", counted.folder / "a2.blt.ebk")
        shutil.copy2(counted.folder / "a.blt", counted.folder / "a2.blt")
        with counted.open("a2", "w") as db:
            assert db.get("k") == mine
            with pytest.raises(ebooklet.ConflictError):
                db.push()
            db.discard(["k"])
            assert db.get("k") == theirs
            assert kinds(db) == {"free": "added"}
    with counted.open("a", "w") as db:
        db.push(conflict="ours" if both else "error")
        assert kinds(db) == {}
        content = dict(db.items())
    expected |= {"free": "mine too", "k": mine}
    if mine is None:
        del expected["k"]
    assert content == expected
    with counted.open(flag="r") as cold:
        assert dict(cold) == expected
        if mine is not None:
            assert cold.get_timestamp("k") == (9_000 if remote == "the same" else MINE_US)


@pytest.mark.parametrize("place", ["memory", "file", "seaweedfs"], indirect=True)
def test_plain_booklet_in_between_on_every_place(place: Place) -> None:
    """Additions, edits, deletions, times and metadata; by a reader's open as well as a writer's."""
    content = {f"k{n:03}": n for n in range(400)}
    with place.open() as db:
        db.update(content)
        db.set_metadata("committed")
        db.push()
    with booklet.open(place.path("a"), "w") as plain:
        plain["new"] = LARGE
        plain["k007"] = "edited"
        del plain["k008"]
        plain.set_timestamp("k009", 5)
        plain.set_metadata("edited")
    expected = content | {"new": LARGE, "k007": "edited"}
    del expected["k008"]
    pending = {"new": "added", "k007": "modified", "k008": "deleted", "k009": "modified"}
    for flag in ("r", "w"):
        with place.open(flag=flag) as db:
            assert kinds(db) == pending
            assert dict(db.items()) == expected
            assert len(db) == 400
            assert db.get_metadata() == "edited"
    with place.open(flag="w") as db:
        assert (db.push().n_set, kinds(db)) == (3, {})
    with place.open(file=None, flag="r") as cold:
        assert dict(cold.items()) == expected
        assert cold.get_timestamp("k009") == 5
        assert cold.get_metadata() == "edited"


# Both sides through this library.

STATES: dict[str, Callable[[EBooklet[Any]], object]] = {
    "absent": lambda db: db.pop("k", None),
    "x": lambda db: db.set("k", "x"),
    "y": lambda db: db.set("k", "y"),
}
VALUES = {"absent": None, "x": "x", "y": "y"}


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
@pytest.mark.parametrize("theirs", STATES)
@pytest.mark.parametrize("ours", STATES)
@pytest.mark.parametrize("base", STATES)
def test_both_sides_changed_one_key(
    counted: Counted, base: str, ours: str, theirs: str, cached: bool
) -> None:
    """The whole table of base, ours and theirs: what one side changed stands; what both did, asks."""
    counted.create({"other": 1} if base == "absent" else {"k": VALUES[base], "other": 1})
    with counted.open("a", "w") as db, counted.open("b") as other:
        if cached:
            assert db.get("k") == VALUES[base]
        if ours != base:
            STATES[ours](db)
        if theirs != base:
            STATES[theirs](other)
        other["other"] = 2
        other.push()
        conflict = ours != base and theirs not in (base, ours)
        merged = ours if ours != base else theirs
        with pytest.warns(UserWarning, match="changed both") if conflict else nullcontext():
            assert db.pull().conflicts == (("k",) if conflict else ())
        assert db.get("k") == VALUES[merged]
        assert db["other"] == 2
        if conflict:
            with pytest.raises(ebooklet.ConflictError):
                db.push()
            assert list(kinds(db)) == ["k"]
            assert db.get("k") == VALUES[ours]
        db.push(conflict="ours")
        assert kinds(db) == {}
        other.pull()
        for one in (db, other):
            assert one.get("k") == VALUES[merged]
            assert len(one) == len(list(one)) == (1 if merged == "absent" else 2)


def test_theirs_gives_mine_up(counted: Counted, db: EBooklet[Any]) -> None:
    """With conflict="theirs" for those keys only, without a warning that mine stay pending."""
    with counted.open("b") as other:
        db.update(a="mine", free=1)
        del db["b"]
        other.update(a="theirs", b="theirs")
        other.push()
        assert db.push(conflict="theirs").n_set == 1
        assert dict(db) == {"a": "theirs", "b": "theirs", "free": 1, "large": LARGE}


# Warnings name the caller's line.


def test_warnings_point_at_the_caller(counted: Counted) -> None:
    """The file is that of the call that was made, however deep the reason lies."""
    counted.create({"k": 0})

    def open_(name: str, flag: Any) -> EBooklet[Any]:
        path = counted.folder / f"{name}.blt"
        return ebooklet.open(counted.store, path, flag, lock="optimistic")

    with counted.open("b") as other:
        met = r"changed both"

        def conflict(db: EBooklet[Any]) -> None:
            db.discard()
            db["k"] = "mine"
            other["k"] = f"theirs {len(counted.store.calls)}"
            other.push()
            other.pull()

        with open_("a", "w") as db:
            conflict(db)
            with pytest.warns(UserWarning, match=met) as by_pull:
                db.pull()
            db.discard()
            db.set_metadata("mine")
            other.set_metadata("theirs")
            other.push()
            with pytest.warns(UserWarning, match=met) as by_push:
                db.changes().push()
            conflict(db)
        with pytest.warns(UserWarning, match=met) as by_open:
            open_("a", "w").close()
    with counted.open("n", "n") as new:
        new["k"] = 1
    with pytest.warns(UserWarning, match="replaces the whole remote") as by_replacement:
        open_("n", "w").close()
    for warned in (by_pull, by_push, by_open, by_replacement):
        assert {warning.filename for warning in warned} == {__file__}
