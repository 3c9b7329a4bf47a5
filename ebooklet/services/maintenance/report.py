"""What maintenance did, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CompactionReport", "GcReport"]


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
        bytes_dropped: their size in all, which a later collection frees.
        n_waiting: segments that were dropped before and still have their grace.
        deleted: objects that were deleted, or would be.
        bytes_freed: the size of `deleted` in all.
        failed: deletions that went wrong; the next collection tries again.
        refused: why nothing was done; "" if it was.
        left: why no commit was let go, and only what had been dropped before was deleted; "" if all
            was done.
    """

    location: str
    dry_run: bool = False
    seq: int = 0
    n_commits: int = 0
    n_expired: int = 0
    dropped: tuple[str, ...] = ()
    bytes_dropped: int = 0
    n_waiting: int = 0
    deleted: tuple[str, ...] = ()
    bytes_freed: int = 0
    failed: tuple[str, ...] = ()
    refused: str = ""
    left: str = ""

    def __bool__(self) -> bool:
        return not (self.refused or self.failed or self.left)


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction did; true if it committed.

    Attributes:
        seq: of its commit; 0 without one.
        commit: its id in hexadecimal; "" without one.
        n_segments: segments that the newest commit no longer needs.
        bytes_garbage: what is garbage in them, in bytes; a collection frees them when no older
            commit that is retained needs them.
        bytes_up: bytes that were laid down anew.
        finished: another compaction would find nothing to do.
    """

    seq: int = 0
    commit: str = ""
    n_segments: int = 0
    bytes_garbage: int = 0
    bytes_up: int = 0
    finished: bool = True

    def __bool__(self) -> bool:
        return self.seq > 0
