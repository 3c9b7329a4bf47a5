"""A writer stopped in the middle of its commit, in a process of its own (FORMAT §7)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.locks.lease import LeaseLockService
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.database import EBooklet
from ebooklet.ports.clock import Clock
from ebooklet.testing.clock import ManualClock

# Stops at the very request that would move the head, once, and says what became of its push.
WRITER = """
import os, signal
from tests.services.test_suspended_writers import opened
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.errors import LockLostError

class Stopping(FilesystemRemoteStore):
    stopped = False

    def put(self, key, body, **options):
        if key == "db" and not self.stopped:
            self.stopped = True
            os.kill(os.getpid(), signal.{signal})
        return super().put(key, body, **options)

with opened(Stopping({root!r}), SystemClock()) as db:
    print(db.lock.token, flush=True)
    db.update(shared="suspended", mine=1)
    try:
        db.push()
    except LockLostError:
        print("lost", sorted(change["key"] for change in db.changes()), flush=True)
    else:
        print("pushed", flush=True)
"""


def opened(store: FilesystemRemoteStore, clock: Clock) -> EBooklet[Any]:
    """A writer under a lease; on a clock of its own, a minute without a sign costs no time."""
    lock = LeaseLockService(store, clock)
    return ebooklet.open(store, None, "c", "json", lock=lock, lock_timeout=200, clock=clock)


@contextmanager
def writer(root: Path, sent: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes, and sends itself a signal at its commit."""
    argv = [sys.executable, "-c", WRITER.format(signal=sent, root=str(root))]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("lean_processes")
def test_a_holder_that_sleeps_through_a_takeover(tmp_path: Path) -> None:
    """FORMAT 10.9: stopped inside its commit, it wakes after another's, and cannot land.

    By its own clock it still holds the lease, so that the head alone tells it. `LockLostError`, with
    all of it pending; tokens grow over release, crash and takeover.

    Fails without: the look at the fence of a head that was met; the condition on the head's put.
    """
    (tmp_path / "bucket").mkdir()
    store = FilesystemRemoteStore(tmp_path / "bucket")
    tokens: list[int] = []

    def write(key: str, value: str) -> None:
        with opened(store, ManualClock(seed=len(tokens))) as db:
            assert db.lock is not None
            tokens.append(db.lock.token)
            db[key] = value
            assert db.push()

    write("shared", "first")
    with writer(tmp_path / "bucket", "SIGKILL") as crashed:
        assert crashed.stdout is not None
        tokens.append(int(crashed.stdout.readline()))
        assert crashed.wait(60) == -signal.SIGKILL
    write("shared", "second")
    with writer(tmp_path / "bucket", "SIGSTOP") as suspended:
        assert suspended.stdout is not None
        tokens.append(int(suspended.stdout.readline()))
        _, status = os.waitpid(suspended.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        write("shared", "contender's")
        suspended.send_signal(signal.SIGCONT)
        assert suspended.stdout.readline() == "lost ['mine', 'shared']\n"
        assert suspended.wait(60) == 0
    write("after", "it")
    with ebooklet.open(store) as db:
        assert dict(db.items()) == {"shared": "contender's", "after": "it"}
        assert [commit.seq for commit in db.log()] == [4, 3, 2, 1]
    assert tokens == sorted(set(tokens))
