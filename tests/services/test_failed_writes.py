"""Writes that fail half-way: what is pending afterwards is what was done, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ebooklet.database import EBooklet
from tests.services.conftest import Opener, kinds

WRITES: dict[str, Callable[[EBooklet[Any]], object]] = {
    "update": lambda db: db.update({"gone": "w", "new": "w"}),
    "item": lambda db: db.__setitem__("gone", "w"),
    "set": lambda db: db.set("gone", "w", 1),
    "setdefault": lambda db: db.setdefault("gone", "w"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_that_failed_leaves_a_pending_deletion(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, write: Callable[[EBooklet[Any]], object]
) -> None:
    """Interrupted before anything was written, keys stay deleted here and go at the next push."""
    with opener(None) as db:
        db.update({"gone": "v", "kept": "v"})
        db.push()
        del db["gone"]
        interrupt(db, monkeypatch, "set", "set_many", done=0)
        with pytest.raises(KeyboardInterrupt):
            write(db)
        monkeypatch.undo()
        assert (kinds(db), list(db), len(db)) == ({"gone": "deleted"}, ["kept"], 1)
        assert db.push().n_deleted == 1
    with opener(None, "r") as db:
        assert list(db) == ["kept"]


def test_what_an_update_wrote_before_it_failed_is_pending(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch written in part, the part is there and pushed; the rest is as it was."""
    with opener(None) as db:
        db.update({"a": "v", "b": "v", "c": "v"})
        db.push()
        del db["a"], db["b"]
        interrupt(db, monkeypatch, "set_many", done=2)
        with pytest.raises(KeyboardInterrupt):
            db.update({"a": "w", "x": "w", "b": "w", "y": "w"})
        monkeypatch.undo()
        assert kinds(db) == {"a": "modified", "b": "deleted", "x": "added"}
        assert dict(db.items()) == {"a": "w", "c": "v", "x": "w"}
        db.push()
    with opener(None, "r") as db:
        assert dict(db.items()) == {"a": "w", "c": "v", "x": "w"}


@pytest.mark.parametrize("pending", [True, False], ids=["pending", "cached"])
@pytest.mark.parametrize("done", [0, 1], ids=["before", "after"])
def test_an_interrupted_deletion_took_place_or_not(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, *, pending: bool, done: int
) -> None:
    """The key has the value it had, or is deleted; never an older value that waits for ever."""
    with opener(None) as db:
        db.update({"k": "v", "kept": "v"})
        db.push()
        if pending:
            db["k"] = "w"
        before = db["k"]
        interrupt(db, monkeypatch, "delete", done=done)
        with pytest.raises(KeyboardInterrupt):
            del db["k"]
        monkeypatch.undo()
        assert db.get("k") == (None if done else before)
        assert kinds(db).get("k", "modified") == ("deleted" if done else "modified")
        db.push()
        assert not list(db.changes())
    with opener(None, "r") as db:
        assert db.get("k") == (None if done else before)


def test_discarded_changes_are_gone_when_it_is_interrupted(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was dropped is pending no more, and the remote's value is back; the rest can be repeated."""
    with opener(None) as db:
        db.update({"a": "v", "b": "v"})
        db.push()
        db.update({"a": "w", "b": "w"})
        interrupt(db, monkeypatch, "delete", done=1)
        with pytest.raises(KeyboardInterrupt):
            db.changes().discard()
        monkeypatch.undo()
        assert list(db._copy.pending.sets) == ["b"]
        assert dict(db.items()) == {"a": "v", "b": "w"}
        db.changes().discard()
        assert dict(db.items()) == {"a": "v", "b": "v"}
        assert not db.push()


@pytest.mark.filterwarnings("ignore:an earlier session")  # which cleared it
@pytest.mark.parametrize(
    ("name", "taken"),
    [("replace_log", False), ("clear", False), ("clear", True)],
    ids=["log", "before", "after"],
)
def test_an_interrupted_clear_took_place_or_not(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, name: str, *, taken: bool
) -> None:
    """All is as it was, with what was pending, or all is gone; and so it is in the next session."""
    with opener() as db:
        db.update({"a": "v", "b": "v", "gone": "v"})
        db.push()
        db.update({"b": "w", "new": "w"})
        del db["gone"]
        real = db._copy.local.clear
        interrupt(db, monkeypatch, name, done=0, first=real if taken else None)
        with pytest.raises(KeyboardInterrupt):
            db.clear()
        monkeypatch.undo()
        wanted = {} if taken else {"a": "v", "b": "w", "new": "w"}
        assert (dict(db.items()), len(db)) == (wanted, len(wanted))
    with opener(flag="w") as db:
        assert dict(db.items()) == wanted
        db.push()
    with opener(None, "r") as db:
        assert dict(db.items()) == wanted


def test_metadata_that_were_not_written_are_not_pending(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed ones are read on, and there is nothing to push or to be in conflict."""
    with opener() as db:
        db.set_metadata({"of": "old"})
        db.push()
        interrupt(db, monkeypatch, "set_metadata", done=0)
        with pytest.raises(KeyboardInterrupt):
            db.set_metadata({"of": "new"})
        monkeypatch.undo()
        assert (db.get_metadata(), db._copy.pending.metadata) == ({"of": "old"}, False)
    with opener(flag="w") as db:
        assert (db.get_metadata(), db._copy.pending.metadata) == ({"of": "old"}, False)


def interrupt(
    db: EBooklet[Any],
    monkeypatch: pytest.MonkeyPatch,
    *names: str,
    done: int,
    first: Callable[[], None] | None = None,
) -> None:
    """Have writes to the local store be interrupted, after so many of their items, or after this."""
    local = db._copy.local
    for name in names:
        real = getattr(local, name)

        def broken(*given: Any, real: Any = real) -> None:
            if first is not None:
                first()
            if done:
                real(list(given[0])[:done])
            raise KeyboardInterrupt

        monkeypatch.setattr(local, name, broken)
        if name == "set":
            monkeypatch.setattr(db, "_local_set", broken)
