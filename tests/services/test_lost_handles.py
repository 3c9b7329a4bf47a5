"""Handles that nobody closes: dropped, lost at exit, inherited through a fork."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebooklet.bootstrap import open as open_database
from ebooklet.errors import ForkedProcessError

from .conftest import kinds

pytestmark = pytest.mark.usefixtures("lean_processes")

LOSER = """
import sys
from ebooklet.bootstrap import open as open_database
db = open_database(sys.argv[1], sys.argv[2], "w", n_buckets=10)
for n in range(3_000):
    db[f"k{n}"] = n
if sys.argv[3] == "raise":
    raise SystemExit(3)
if sys.argv[3] == "fail":
    sys.stderr = None
    raise ZeroDivisionError
if sys.argv[3] == "thread":
    import threading
    threading.Thread(target=lambda kept: kept.get("first"), args=(db,)).start()
    del db
if sys.argv[3] == "fork":
    import os
    if os.fork():
        os.wait()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "remote").mkdir()
    url = f"file://{tmp_path}/remote/db"
    with open_database(url, tmp_path / "a.blt", "c", value_serializer="json", n_buckets=50) as db:
        db["first"] = 1
        db.push()
    return url


@pytest.mark.parametrize("way", ["return", "raise", "fail", "thread", "fork"])
def test_a_handle_lost_at_exit_loses_nothing(url: str, tmp_path: Path, way: str) -> None:
    """Everything set is in the file and pending, and the locks are free."""
    argv = [sys.executable, "-c", LOSER, url, str(tmp_path / "a.blt"), way]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == ({"raise": 3, "fail": 1}.get(way, 0), "")
    with open_database(url, tmp_path / "a.blt", "w", lock_timeout=5) as db:
        assert len(db) == 3_001
        assert len(kinds(db)) == 3_000
        assert db["k2999"] == 2_999


def test_a_dropped_handle_is_closed(url: str, tmp_path: Path) -> None:
    """The garbage collector's turn is as good as a close."""
    db = open_database(url, tmp_path / "a.blt", "w")
    db["dropped"] = 1
    del db
    gc.collect()
    with open_database(url, tmp_path / "a.blt", "w", lock_timeout=5) as db:
        assert kinds(db) == {"dropped": "added"}


def test_an_error_inside_with_keeps_the_writes(url: str, tmp_path: Path) -> None:
    """Nothing is pushed, nothing is lost, the lock is free."""

    def fail() -> None:
        with open_database(url, tmp_path / "a.blt", "w") as db:
            db["before"] = 1
            del db["first"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with open_database(url, tmp_path / "a.blt", "w", lock_timeout=5) as db:
        assert kinds(db) == {"before": "added", "first": "deleted"}
    with open_database(url, tmp_path / "b.blt", "r") as db:
        assert dict(db.items()) == {"first": 1}


def test_after_close_everything_is_refused_but_close(url: str, tmp_path: Path) -> None:
    """`ValueError` for every use, close and sync and attributes excepted."""
    db = open_database(url, tmp_path / "a.blt", "w")
    db.close()
    db.close(force_shutdown=True)
    db.sync()
    assert db.writable
    uses: list[Any] = [
        lambda: db["first"],
        lambda: db.get("first"),
        lambda: db.__setitem__("k", 1),
        lambda: db.__delitem__("first"),
        lambda: "first" in db,
        lambda: len(db),
        lambda: list(db),
        lambda: list(db.items()),
        lambda: len(db.keys("f")),
        lambda: list(db.timestamps()),
        db.load_items,
        db.push,
        db.pull,
        db.clear,
        db.prune,
        lambda: list(db.changes()),
        db.get_metadata,
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_is_refused_and_harms_nothing(url: str, tmp_path: Path) -> None:
    """The child gets a clear error; the parent's file, lock and count are untouched."""
    with open_database(url, tmp_path / "a.blt", "w") as db:
        db["mine"] = 1
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                db["first"]
            except ForkedProcessError:
                code = 0
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        db["after"] = 2
        assert len(db) == 3
        db.push()
    with open_database(url, tmp_path / "b.blt", "r") as db:
        assert dict(db.items()) == {"first": 1, "mine": 1, "after": 2}
