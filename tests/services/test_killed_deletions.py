"""A deletion of the remote, killed with SIGKILL before each of its steps in turn."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.probe import Verdict
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag

from .conftest import kinds

pytestmark = pytest.mark.usefixtures("lean_processes")

# For each line that it reads, a process of its own deletes the remote, and dies before the step that
# is counted to: every call that changes the store or the local half is one. Says how it ended, and
# "through" before that if there are fewer. What is imported is so for all of them.
DELETER = """
import os, signal, sys, traceback
import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet.store import BookletLocalStore
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore

left = 0

def counted(cls, name):
    original = getattr(cls, name)
    def step(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(cls, name, step)

def delete(url, path, steps):
    global left
    db = ebooklet.open(url, path, "w", lock=NullLockService(SystemClock()))
    db["unsynced"] = "u"
    left = steps
    counted(FilesystemRemoteStore, "put")
    counted(FilesystemRemoteStore, "delete")
    for name in ("append_log", "replace_log", "write_slot", "set_metadata", "sync", "delete"):
        counted(BookletLocalStore, name)
    db.delete_remote()
    print("through", flush=True)

for line in sys.stdin:
    url, path, steps = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        try:
            delete(url, path, int(steps))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

TEXT = "v" * 300


@pytest.fixture(params=["cas", "lock"])
def template(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a remote, its writer's file `a` (partly cached), and a colleague's, `old`."""
    folder = tmp_path / "template"
    (folder / "bucket").mkdir(parents=True)
    with monkeypatch.context() as patch:
        verdict = Verdict(request.param, "quoted", "", "so that both ways are tried")
        patch.setattr("ebooklet.adapters.remote.probe.probe", lambda *_, **__: verdict)
        with open_in(folder, "first", "c", value_serializer="json") as db:
            db.update({f"k{n}": f"{n}{TEXT}" for n in range(4)})
            db.set_metadata({"title": "kept"})
            db.push()
            with open_in(folder, "old", "w") as old:
                old.load_items(["k1"])
            with open_in(folder, "a", "w") as a:
                a.load_items(["k1", "k2"])
            db["k0"] = "newer"
            db.push()
    with open_in(folder, "a", "w") as a:
        a["pending"] = "p"
        del a["k3"]
    return folder


def open_in(folder: Path, name: str, flag: Flag, **options: Any) -> EBooklet[Any]:
    """A database file of the folder, locked by nobody."""
    lock = NullLockService(SystemClock())
    url = f"file://{folder}/bucket/db"
    return ebooklet.open(url, folder / f"{name}.blt", flag, lock=lock, **options)


@pytest.fixture
def deleter() -> Iterator[subprocess.Popen[str]]:
    """What `deletes` asks."""
    argv = [sys.executable, "-c", DELETER]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def deletes(process: subprocess.Popen[str], url: str, path: Path, steps: int) -> bool:
    """Have a remote deleted by a process that is killed; whether it came through."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{url}\t{path}\t{steps}\n")
    process.stdin.flush()
    said = process.stdout.readline()
    through = said == "through\n"
    if through:
        said = process.stdout.readline()
    assert said == f"{-signal.SIGKILL}\n"
    return through


def test_killed_before_every_step(template: Path, deleter: subprocess.Popen[str]) -> None:
    """The remote is all there or gone; what was here is, and the next push brings it back.

    What the killed writer had, in every case: two values that were only cached, one that was
    pending, one not yet synced, and metadata. A colleague's older copy follows what comes after.
    """
    seen = set()
    for step in itertools.count():
        folder = template.with_name(f"step-{step}")
        shutil.copytree(template, folder)
        through = deletes(deleter, f"file://{folder}/bucket/db", folder / "a.blt", step)
        gone = not (folder / "bucket" / "db").exists()
        seen.add(gone)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            check_afterwards(folder, gone=gone)
        # Said aloud where the deletion had not come as far as to be done here as well.
        assert all("is gone" in str(warning.message) for warning in said)
        assert gone or not said
        shutil.rmtree(folder)
        if through:
            break
    assert step > 8
    assert seen == {False, True}


def check_afterwards(folder: Path, *, gone: bool) -> None:
    here = {"k1": f"1{TEXT}", "k2": f"2{TEXT}", "pending": "p"}
    with open_in(folder, "a", "w") as db:
        assert db["pending"] == "p"
        assert len(db) == len(list(db))
        assert db.get_metadata() == {"title": "kept"}
        content = dict(db.items())
        if content.pop("unsynced", None) is not None:
            here["unsynced"] = "u"
        if gone:
            assert dict(db.items()) == here
            assert kinds(db) == dict.fromkeys(here, "added")
        else:
            assert content == {"k0": "newer", "k1": here["k1"], "k2": here["k2"], "pending": "p"}
            changes = kinds(db)
            changes.pop("unsynced", None)
            assert changes == {"pending": "added", "k3": "deleted"}
        assert db.push().seq == 3
        assert not list(db.changes())
        content = dict(db.items())
    with open_in(folder, "cold", "r") as db:
        assert dict(db.items()) == content
        assert db.get_metadata() == {"title": "kept"}
    with open_in(folder, "old", "w") as db:  # not a rewound remote
        assert dict(db.items()) == content
        db["more"] = 1
        assert db.push().seq == 4
