"""How a queue of tickets breathes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TicketTiming:
    """How the queue breathes; everything in seconds."""

    settle_s: float = 1.0  # between two clear listings; never less than the listing's resolution
    poll_max_s: float = 5.0
    stale_s: float = 80.0  # unchanged for so long: dead
    quiet_s: float = 60.0  # after the last moment when a former holder may have begun a request
    background: bool = True  # heartbeat in a thread; otherwise the caller calls `renew`

    @property
    def beat_s(self) -> float:
        """Seconds between heartbeats."""
        return self.stale_s / 4

    @property
    def valid_s(self) -> float:
        """Seconds after the last acknowledged heartbeat when a contender gives up."""
        return self.stale_s / 2

    @property
    def silent_s(self) -> float:
        """Seconds after the last change of a broken ticket when another may write."""
        return self.valid_s + self.quiet_s
