"""Every built-in lock service over the stores it is for."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.file import FileLockService
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.ports.lock_service import LockService
from ebooklet.testing.lock_service import LockServiceContract, OpenService

LEASE = LeaseTiming(poll_first_s=0.01, poll_max_s=0.05)
BRISK_LEASE = LeaseTiming(ttl_s=1.2, poll_first_s=0.05, poll_max_s=0.1)
TICKET = TicketTiming(settle_s=0.03, poll_max_s=0.03)
BRISK_TICKET = TicketTiming(settle_s=0.03, poll_max_s=0.05, stale_s=1.2, quiet_s=0.2)


class TestLeaseInMemory(LockServiceContract):
    """Conditional writes at their fastest."""

    @pytest.fixture
    def open_service(self) -> OpenService:
        remote = MemoryRemoteStore()

        def opened(brisk: bool) -> LockService:
            return LeaseLockService(remote, SystemClock(), BRISK_LEASE if brisk else LEASE)

        return opened

    @pytest.fixture
    def worker_source(self) -> str | None:
        return None


class TestTicketInMemory(LockServiceContract):
    """The queue on a store whose listings are exact to the millisecond."""

    @pytest.fixture
    def open_service(self) -> OpenService:
        remote = MemoryRemoteStore()

        def opened(brisk: bool) -> LockService:
            return TicketLockService(remote, SystemClock(), BRISK_TICKET if brisk else TICKET)

        return opened

    @pytest.fixture
    def worker_source(self) -> str | None:
        return None


class TestLeaseInFolder(LockServiceContract):
    """Conditional writes between real processes."""

    @pytest.fixture
    def open_service(self, tmp_path: Path) -> OpenService:
        root = tmp_path / "root"
        root.mkdir()

        def opened(brisk: bool) -> LockService:
            remote = FilesystemRemoteStore(root)
            return LeaseLockService(remote, SystemClock(), BRISK_LEASE if brisk else LEASE)

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


class TestFile(LockServiceContract):
    """The operating system's locks."""

    takes_from_suspended: ClassVar[bool] = False

    @pytest.fixture
    def open_service(self, tmp_path: Path) -> OpenService:
        def opened(brisk: bool) -> LockService:
            return FileLockService(tmp_path / "locks", SystemClock())

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
