"""The machine's own clock and randomness."""

from __future__ import annotations

import os
import sys
import time
from typing import Final

__all__ = ["SystemClock"]


def _clock_that_counts_suspend() -> int | None:
    """Id of a monotonic clock that runs on while the machine sleeps; None for Python's own.

    Linux has CLOCK_BOOTTIME; there CLOCK_MONOTONIC stops. On macOS CLOCK_MONOTONIC runs on, while
    `time.monotonic` (mach_absolute_time) stops. Elsewhere `time.monotonic` is the best there is.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.CLOCK_BOOTTIME
    return getattr(time, "CLOCK_MONOTONIC", None) if sys.platform == "darwin" else None


_CLOCK_ID: Final = _clock_that_counts_suspend()


class SystemClock:
    """The real world, as the Clock port sees it."""

    def now_us(self) -> int:
        """Wall time, µs since the Unix epoch, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds since boot, suspend included."""
        return time.monotonic() if _CLOCK_ID is None else time.clock_gettime(_CLOCK_ID)

    def sleep(self, seconds: float) -> None:
        """Block this thread; nothing for zero or less."""
        if seconds > 0:
            time.sleep(seconds)

    def token_bytes(self, n: int) -> bytes:
        """`n` bytes from the operating system's generator."""
        return os.urandom(n)
