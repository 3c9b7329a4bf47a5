"""Every built-in lock service over the stores it is for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.file import FileLockService
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.names import lock_key
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.lock_service_contract import LockServiceContract, OpenService, Traces

CLOCK = SystemClock()
LEASE = LeaseTiming(poll_first_s=0.01, poll_max_s=0.05)
BRISK_LEASE = LeaseTiming(ttl_s=1.2, poll_first_s=0.05, poll_max_s=0.1)
TICKET = TicketTiming(settle_s=0.03, poll_max_s=0.03)
BRISK_TICKET = TicketTiming(settle_s=0.03, poll_max_s=0.05, stale_s=1.2, quiet_s=0.2)


def traces_in(remote: RemoteStore, name: str) -> list[str]:
    """The objects of a lock."""
    return [meta.key for meta in remote.list(lock_key(name))]


class InMemory:
    """What a suite in memory is given: no other process gets there."""

    @pytest.fixture
    def remote(self) -> RemoteStore:
        return MemoryRemoteStore()

    @pytest.fixture
    def worker_source(self) -> str | None:
        return None

    @pytest.fixture
    def traces(self, remote: RemoteStore) -> Traces:
        return partial(traces_in, remote)


@pytest.mark.matrix("locks", "lease", "(memory)")
class TestLeaseInMemory(InMemory, LockServiceContract):
    """Conditional writes at their fastest."""

    @pytest.fixture
    def open_service(self, remote: RemoteStore) -> OpenService:
        def opened(brisk: bool, clock: Clock = CLOCK) -> LockService:
            return LeaseLockService(remote, clock, BRISK_LEASE if brisk else LEASE)

        return opened


@pytest.mark.matrix("locks", "ticket", "(memory)")
class TestTicketInMemory(InMemory, LockServiceContract):
    """The queue on a store whose listings are exact to the millisecond."""

    @pytest.fixture
    def open_service(self, remote: RemoteStore) -> OpenService:
        def opened(brisk: bool, clock: Clock = CLOCK) -> LockService:
            return TicketLockService(remote, clock, BRISK_TICKET if brisk else TICKET)

        return opened


@pytest.mark.matrix("locks", "lease", "(folder)")
class TestLeaseInFolder(LockServiceContract):
    """Conditional writes between real processes."""

    @pytest.fixture
    def open_service(self, tmp_path: Path) -> OpenService:
        root = tmp_path / "root"
        root.mkdir()

        def opened(brisk: bool, clock: Clock = CLOCK) -> LockService:
            remote = FilesystemRemoteStore(root)
            return LeaseLockService(remote, clock, BRISK_LEASE if brisk else LEASE)

        return opened

    @pytest.fixture
    def worker_source(self, tmp_path: Path, open_service: OpenService) -> str | None:
        return f"""
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore

def open_service(brisk):
    remote = FilesystemRemoteStore({str(tmp_path / "root")!r})
    return LeaseLockService(remote, SystemClock(), {BRISK_LEASE} if brisk else {LEASE})
"""

    @pytest.fixture
    def traces(self, tmp_path: Path) -> Traces:
        return partial(traces_in, FilesystemRemoteStore(tmp_path / "root"))


@pytest.mark.matrix("locks", "file", "(folder)")
class TestFile(LockServiceContract):
    """The operating system's locks."""

    takes_from_suspended: ClassVar[bool] = False

    @pytest.fixture
    def open_service(self, tmp_path: Path) -> OpenService:
        def opened(brisk: bool, clock: Clock = CLOCK) -> LockService:
            return FileLockService(tmp_path / "locks", clock)

        return opened

    @pytest.fixture
    def worker_source(self, tmp_path: Path) -> str | None:
        return f"""
from pathlib import Path
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.file import FileLockService

def open_service(brisk):
    return FileLockService(Path({str(tmp_path / "locks")!r}), SystemClock())
"""

    @pytest.fixture
    def traces(self, tmp_path: Path) -> Traces:
        return lambda name: [path.name for path in (tmp_path / "locks").glob(f"{name}*")]
