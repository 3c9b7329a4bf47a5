"""Closing on a disk without room, and closing interrupted: no change is taken for a copy afterwards."""

from __future__ import annotations

import errno

import pytest

from ebooklet.adapters.localfiles.sidecar import Sidecar
from tests.services.conftest import Opener, kinds


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_close_that_could_not_log_leaves_no_mark_of_order(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """What was set is pending at the next open, though the log of what is pending does not name it."""
    with opener() as db:
        db.update({"k": 1, "same": 1})
        db.push()
    db = opener("a", "w")
    db.update({"k": 2, "new": 2})
    append = Sidecar.append_log
    failures = [failure, failure] if isinstance(failure, OSError) else [failure]

    def fail(sidecar: Sidecar, name: str, data: bytes) -> None:
        if failures:
            raise failures.pop()
        append(sidecar, name, data)

    monkeypatch.setattr(Sidecar, "append_log", fail)
    with pytest.raises(type(failure)):
        db.close()
    monkeypatch.undo()
    with opener("a", "w") as db:
        assert kinds(db) == {"k": "modified", "new": "added"}
