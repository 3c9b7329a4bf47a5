"""A server with bad manners, its clients on virtual time, and what must stand there after all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from hypothesis import HealthCheck, Phase, settings

from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.database import EBooklet
from ebooklet.errors import OutcomeUnknown
from ebooklet.ports.remote_store import Body, Condition, ObjectMeta
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, Manners

Mode = Literal["cas", "lock"]
HEADS: Final = ("db", "db.alt")
LIFE_FACTOR: Final = int(os.environ.get("EBOOKLET_TORTURE", "1"))


def lives(examples: int) -> settings:
    """How many lives are tried: a few in `make test`, many times more in `make torture`."""
    return settings(
        max_examples=examples * LIFE_FACTOR,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=LIFE_FACTOR == 1,
        # To make a failing life shorter takes longer than a test may; its blob plays it again.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        print_blob=True,
    )


class Killed(BaseException):
    """The process ends here."""


class HostileServer(FaultyRemoteStore):
    """A faulty store at an address of its own, whose failed head writes may take a client along."""

    def __init__(self, mode: Mode, clock: ManualClock, manners: Manners | None = None) -> None:
        inner = MemoryRemoteStore(now_ms=lambda: clock.now_us() // 1000)
        super().__init__(inner, manners=manners, sleep=clock.sleep)
        self.name = f"hostile://{mode}"
        self.dying: Callable[[], object] | None = None

    @property
    def endpoint(self) -> str:
        return self.name

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        try:
            return super().put(key, body, condition=condition, cache_control=cache_control)
        except OutcomeUnknown:
            if self.dying is None:
                raise
            self.dying()
            raise Killed from None


def copy_local_half(before: Path, after: Path) -> None:
    """Copy a local file and the folder beside it, as they are now: what a killed process leaves."""
    shutil.copy2(before, after)
    shutil.copytree(before.with_name(before.name + ".ebk"), after.with_name(after.name + ".ebk"))


class World:
    """One server, some machines with a local file each, one clock.

    Args:
        folder: for the local files.
        mode: how heads are moved.
        manners: of the server; in mode lock it looks at no condition.
        known: as if a probe had found that out.
    """

    def __init__(
        self, folder: Path, mode: Mode, manners: Manners | None = None, *, known: bool = True
    ) -> None:
        self.folder = folder
        self.mode = mode
        self.clock = ManualClock()
        if manners is None and mode == "lock":
            manners = Manners(ignores_if_absent=True, ignores_if_match=True)
        self.store = HostileServer(mode, self.clock, manners)
        cache = ProbeCache()
        if known and cache.get(self.store.endpoint, self.clock) is None:
            cache.put(self.store.endpoint, self.clock, mode, "quoted", "")
        self._lives: dict[str, int] = {}

    def open(self, name: str, flag: Any = "c", **options: Any) -> EBooklet[Any]:
        """Open the local file of a machine, on the one database there is."""
        if flag in ("c", "n"):
            options.setdefault("value_serializer", "json")
        lock: Any = "optimistic"
        if self.mode == "lock":
            lock = TicketLockService(self.store, self.clock, TicketTiming(background=False))
        options.setdefault("lock", lock)
        return open_database(
            self.store, self.path(name), flag, clock=self.clock, n_buckets=20, **options
        )

    def look(self, version: int | None = None) -> EBooklet[Any]:
        """Read the database without a local file."""
        return open_database(self.store, None, "r", version=version, clock=self.clock)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}{self._lives.get(name, 0)}.blt"

    def kill(self, name: str) -> None:
        """End the process of a machine, with what its files hold at this moment."""
        before = self.path(name)
        self._lives[name] = self._lives.get(name, 0) + 1
        after = self.path(name)
        copy_local_half(before, after)

    @staticmethod
    def bury(db: EBooklet[Any]) -> None:
        """Let go of a handle whose process was killed: nothing more is written or given back."""
        db._finalizer.detach()
        db._copy.closed = True
        db._copy.local.close()

    def forget_tickets(self) -> None:
        """Lose the lock of whoever holds it, without a word."""
        self.store.inner.delete([meta.key for meta in self.store.inner.list("db.lock.")])

    def heads(self) -> dict[str, bytes]:
        """The copies of the head that are stored."""
        listed = {meta.key for meta in self.store.inner.list("db")}
        return {key: self.store.inner.get(key).body for key in HEADS if key in listed}


def pushed_world(folder: Path, mode: Mode) -> World:
    """A world whose database has one key, which was pushed."""
    world = World(folder, mode)
    with world.open("a") as db:
        db["k"] = 1
        assert db.push()
    return world
