"""The Progress port: how far a long transfer has come."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of transfers as they happen; must return at once and never raise."""

    def started(self, task: str, *, total_bytes: int, total_items: int) -> None: ...

    def advanced(self, task: str, *, n_bytes: int, n_items: int) -> None: ...

    def finished(self, task: str) -> None: ...
