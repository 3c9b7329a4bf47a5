"""Opening a branch: it is read and pushed to by itself, and a local file loses nothing between two."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import ebooklet
from ebooklet import Encryption
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import (
    ConflictError,
    LocalFileError,
    OfflineError,
    ReplaceConflict,
    UnknownVersionError,
)
from tests.services.conftest import Opener, kinds

KEYS = Encryption({"a": b"k" * 32}, "a")


def begin(opener: Opener) -> None:
    """A database with a branch `dev`, where "b" is 2, while it is 3 in the main one."""
    with opener("maker") as db:
        db.update({"a": 1, "b": 1})
        db.push()
        db.branch("dev")
    with opener("maker", "w", branch="dev") as db:
        db["b"] = 2
        db["dev"] = True
        assert db.push().seq == 3
    with opener("maker", "w", branch="main") as db:
        db["b"] = 3
        assert db.push().seq == 4


@pytest.mark.parametrize("encryption", [None, KEYS], ids=["plain", "encrypted"])
def test_branches_do_not_meet(encryption: Encryption | None) -> None:
    """Each branch shows its own commits alone, cold and warm, over more of them than a head lists."""
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "json", encryption=encryption) as db:
        db.update({f"k{n}": "v" * 100 for n in range(300)})
        db.push("first")
        db.branch("dev")
    with ebooklet.open(store, None, "w", branch="dev", encryption=encryption) as db:
        assert db.on_branch == "dev"
        for n in range(70):
            db["only"] = n
            db.push(f"dev {n}")
        del db["k0"]
        db.push()
        assert [commit.seq for commit in db.log()][-2:] == [3, 1]
    with ebooklet.open(store, None, "w", encryption=encryption) as db:
        assert db.on_branch == "main"
        db["k1"] = "main"
        assert len(db.push().commit) == 64
        assert "only" not in db
        assert [commit.message for commit in db.log()] == ["", "first"]
    with ebooklet.open(store, branch="dev", encryption=encryption) as db:
        assert (len(db), db["only"], db["k1"], "k0" in db) == (300, 69, "v" * 100, False)
        db.load_items()
    report = ebooklet.fsck(store, check_objects=True)
    assert not (report.orphans)
    assert not (report.damaged)
    assert not (report.claimed_but_missing)


def test_an_unknown_branch_changes_nothing(opener: Opener, tmp_path: Path) -> None:
    """It is answered by those there are, before any file is made or lock is taken."""
    with pytest.raises(UnknownVersionError, match="no database yet: the first push makes 'main'"):
        opener("x", branch="dev")
    begin(opener)
    with pytest.raises(UnknownVersionError, match="no branch 'of'; there are: 'dev', 'main'"):
        opener("x", "w", branch="of")
    with pytest.raises(TypeError, match="branch is a str or None, not int"):
        opener("x", "w", branch=1)
    assert not list(tmp_path.glob("x*"))
    with opener(None, "c", branch="main") as db:
        assert db["b"] == 3


def test_a_local_file_remembers_its_branch(opener: Opener) -> None:
    """Opened without one it goes on where it was, and offline it shows what it has of that one."""
    begin(opener)
    with opener("a", "w", branch="dev") as db:
        assert db.load_items() == {}
        db["b"] = "pending"
    with opener("a", "w") as db:
        assert db.on_branch == "dev"
        assert kinds(db) == {"b": "modified"}
        db.discard()
        assert db["b"] == 2
    with opener("a", "r", offline=True) as db:
        assert (db.on_branch, db["b"], db["dev"]) == ("dev", 2, True)
    with opener("a", "r", offline=True, branch="dev") as db:
        assert db["b"] == 2
    with pytest.raises(OfflineError, match="is on branch 'dev': it cannot be brought to 'main'"):
        opener("a", "r", offline=True, branch="main")
    with opener("a", "w", branch="main") as db:
        assert (db["b"], "dev" in db) == (3, False)


def test_what_is_pending_comes_along_or_stays(opener: Opener) -> None:
    """A switch carries what both branches have the same under, and is refused where they differ."""
    begin(opener)
    with opener("a", "w", branch="main") as db:
        db.update({"a": 10, "new": 1})
    with opener("a", "w", branch="dev") as db:
        assert kinds(db) == {"a": "modified", "new": "added"}
        assert (db["b"], db["dev"]) == (2, True)
        db["b"] = 20
    with pytest.raises(
        ConflictError, match=r"'b' changed in .*open it with branch='dev'"
    ) as refused:
        opener("a", "w", branch="main")
    assert refused.value.keys == ("b",)
    with opener("a", "w") as db:
        assert (db.on_branch, dict(db)) == (
            "dev",
            {"a": 10, "b": 20, "dev": True, "new": 1},
        )
        assert db.push().n_set == 3
    with opener("a", "w", branch="main") as db:
        assert dict(db) == {"a": 1, "b": 3}
        assert not kinds(db)


def test_a_replacement_does_not_move_to_another_branch(opener: Opener) -> None:
    """`clear()` was meant for the branch it was called on."""
    begin(opener)
    with opener("a", "w", branch="dev") as db:
        db.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ReplaceConflict, match="on branch 'dev', all of which the next push"):
            opener("a", "w", branch="main")
        with opener("a", "w") as db:
            assert not db
            assert db.push().updated
    with opener("b", "r") as db:
        assert len(db) == 2
        assert [(row.name, row.seq) for row in db.trash()] == [("dev", 3)]


def test_flag_n_replaces_one_branch(opener: Opener) -> None:
    """The others stay, and what the branch had can be had again."""
    begin(opener)
    with opener("a", "n", branch="dev") as db:
        db["fresh"] = 1
        db.push()
        assert dict(db) == {"fresh": 1}
        db.undelete("dev", "before")
    with opener("b", "r") as db:
        assert dict(db) == {"a": 1, "b": 3}
    with opener("c", "r", branch="before") as db:
        assert dict(db) == {"a": 1, "b": 2, "dev": True}


def test_a_branch_that_is_gone(opener: Opener) -> None:
    """Who is on it is told so; what is pending is kept, and comes back with the branch."""
    begin(opener)
    with opener("a", "w", branch="dev") as db:
        db.update({"b": 20, "mine": 1})
        with pytest.raises(ValueError, match="cannot delete 'dev': it is open here"):
            db.delete_branch("dev")
        with opener("other", "w") as other:
            other.delete_branch("dev")
        for call in (db.push, db.pull):
            with pytest.raises(UnknownVersionError, match=r"no branch 'dev': .*undelete\('dev'\)"):
                call()
        assert kinds(db) == {"b": "modified", "mine": "added"}
    with pytest.raises(UnknownVersionError, match="is on branch 'dev', which is gone"):
        opener("a", "w")
    with pytest.raises(ConflictError, match=r"undelete\(\) it"):
        opener("a", "w", branch="main")
    with opener("other", "w") as other:
        other.undelete("dev")
    with opener("a", "w") as db:
        assert db.push().n_set == 2
        assert dict(db) == {"a": 1, "b": 20, "dev": True, "mine": 1}


def test_readers_of_one_file_are_on_one_branch(opener: Opener) -> None:
    """A reader moves no file; one whose file a writer has brought elsewhere says so."""
    begin(opener)
    with opener("a", "r", branch="main") as db:
        assert db["b"] == 3
        with pytest.raises(LocalFileError, match="is on branch 'main': open it with flag 'w' to"):
            opener("a", "r", branch="dev")
        assert list(db) == ["a", "b"]
        with opener("a", "w", branch="dev") as other:
            assert other["b"] == 2
        looks: list[Callable[[], object]] = [
            lambda: db["b"],
            lambda: db.get("b"),
            lambda: "b" in db,
        ]
        for look in (*looks, lambda: dict(db.get_items(["b"])), lambda: list(db), *looks):
            with pytest.raises(LocalFileError, match="from branch 'main' to 'dev': open the"):
                look()
    with opener("a", "r") as db:
        assert (db.on_branch, db["b"]) == ("dev", 2)
        db.reopen("w")
        assert db.on_branch == "dev"


def test_edits_by_plain_booklet_stay_on_their_branch(opener: Opener, tmp_path: Path) -> None:
    """They are found before a switch, and count as what is pending."""
    import booklet

    begin(opener)
    with opener("a", "w", branch="dev") as db:
        db.load_items()
    with booklet.open(str(tmp_path / "a.blt"), "w") as plain:
        plain["b"] = "by hand"
    with pytest.raises(ConflictError, match="'b' changed"):
        opener("a", "w", branch="main")
    with opener("a", "w") as db:
        assert (db.on_branch, db["b"]) == ("dev", "by hand")
        assert kinds(db) == {"b": "modified"}


def test_a_remote_that_is_made_anew_has_its_first_branch(opener: Opener) -> None:
    """What was on a branch of a deleted database is the content of the new one's."""
    begin(opener)
    with opener("a", "w", branch="dev") as db:
        db.load_items()
        db.delete_remote()
        assert db.push().updated
        assert db.on_branch == "main"
        assert dict(db) == {"a": 1, "b": 2, "dev": True}
        assert list(db.branches()) == ["main"]
