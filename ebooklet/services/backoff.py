"""Chance for the pauses between attempts, from the clock: a schedule can be played again."""

from __future__ import annotations

from ebooklet.ports.clock import Clock


def chance(clock: Clock) -> float:
    """A number from 0 up to, and never, 1; to spread load, no secret."""
    return int.from_bytes(clock.token_bytes(4)) / 2**32
