"""Compacting when a user asks for it."""

from __future__ import annotations

from ebooklet.services.guards import nothing_pushed
from ebooklet.services.maintenance.compaction import run_compaction
from ebooklet.services.maintenance.report import CompactionReport
from ebooklet.services.pull import pull
from ebooklet.services.push import check_ready
from ebooklet.services.working_copy import WorkingCopy


def compact(copy: WorkingCopy, *, message: str) -> CompactionReport:
    """Pull, and lay down anew what is live in segments that are worth leaving.

    Raises:
        RemoteMissingError: nothing was pushed yet.
        ReplaceConflict: the next push is to replace the whole database.
        LockTimeout: another holds the lock.
        EBookletError: see `push`.
    """
    check_ready(copy, "compact", message)
    pull(copy)
    if copy.base is None:
        raise nothing_pushed("compact", copy.location, copy.db_key)
    return run_compaction(copy, message, lock_timeout=copy.lock_timeout)
