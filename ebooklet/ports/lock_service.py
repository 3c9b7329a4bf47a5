"""The LockService port: one writer at a time, with takeover of the dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds, or last held, a lock."""

    owner: str  # random id of the holding handle
    host: str
    pid: int
    purpose: str  # for example "write", "gc"
    token: int  # fencing token: grows with every change of holder
    state: Literal["held", "free"]
    age_s: float | None  # seconds since acquisition, as far as known


@runtime_checkable
class Lease(Protocol):
    """A lock that is held. Renewed in the background until `release`."""

    @property
    def token(self) -> int:
        """Fencing token: greater than that of every earlier holder."""
        ...

    @property
    def info(self) -> LockInfo: ...

    @property
    def waited(self) -> bool:
        """Whether another may have held the lock since `acquire` was called.

        Then what was read before is old, and to be read again.
        """
        ...

    @property
    def lost(self) -> bool:
        """True once this holder must assume that another may hold the lock; costs nothing."""
        ...

    def check(self) -> None:
        """Raise `LockLostError` if `lost`; makes no request."""
        ...

    def verify(self) -> None:
        """Ask the store whether the lock is still ours. Raises `LockLostError`."""
        ...

    def release(self) -> None:
        """Give the lock back; idempotent; never raises for a lock already lost."""
        ...


@runtime_checkable
class LockService(Protocol):
    """Locks by name (a database's key).

    Promises, each checked by `ebooklet.testing.LockServiceContract`:

    1. At most one live holder per name; a suspended or partitioned one loses politely:
       `lost` turns True before another can acquire, measured on a clock that counts suspend.
    2. Tokens strictly increase through release, crash and takeover.
    3. A dead holder blocks the next for at most `takeover_s`.
    4. No two machines' clocks are ever compared.
    5. Waiting ends after `timeout` seconds with `LockTimeout`, which names holder, host, age and
       the way out.
    6. A failed acquire leaves nothing that blocks others.
    """

    @property
    def kind(self) -> str:
        """The registered name: lease, ticket, file or none."""
        ...

    @property
    def takeover_s(self) -> float:
        """Longest time in seconds that a dead holder blocks the next."""
        ...

    def acquire(
        self,
        name: str,
        *,
        timeout: float,
        purpose: str = "write",
        fence: int = 0,
        force: bool = False,
    ) -> Lease:
        """Wait for the lock and hold it.

        Args:
            name: the database's key.
            timeout: seconds to wait; 0 tries once.
            purpose: what it is for, shown to those who wait.
            fence: the highest token seen elsewhere (the head's); the new one is greater.
            force: take it from whoever holds it now; a live former holder finds it lost.

        Raises:
            LockTimeout: still held by another.
        """
        ...

    def inspect(self, name: str) -> LockInfo | None:
        """Who holds or last held it; None if there is no trace. Changes nothing."""
        ...

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """Free the locks of others that are at least so old; return those freed."""
        ...


@runtime_checkable
class ForesightedLockService(LockService, Protocol):
    """A lock service whose `acquire` begins with a read that needs nothing known before.

    It can be made beside another one, so that a writer does not wait for both in a row.
    """

    def look_ahead(self, name: str) -> None:
        """Read now what the next `acquire` of `name` would read first.

        What is seen may be old by then: that costs requests, and lets nobody in. Never raises an
        `EBookletError`: `acquire` meets it again.
        """
        ...
