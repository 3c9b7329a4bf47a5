"""After any failure nothing is held that was not held before, and the lock is free or expires."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.holding import HEARTBEAT_THREAD
from ebooklet.adapters.localfiles import leases
from ebooklet.adapters.locks.lease import LeaseLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.resources.held import held

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

TORTURE: Final = "EBOOKLET_TORTURE" in os.environ
FAULTS: Final = [(StoreFault.REFUSE, None), (StoreFault.LOSE_ANSWER, 1), (StoreFault.DENY, 1)]


class World:
    """A database in memory with something pending in its local file, as often as it is wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inner = MemoryRemoteStore()
        self.store = FaultyRemoteStore(self.inner, sleep=lambda _: None)
        (folder / "live").mkdir()
        with self.open("c", value_serializer="bytes", n_buckets=60) as db:
            db.update({f"k{n}": b"v" * 99 for n in range(50)})
            db.push()
            db["large"] = b"2" * 300_000
            del db["k1"]
        self._objects = {m.key: self.inner.get(m.key).body for m in self.inner.list("")}
        shutil.copytree(folder / "live", folder / "kept")

    def open(self, flag: Any = "w", name: str = "a.blt", **options: Any) -> EBooklet[Any]:
        return ebooklet.open(self.store, self.folder / "live" / name, flag, **options)

    def restore(self) -> None:
        """As after the first session."""
        self.store.clear()
        self.inner.delete([m.key for m in self.inner.list("")])
        for key, body in self._objects.items():
            self.inner.put(key, body)
        shutil.rmtree(self.folder / "live")
        shutil.copytree(self.folder / "kept", self.folder / "live")


def gathered(world: World) -> None:
    with world.open() as db:
        db.push()
        db.gc(grace=0)
        db.compact()


def loaded(world: World) -> None:
    with world.open("r", "cold.blt") as db:
        db.pull()
        db.load_items()


def copied(world: World) -> None:
    with world.open() as db:
        db.copy_remote(MemoryRemoteStore())


def left_open(world: World) -> None:
    world.open().push()


LIVES: Final[list[Callable[[World], object]]] = [gathered, loaded, copied, left_open]


@pytest.mark.parametrize("live", LIVES)
def test_a_failed_request_leaves_nothing_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: Callable[[World], object]
) -> None:
    """No descriptor, thread or unfinished file; what was pending is pushed by the next session."""
    monkeypatch.setattr(leases, "LEASE_S", 0.01)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    world = World(tmp_path)
    tried = 0
    # Each life meets one of them here, and all of them in `make torture`.
    for fault, times in FAULTS if TORTURE else FAULTS[LIVES.index(live) % len(FAULTS) :][:1]:
        for skipped in range(0, 100, 1 if TORTURE else 8):
            world.restore()
            before = held(tmp_path)
            rule = world.store.add(StoreRule(fault, skip=skipped, times=times))
            try:
                live(world)
            except ebooklet.Error:
                tried += 1
            world.store.clear()
            assert held(tmp_path) == before, f"{fault}, after {skipped} requests"
            if not rule.struck:
                break
            with world.open(force_lock=True, lock_timeout=0) as db:
                assert db["large"] == b"2" * 300_000
                assert "k1" not in db
                db.push()
                assert not list(db.changes())
    assert tried


def test_ctrl_c_while_the_heartbeat_starts_frees_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that nobody has a handle of renews no lock for ever."""
    service = LeaseLockService(MemoryRemoteStore(), clock=SystemClock())
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            service.acquire("db", timeout=0)
    for thread in threading.enumerate():
        if thread.name == HEARTBEAT_THREAD:
            thread.join(20)
    service.acquire("db", timeout=0).release()
