"""Pauses between attempts. Their chance comes from the clock: a schedule can be played again."""

from __future__ import annotations

from ebooklet.ports.clock import Clock


def pause_after_race(clock: Clock, n_lost: int) -> None:
    """Let those who won a race for the head go first; they are at work, and nothing has failed.

    Args:
        clock: for the pause, and its chance.
        n_lost: races lost so far; after none there is no pause, after five and more 0.64 s at most.
    """
    if n_lost:
        clock.sleep(0.02 * 2 ** min(n_lost, 5) * _chance(clock))


def pause_after_failure(clock: Clock, n_failed: int) -> None:
    """Leave a server that failed some time to recover.

    Args:
        clock: for the pause, and its chance.
        n_failed: attempts that failed so far; after none there is no pause, after many 1 to 3 s.
    """
    if n_failed:
        clock.sleep(min(2.0, 0.05 * 2**n_failed) * (0.5 + _chance(clock)))


def _chance(clock: Clock) -> float:
    """A number from 0 up to, and never, 1; to spread load, no secret."""
    return int.from_bytes(clock.token_bytes(4)) / 2**32
