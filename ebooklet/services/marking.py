"""Marking keys as set while they are written, and what is pending when that fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ebooklet.services.working_copy import WorkingCopy


@contextmanager
def marked(copy: WorkingCopy, keys: Sequence[str]) -> Iterator[None]:
    """Mark keys as set before they are written in this context; the caller holds the lock.

    Marked first, as an interrupt between the two is to leave marks too many, not too few.
    """
    try:
        copy.pending.touched.update(dict.fromkeys(keys))
        yield
    except BaseException:
        unmark_unwritten(copy, keys)
        raise


def unmark_unwritten(copy: WorkingCopy, keys: Iterable[str]) -> None:
    """After a write that failed, take back the marks of the keys that the local store lacks.

    Nothing has absorbed them, as the caller has held the lock since it marked them: a pending
    deletion of such a key still stands, here and in the log.
    """
    for key in keys:
        if not may_be_here(copy, key):
            copy.pending.touched.pop(key, None)


def may_be_here(copy: WorkingCopy, key: str) -> bool:
    """Whether the local store has a key, or cannot tell, as after a change in place that failed."""
    try:
        return copy.local.contains(key)
    except Exception:  # noqa: BLE001  # another error is on its way, which says more
        return True
