"""One run: a server, a database, six processes on it, and what is done to all of them.

Two writers and four readers live as long as there is time. Whoever dies is started again, its local
files now and then not as it left them. Meanwhile processes are killed, the disk of one writer is made
small, its folder read-only, and the server killed and started again over its folder.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import ebooklet
from ebooklet.errors import EBookletError
from ebooklet.testing.servers import S3Server, free_ports, start_seaweedfs
from tests.small_disks import SmallDisk
from tests.torture import readers, writers
from tests.torture.actor import DB_KEY, Role
from tests.torture.content import WRITERS, look
from tests.torture.damage import damage
from tests.torture.ledger import FOREIGN, Ledger, Note, read_all

READERS: Final = ("r1", "r2", "r3cold", "r4cold")
ARENA: Final = "arena"
EVENT: Final = "event"  # something was done to a process, a disk or the server
_LEAN: Final = Path(__file__).parents[1] / "lean"
_TICK_S: Final = 0.05
_PATIENCE_S: Final = 90.0  # for an orderly end
_DAMAGED: Final = 0.25  # of the lives of those that died
_READ_ONLY: Final = 0.15  # of the lives of the writer on the small disk
_EVERY_S: Final = {"kill": 5.0, "squeeze": 20.0, "server": 45.0}  # on average


class Place:
    """A real server that can be killed and comes back as it was, at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports(8)
        self._stack = ExitStack()
        self.server = self._started()

    def restart(self, after_s: float) -> None:
        """Kill it, and start it again over what it has stored."""
        self._stack.close()  # by SIGKILL
        time.sleep(after_s)
        self._started()

    def close(self) -> None:
        """Kill it."""
        self._stack.close()

    def _started(self) -> S3Server:
        return self._stack.enter_context(start_seaweedfs(self._folder, self._ports))


