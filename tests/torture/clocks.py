"""A machine's clock that somebody sets wrong, by hours, while it is in use."""

from __future__ import annotations

from ebooklet.adapters.clock import SystemClock


class SteppedClock(SystemClock):
    """The system's own, but for its wall time; the rest must go right by what does not step."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def now_us(self) -> int:
        """The wrong wall time."""
        return super().now_us() + round(self.offset_s * 1e6)
