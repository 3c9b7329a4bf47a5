"""The Clock port: time and randomness, so that no test waits or patches."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Time and randomness.

    1. `now_us` may step in either direction; nothing safe may rest on it.
    2. `monotonic` never goes back and counts the time the machine was suspended
       (`CLOCK_BOOTTIME` where the system has it).
    3. `token_bytes` is cryptographically random.
    """

    def now_us(self) -> int:
        """Wall time, µs since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def token_bytes(self, n: int) -> bytes: ...
