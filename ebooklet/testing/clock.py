"""Virtual time: a clock that moves only when told, so that no test waits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ebooklet.ports.clock import Clock

__all__ = ["ManualClock", "SkewedClock"]

_START_US: Final = 1_700_000_000_000_000


class ManualClock:
    """A Clock whose time moves by `advance` and by every `sleep`, which returns at once.

    Args:
        now_us: wall time at the start, µs since the Unix epoch.
        seed: of the random bytes, which are the same in every run and differ between seeds.
        on_sleep: called with the seconds of every `sleep` before time moves on: what others do
            meanwhile.

    Example:
        >>> clock = ManualClock()
        >>> start = clock.monotonic()
        >>> clock.sleep(60)
        >>> clock.monotonic() - start
        60.0
    """

    def __init__(
        self,
        now_us: int = _START_US,
        *,
        seed: int = 0,
        on_sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.on_sleep = on_sleep
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._wall_us = now_us
        self._elapsed_us = 0

    def now_us(self) -> int:
        """Virtual wall time, µs since the Unix epoch."""
        with self._lock:
            return self._wall_us

    def monotonic(self) -> float:
        """Virtual seconds since this clock was made."""
        with self._lock:
            return self._elapsed_us / 1e6

    def sleep(self, seconds: float) -> None:
        """Move time on by `seconds`."""
        if self.on_sleep is not None:
            self.on_sleep(seconds)
        self.advance(max(0.0, seconds))

    def token_bytes(self, n: int) -> bytes:
        """Bytes that depend on the seed and the calls before only."""
        with self._lock:
            return self._random.randbytes(n)

    def advance(self, seconds: float) -> None:
        """Move both clocks on."""
        if seconds < 0:
            raise ValueError("monotonic time does not go back; use step_wall")
        step = round(seconds * 1e6)
        with self._lock:
            self._elapsed_us += step
            self._wall_us += step

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would."""
        with self._lock:
            self._wall_us += round(seconds * 1e6)


@dataclass(frozen=True, slots=True)
class SkewedClock:
    """Another clock on a machine whose wall time is wrong.

    Args:
        clock: what else it does.
        seconds: how far the wall time is ahead.
    """

    clock: Clock
    seconds: float

    def now_us(self) -> int:
        """The wrong wall time, µs since the Unix epoch."""
        return self.clock.now_us() + round(self.seconds * 1e6)

    def monotonic(self) -> float:
        """The other clock's."""
        return self.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """The other clock's."""
        self.clock.sleep(seconds)

    def token_bytes(self, n: int) -> bytes:
        """The other clock's."""
        return self.clock.token_bytes(n)
