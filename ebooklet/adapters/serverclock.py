"""The clock of a server, as its answers tell it."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

__all__ = ["ServerClock"]


class ServerClock:
    """Remembers the last `Date` header, and carries it forward by our own clock."""

    def __init__(self) -> None:
        self._noted = ("", 0.0)  # the header, and `time.monotonic()` at its arrival

    def note(self, date: str | None) -> None:
        """Take a `Date` header in; read only when somebody asks for the time."""
        if date:
            self._noted = (date, time.monotonic())

    def now_ms(self) -> int | None:
        """Unix ms at the server; None before any answer that told the time."""
        text, arrived = self._noted
        try:
            then_s = parsedate_to_datetime(text).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None
        return int((then_s + time.monotonic() - arrived) * 1000)
