"""Deletions on a disk without room: refused, and nothing is taken for deleted that is still there."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from ebooklet import ABSENT
from ebooklet.errors import ConflictError, EBookletError
from tests.services.conftest import Opener, kinds
from tests.small_disks import room_for


@pytest.mark.parametrize("pending", [True, False], ids=["pending", "cached"])
def test_a_deletion_that_failed_can_be_repeated(
    opener: Opener, tmp_path: Path, *, pending: bool
) -> None:
    """The key stays as it was; deleted again and pushed, it does not come back with a crash.

    Found by `make torture`: it stayed in the local file, and was offered as an addition.
    """
    with opener() as db:
        db.update({"gone": "v", "kept": "v"})
        db.push()
        if pending:
            db["gone"] = "w"
            db.sync()
        before = db["gone"], kinds(db)
        db["large"] = "x" * 5000  # in Booklet's buffer, which a deletion writes first
        with room_for(tmp_path / "a.blt", 100), pytest.raises((OSError, EBookletError)):
            del db["gone"]
        changes = kinds(db)
        assert changes.pop("large") == "added"
        assert (db["gone"], changes.get("gone", "modified")) == (before[0], "modified")
        with opener("stranger", "r") as stranger:
            assert stranger["gone"] == "v"
        del db["gone"]
        db.push()
        shutil.copy2(tmp_path / "a.blt", tmp_path / "killed.blt")
        shutil.copytree(tmp_path / "a.blt.ebk", tmp_path / "killed.blt.ebk")
        (tmp_path / "killed.blt.ebk" / "mark").unlink(missing_ok=True)  # as after a crash
    with opener("killed", "w") as db:
        assert sorted(db) == ["kept", "large"]
        assert not list(db.changes())


def test_a_deletion_that_was_not_noted_is_none(opener: Opener, tmp_path: Path) -> None:
    """Where the log of pending changes has no room either, a key of the remote stays where it is."""
    with opener() as db:
        db.update({"gone": "v"})
        db.push()
    with opener("b") as db:
        log = tmp_path / "b.blt.ebk" / "log.pending"
        with room_for(log, 0), pytest.raises(OSError, match="File too large"):
            del db["gone"]
        assert (dict(db.items()), list(db.changes())) == ({"gone": "v"}, [])
        assert not db.push()


@pytest.mark.parametrize("at", ["noted", "deleted", "set"])
def test_answers_to_conflicts_that_found_no_room_can_be_given_again(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Where the disk is full half way, what is stored is no deletion, and what is not is no value."""
    with opener("others") as others, opener() as db:
        others.update(dict.fromkeys(["gone", "gone too", "set", "set too"], 1))
        others.push()
        db.pull()
        db.update(dict.fromkeys(["gone", "gone too", "set"], 3))
        del db["set too"]
        others.update(dict.fromkeys(others, 2))
        others.push()
        local = db._copy.local
        set_many, delete = local.set_many, local.delete

        def no_room(*given: object) -> None:
            if given == ([],):
                return
            if at == "deleted":
                delete(["gone"])
            elif at == "set":
                set_many([("set", b"4", 1)])
            raise OSError(errno.ENOSPC, "No space left on device")

        def answer(key: str, *_: object) -> object:
            return ABSENT if key.startswith("gone") else 4

        owner, method = {
            "noted": (db._copy.journal, "deleted"),
            "deleted": (local, "delete"),
            "set": (local, "set_many"),
        }[at]
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, no_room)
            with pytest.raises(OSError, match="No space left"):
                db.push(conflict=answer)
        stored = {key for key in others if local.contains(key)}
        assert kinds(db) == {key: "modified" if key in stored else "deleted" for key in others}
        with pytest.raises(ConflictError):
            db.push()
        db.push(conflict=answer)
        assert dict(db.items()) == {"set": 4, "set too": 4}
        assert not [key for key in local.keys() if key.startswith("gone")]  # noqa: SIM118  # a store
    with opener("stranger", "r") as stranger:
        assert dict(stranger.items()) == {"set": 4, "set too": 4}
