"""Two writers and a reader of one database, through random lives, beside plain dicts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ebooklet.adapters.remote.filesystem import open_store
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.bootstrap.remotes import resolve_remote
from ebooklet.connection import RemoteAddress
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.servers import S3Server
from tests.state.machine import Life

LIVES: Final = int(os.environ.get("EBOOKLET_LIVES", "0"))  # of `make lives`


def live(a_life: type[Life], few: int) -> None:
    """A few lives, the same in each run; or as many as were asked for, others in each run."""
    settled = settings(
        max_examples=LIVES or few,
        stateful_step_count=50 if LIVES else 25,
        derandomize=not LIVES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=tuple(Phase) if LIVES else (Phase.explicit, Phase.generate),
        print_blob=True,
    )
    run_state_machine_as_test(a_life, settings=settled)


class LifeInMemory(Life):
    """The server's clock is the simulated one, too."""

    def new_store(self) -> RemoteStore:
        return MemoryRemoteStore(now_ms=lambda: self.clock.now_us() // 1000)


def test_in_memory() -> None:
    """Whatever happens, all see what the dicts say, and what is to be kept reads as it was."""
    live(LifeInMemory, few=16)


def test_in_a_folder() -> None:
    """The same where objects are files."""

    class LifeInAFolder(Life):
        def new_store(self) -> RemoteStore:
            folder = Path(self.folder.name) / "remote"
            folder.mkdir()
            return open_store(RemoteAddress.parse(f"file://{folder}/db"))[0]

    live(LifeInAFolder, few=2)


def test_on_a_server(seaweedfs: S3Server) -> None:
    """The same over the wire, on a server that decides races itself."""
    remote = resolve_remote(seaweedfs.connection(seaweedfs.new_bucket(), "db"), INSTALLED)
    assert remote is not None
    store = remote.store

    class LifeOnAServer(Life):
        cold_looks = False

        def new_store(self) -> RemoteStore:
            store.delete([meta.key for meta in store.list("db")])
            return store

        def leave_store(self) -> None:
            """One connection serves all lives."""

    try:
        live(LifeOnAServer, few=1)
    finally:
        remote.close()
