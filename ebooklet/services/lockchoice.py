"""Which write lock a writer takes, as those who open databases say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from ebooklet.core.head import Proto
from ebooklet.ports.lock_service import LockService

DEFAULT_LOCK_TIMEOUT_S: Final = 300.0

ChooseLock: TypeAlias = Callable[[Proto], LockService | None]
"""From how heads are moved to the lock, or None where none is due."""


def no_lock(_: Proto) -> None:
    """The choice of those who take none."""
