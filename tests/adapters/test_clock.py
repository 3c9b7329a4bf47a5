"""The two clocks."""

from __future__ import annotations

import time

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.testing.clock import ManualClock


def test_system_clock_tells_the_time() -> None:
    """Wall time is the system's; monotonic time moves on through a sleep, and counts suspend."""
    clock = SystemClock()
    before, began = time.time_ns() // 1000, clock.monotonic()
    now = clock.now_us()
    assert before <= now <= time.time_ns() // 1000
    clock.sleep(0.002)
    clock.sleep(-1)
    assert clock.monotonic() - began >= 0.002
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert began <= time.clock_gettime(time.CLOCK_BOOTTIME)
        assert time.clock_gettime(time.CLOCK_BOOTTIME) - began < 60


def test_system_clock_gives_randomness() -> None:
    """As many bytes as asked for, never the same."""
    clock = SystemClock()
    assert len({clock.token_bytes(16) for _ in range(100)}) == 100
    assert clock.token_bytes(0) == b""


def test_manual_clock_moves_when_told() -> None:
    """Sleep and advance move both clocks; a step moves the wall's only."""
    clock = ManualClock(1_000_000)
    clock.sleep(2)
    clock.advance(0.5)
    assert (clock.now_us(), clock.monotonic()) == (3_500_000, 2.5)
    clock.step_wall(-3)
    assert (clock.now_us(), clock.monotonic()) == (500_000, 2.5)
    with pytest.raises(ValueError, match="step_wall"):
        clock.advance(-1)


def test_manual_clock_repeats_itself() -> None:
    """Equal seeds give equal bytes, other seeds others."""
    assert ManualClock(seed=1).token_bytes(8) == ManualClock(seed=1).token_bytes(8)
    assert ManualClock(seed=1).token_bytes(8) != ManualClock(seed=2).token_bytes(8)
