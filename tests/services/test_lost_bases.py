"""The file that names the base is damaged: what is pending stays so, and is a conflict at most."""

from __future__ import annotations

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
