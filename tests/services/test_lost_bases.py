"""The file that names the base is damaged: what is pending stays so, and is a conflict at most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ebooklet.errors import ConflictError
from tests.services.conftest import Opener, kinds


def test_a_deletion_outlives_the_base(opener: Opener, tmp_path: Path) -> None:
    """What was deleted does not come back unasked: the deletion is a conflict, and can be insisted on.

    Found by `make torture`: the deletion was dropped by the next push, without a word.
    """
    with opener() as db:
        db.update({"gone": 1, "kept": 1})
        db.push()
        del db["gone"]
    (tmp_path / "a.blt.ebk" / "slot.head").write_bytes(b"damaged")
    with opener("a", "w") as db:
        assert "gone" not in db
        assert kinds(db) == {"gone": "deleted"}
        with pytest.raises(ConflictError, match="gone"):
            db.push()
        assert db.push(conflict="ours").n_deleted == 1
    with opener("stranger", "r") as db:
        assert list(db) == ["kept"]


def flip(path: Path) -> None:
    """Turn one bit over, in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def behind(opener: Opener, tmp_path: Path) -> Path:
    """The folder beside a file with copies that are old by now, and changes of its own."""
    with opener("others") as others, opener("a") as db:
        others.update({"old": 1, "same": 1, "gone": 1, "met": 1})
        others.set_metadata("old")
        others.push()
        db.pull()
        assert len(db.load_items()) == 0
        db.update({"mine": 2, "met": 2})
        db.close()
        others.update({"old": 3, "met": 3})
        del others["gone"]
        others.set_metadata("new")
        others.push()
    return tmp_path / "a.blt.ebk"


@pytest.mark.parametrize("damage", [flip, Path.touch], ids=["flipped", "cut"])
def test_copies_are_no_changes_without_the_base(
    opener: Opener, behind: Path, damage: Callable[[Path], None]
) -> None:
    """The log names what was changed here: all else is a copy, and old ones are not served, nor pushed.

    Found by `make torture`: a reader served them, and `conflict="ours"` would have pushed them.
    """
    slot = behind / "slot.head"
    if damage is not flip:
        slot.unlink()
    damage(slot)
    remote = {"old": 3, "same": 1}
    with opener("a", "r") as db:
        assert dict(db.items()) == {**remote, "mine": 2, "met": 2}
        assert db.get_metadata() == "new"
    flip(slot)
    with opener("a", "w") as db:
        assert kinds(db) == {"mine": "added", "met": "modified"}
        with pytest.raises(ConflictError, match="'met' changed"):
            db.push()
        assert db.push(conflict="ours").n_set == 2
    with opener("stranger", "r") as db:
        assert (dict(db.items()), db.get_metadata()) == ({**remote, "mine": 2, "met": 2}, "new")


@pytest.mark.parametrize("left", ["crashed", "log.pending"])
def test_without_the_log_too_all_counts_and_a_warning_says_so(
    opener: Opener, behind: Path, left: str
) -> None:
    """Where nothing tells copies from changes, nothing is dropped, and the open says what to do."""
    flip(behind / "slot.head")
    if left == "crashed":
        (behind / "mark").unlink()
    else:
        flip(behind / left)
    with pytest.warns(UserWarning, match=r"Look through changes\(\), and discard\(\)"):
        db = opener("a", "w")
    with db:
        assert kinds(db) == {"old": "modified", "gone": "added", "mine": "added", "met": "modified"}
        assert (db["old"], db["mine"]) == (1, 2)


def test_the_log_alone_is_damaged(opener: Opener, behind: Path) -> None:
    """What differs from the base is pending again, and what does not is a copy."""
    flip(behind / "log.pending")
    with pytest.warns(UserWarning, match="'met' changed both here and in the remote"):
        db = opener("a", "w")
    with db:
        assert kinds(db) == {"mine": "added", "met": "modified"}
        assert db["old"] == 3


@pytest.mark.parametrize("since", [{"a": 2}, {"new": 2}, {"a": 2, "new": 2}], ids=str)
def test_an_older_file_beside_a_newer_folder(
    opener: Opener, tmp_path: Path, since: dict[str, int]
) -> None:
    """The open warns that it looks like an old copy, and `discard` takes what the remote has."""
    path = tmp_path / "a.blt"
    with opener() as db:
        db.update({"a": 1, "b": 1})
        db.push()
    older = path.read_bytes()
    with opener("a", "w") as db:
        db.update(since)
        db.push()
    path.write_bytes(older)
    with pytest.warns(UserWarning, match="looks like an older copy"):
        db = opener("a", "w")
    assert set(kinds(db)) == set(since)
    db.discard()
    assert dict(db) == {"a": 1, "b": 1} | since
    assert not db.push().updated
    db.close()
