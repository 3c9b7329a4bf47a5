"""No lock at all: for a remote that only this program writes to, and for tests."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from ebooklet.adapters.holding import host_name
from ebooklet.errors import LockLostError
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockInfo
from ebooklet.ports.remote_store import RemoteStore

__all__ = ["NullLockService", "open_service"]


class NullLockService:
    """Everybody gets the lock at once; nobody is kept out.

    Args:
        clock: names the handles.
    """

    kind: Final = "none"
    takeover_s: Final = 0.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._token = 0

    def acquire(
        self,
        name: str,
        *,
        timeout: float,
        purpose: str = "write",
        fence: int = 0,
        force: bool = False,
    ) -> Lease:
        """Return a lease at once; its token is greater than `fence` and than earlier ones here."""
        with self._mutex:
            self._token = max(self._token, fence) + 1
            token = self._token
        owner = self._clock.token_bytes(16).hex()
        return _NullLease(
            name, LockInfo(owner, host_name(), os.getpid(), purpose, token, "held", 0.0)
        )

    def inspect(self, name: str) -> LockInfo | None:
        """Nothing is known of anyone."""
        return None

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """There is nothing to break."""
        return []


class _NullLease:
    """Never lost."""

    def __init__(self, name: str, info: LockInfo) -> None:
        self._name = name
        self._info = info
        self._released = False

    @property
    def token(self) -> int:
        """Fencing token."""
        return self._info.token

    @property
    def info(self) -> LockInfo:
        """This process."""
        return self._info

    @property
    def waited(self) -> bool:
        """Nobody waits for anybody."""
        return False

    @property
    def lost(self) -> bool:
        """True after `release` only."""
        return self._released

    def check(self) -> None:
        """Raise `LockLostError` after `release`."""
        if self._released:
            raise LockLostError("the lock was released", op="lock", key=self._name)

    def verify(self) -> None:
        """The same as `check`."""
        self.check()

    def release(self) -> None:
        """Idempotent."""
        self._released = True


def open_service(
    remote: RemoteStore, clock: Clock, *, folder: Path | None = None
) -> NullLockService:
    """Open the service that locks nobody out.

    Args:
        remote: not used.
        clock: this machine's.
        folder: not used.
    """
    return NullLockService(clock)
