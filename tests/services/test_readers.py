"""Many readers of one local file, beside a writer that comes and goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebooklet import Database, LocalHalf
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import open_store
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.errors import LockTimeout
from ebooklet.ports.local_store import LocalStore
from ebooklet.serializers.json import JSON
from ebooklet.testing.clock import ManualClock

pytestmark = pytest.mark.usefixtures("lean_processes")

READER = """
import json, sys
from ebooklet.bootstrap import open as open_database
url, path, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_database(url, path, "r") as db:
    for _ in range(rounds):
        content = dict(db.items())
        versions = {value for key, value in content.items() if key.startswith("v")}
        assert len(versions) == 1, versions
        assert len(db) == len(content)
        db.pull()
    db.load_items()
print(json.dumps({"keys": len(content)}))
"""


def make(tmp_path: Path) -> str:
    (tmp_path / "remote").mkdir()
    url = f"file://{tmp_path}/remote/db"
    with open_database(url, tmp_path / "writer.blt", "c", value_serializer="json") as db:
        db.update({f"v{n:02}": 0 for n in range(40)})
        db["pad"] = "x" * 1000
        db.push()
    return url


def test_readers_of_one_file_see_whole_commits_and_share_what_they_fetch(tmp_path: Path) -> None:
    """Several processes read and cache through one path while commits land remotely."""
    url = make(tmp_path)
    path = tmp_path / "shared.blt"
    argv = [sys.executable, "-c", READER, url, str(path), "6"]
    readers = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    with open_database(url, tmp_path / "writer.blt", "w") as writer:
        for version in range(1, 6):
            writer.update({f"v{n:02}": version for n in range(40)})
            writer.push()
    for reader in readers:
        out, err = reader.communicate(timeout=60)
        assert reader.returncode == 0, err
        assert json.loads(out) == {"keys": 41}
    with open_database(url, path, "r") as db:
        assert db["v00"] == 5
        assert db._copy.local.get("v07") is not None
        assert not list(db.changes())


def test_an_open_reader_lets_a_writer_in(tmp_path: Path) -> None:
    """A reader that stays open gives the file back; afterwards it sees what was written."""
    url = make(tmp_path)
    path = tmp_path / "writer.blt"
    with open_database(url, path, "r") as reader:
        assert reader["v00"] == 0
        with open_database(url, path, "w", lock_timeout=10) as writer:
            writer["new"] = 1
            writer.push()
        assert reader["v00"] == 0
        assert reader.get("new") == 1
        assert len(reader) == 42


def test_a_reader_takes_in_a_commit_however_long_a_writer_is_at_work(tmp_path: Path) -> None:
    """A pull, as an open, waits for the local file as long as `lock_timeout` says."""
    url = make(tmp_path)
    path = tmp_path / "reader.blt"
    clock = ManualClock()
    reader = open_database(url, path, "r", clock=clock)
    with open_database(url, tmp_path / "writer.blt", "w") as db:
        db["new"] = 1
        db.push()
    writer = open_database(None, path, "w")
    clock.on_sleep = lambda _: writer.close() if clock.monotonic() > 60 else None
    assert reader.pull().updated
    assert clock.monotonic() > 60
    assert reader["new"] == 1
    reader.close()


def test_a_second_writer_waits_and_names_the_first(tmp_path: Path) -> None:
    """One writing handle per file, in one process too."""
    url = make(tmp_path)
    path = tmp_path / "writer.blt"
    with open_database(None, path, "w"), pytest.raises(LockTimeout, match="in use by process"):
        open_database(None, path, "w", lock_timeout=0.2)
    with open_database(url, path, "w") as db:
        assert db.writable


def test_a_reader_that_waited_for_a_writer_sees_what_that_pushed(tmp_path: Path) -> None:
    """A head read before the wait for the local file is no rewound remote after it."""
    store, path, clock = MemoryRemoteStore("waiting"), tmp_path / "shared.blt", SystemClock()
    with open_database(store, path, "c", value_serializer="json") as db:
        db["k"] = 1
        db.push()

    def open_after_a_push(*place: Path, **options: Any) -> LocalStore:
        with open_database(store, path, "w") as writer:
            writer["k"] = 2
            writer.push()
        return open_store(*place, **options)

    half = LocalHalf(open_store=open_after_a_push, path=path, clock=clock)
    with Database[Any](local=half, remote=store, serializer=JSON, clock=clock, flag="r") as db:
        assert db["k"] == 2
