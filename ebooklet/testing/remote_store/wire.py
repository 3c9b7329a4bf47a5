"""What crosses between a store and its server, where it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ebooklet.ports.remote_store import RemoteStore

__all__ = ["Wire"]


@dataclass(frozen=True)
class Wire:
    """An empty store, and what passed between it and its server since the beginning."""

    store: RemoteStore
    bytes_moved: Callable[[], int]
    conditions_sent: Callable[[], int]  # requests with If-Match or If-None-Match
