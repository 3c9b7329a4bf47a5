"""What maintenance did, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GcReport"]


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a garbage collection did, or would do; true if nothing stood in its way.

    Attributes:
        location: of the database.
        dry_run: nothing was changed.
        seq: of the head that stands then.
        n_commits: commits that are retained.
        n_expired: commits that no longer are.
        dropped: segments that nothing retained needs any more; deleted when their grace has passed.
        n_waiting: segments that were dropped before and still have their grace.
        deleted: objects that were deleted, or would be.
        bytes_freed: their size in all.
        failed: deletions that went wrong; the next collection tries again.
        refused: why nothing was done; "" if it was.
    """

    location: str
    dry_run: bool = False
    seq: int = 0
    n_commits: int = 0
    n_expired: int = 0
    dropped: tuple[str, ...] = ()
    n_waiting: int = 0
    deleted: tuple[str, ...] = ()
    bytes_freed: int = 0
    failed: tuple[str, ...] = ()
    refused: str = ""

    def __bool__(self) -> bool:
        return not self.refused and not self.failed
