"""Deletions on a disk without room: refused, and nothing is taken for deleted that is still there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ebooklet.errors import EBookletError
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