class Arena:
    """The processes of one run, and their ledgers.

    Its processes load no package for frames, which would take most of their lives.

    Args:
        folder: for everything; has to be empty.
        server: where the database is to be.
        seed: of all that is chance of ours.
        restart: kills and starts the server again after so many seconds; None to leave it alone.
        cast: names of the processes.
        faults: whether anything is done to anybody.
    """

    def __init__(
        self,
        folder: Path,
        server: S3Server,
        seed: str,
        *,
        restart: Callable[[float], None] | None = None,
        cast: tuple[str, ...] = (*WRITERS, *READERS),
        faults: bool = True,
    ) -> None:
        self.folder = folder
        self.server = server
        self.cast = cast
        self._restart = restart
        self._faults = faults
        self._chance = random.Random(f"{seed} arena")
        self._seed = seed
        self._bucket = server.new_bucket()
        os.environ["PYTHONPATH"] = str(_LEAN)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.torture.warm"])
        self._alive: dict[str, BaseProcess] = {}
        self._disk = SmallDisk(folder / "small", mount=faults)
        self._squeezed_until = 0.0
        (folder / "ledgers").mkdir()
        self._ledger = Ledger(folder / "ledgers", ARENA)
        self._due = {name: self._next(every) for name, every in _EVERY_S.items()}

    @property
    def has_small_disk(self) -> bool:
        """Whether a file system could be mounted for the optimistic writer."""
        return self._disk.mounted

    def notes(self) -> list[Note]:
        """All that all have noted, in the order of time."""
        return read_all(self.folder / "ledgers", (ARENA, *self.cast, "settling"))

    def found(self) -> None:
        """Create the database, with what is there from the beginning."""
        self._run(writers.found, self._role("settling", faults=False))

    def head(self) -> bytes:
        """The head of the database, as it is stored now."""
        return self.server.client().get_object(Bucket=self._bucket, Key=DB_KEY)["Body"].read()

    def plant(self, head: bytes) -> None:
        """Lose what was acknowledged since: put an old head back, as no server may."""
        self.server.client().put_object(Bucket=self._bucket, Key=DB_KEY, Body=head)
        self._ledger.note(EVENT, kind="planted")

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let them live, and do things to them, for so long or until enough was seen."""
        end = time.monotonic() + seconds
        for name in self.cast:
            self._start(name, "", damaged=False)
        while time.monotonic() < end and not until():
            time.sleep(_TICK_S)
            self._bury()
            if self._faults:
                self._harm()
        self._disk.relax()
        self._stop().touch()
        end = time.monotonic() + _PATIENCE_S
        while self._alive and time.monotonic() < end:
            time.sleep(_TICK_S)
            for name, process in list(self._alive.items()):
                if process.exitcode is not None:
                    del self._alive[name]
        for name, process in self._alive.items():
            self._ledger.note(FOREIGN, call="end", error=f"{name} did not end in {_PATIENCE_S} s")
            process.kill()

    def settle(self) -> None:
        """When all is over everybody finds what was promised, and the last word stands."""
        for name in self.cast:
            if name in WRITERS:
                self._run(writers.settle, self._role(name, faults=False))
        self.look()

    def look(self) -> None:
        """Let somebody who was never there before see what stands, and its history."""
        self._run(readers.history, self._role("settling", faults=False))

    def close(self) -> None:
        """End what is left, and unmount."""
        for process in self._alive.values():
            process.kill()
        for process in self._alive.values():
            process.join()
        self._ledger.close()
        self._disk.__exit__()

    # Lives

    def _stop(self) -> Path:
        return self.folder / "stop"

    def _role(self, name: str, *, faults: bool) -> Role:
        folder = self.folder / ("small" if name == "o" else "large")
        folder.mkdir(exist_ok=True)
        return Role(
            *(name, self._seed, self.server, self._bucket),
            *(folder, self.folder / "ledgers", self._stop(), faults),
        )

    def _start(self, name: str, fault: str, *, damaged: bool) -> None:
        role = self._role(name, faults=self._faults)
        live = writers.write if name in WRITERS else readers.read
        process = self._context.Process(target=live, args=(role, fault, damaged), name=name)
        process.start()
        self._alive[name] = process

    def _run(self, action: Callable[..., None], *arguments: Any) -> None:
        """Have a process do something to its end."""
        process = self._context.Process(target=action, args=arguments)
        process.start()
        process.join(_PATIENCE_S)
        if process.exitcode != 0:
            process.kill()
            error = f"{action.__module__}.{action.__name__} ended with {process.exitcode}"
            self._ledger.note(FOREIGN, call="settle", error=error)

    def _bury(self) -> None:
        """Start again who ended, and do something to its files before that, now and then."""
        for name, process in list(self._alive.items()):
            if process.exitcode is None:
                continue
            if process.exitcode > 0:
                self._ledger.note(FOREIGN, call="life", error=f"{name} ended of itself")
            fault = ""
            if self._faults and name == "o" and self._chance.random() < _READ_ONLY:
                self._visit(name)
            if self._faults and self._chance.random() < _DAMAGED:
                fault = damage(self._role(name, faults=True).path, self._chance)
            self._start(name, fault, damaged=bool(fault))

    def _visit(self, name: str) -> None:
        """Freeze the folder, and let somebody try."""
        if self._disk.freeze():
            self._run(visit, replace(self._role(name, faults=False), name="settling"), name)
            self._ledger.note(EVENT, kind="read-only folder")
            self._disk.relax()

    # Harm

    def _next(self, every: float) -> float:
        return time.monotonic() + every * 2 * self._chance.random()

    def _harm(self) -> None:
        now = time.monotonic()
        if self._squeezed_until and now > self._squeezed_until:
            self._squeezed_until = 0.0
            self._disk.relax()
        for name, at in self._due.items():
            if now < at:
                continue
            self._due[name] = self._next(_EVERY_S[name])
            if name == "kill":
                victim = self._chance.choice(list(self._alive.values()))
                if victim.pid is not None and victim.exitcode is None:
                    os.kill(victim.pid, signal.SIGKILL)
            elif name == "squeeze":
                spare = int(10 ** (5.5 * self._chance.random()))
                if self._disk.squeeze(spare):
                    self._ledger.note(EVENT, kind="disk full")
                    self._squeezed_until = now + 2 * self._chance.random()
            elif self._restart is not None:
                self._ledger.note(EVENT, kind="server killed")
                self._restart(3 * self._chance.random())


def visit(role: Role, name: str) -> None:
    """In a folder that can only be read nobody writes, and what is read is right."""
    ledger = Ledger(role.ledgers, role.name)
    path = role.folder / f"{name}.blt"
    connection = role.server.connection(role.bucket, DB_KEY)
    for flag in ("w", "r"):
        try:
            with ebooklet.open(connection, path, flag, lock="optimistic", lock_timeout=1) as db:
                wrong = look(dict(db.items())).wrong
                if flag == "w" or wrong:
                    ledger.note(
                        FOREIGN, call=f"open {flag!r} in a folder to read", error=str(wrong)
                    )
        except (EBookletError, OSError) as exc:
            ledger.note(EVENT, kind="refused", flag=flag, error=f"{type(exc).__name__}: {exc}")


@contextmanager
def arena(folder: Path, seed: str) -> Iterator[Arena]:
    """A whole one, with a server of its own."""
    place = Place(folder / "server")
    try:
        one = Arena(folder, place.server, seed, restart=place.restart)
        try:
            yield one
        finally:
            one.close()
    finally:
        place.close()
