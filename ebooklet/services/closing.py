"""Closing a working copy: everything durable, every lock free, whatever fails on the way."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from ebooklet.errors import EBookletError
from ebooklet.services.confirming import confirm_writes
from ebooklet.services.departing import depart
from ebooklet.services.turns import takes_turns
from ebooklet.services.working_copy import WorkingCopy

_log = logging.getLogger("ebooklet.close")


def close_copy(copy: WorkingCopy) -> None:
    """Sync, release the remote lock, close both halves; idempotent, never pushes."""
    if copy.closed:
        return
    if copy.forked:
        # File, lock and connections are the parent's, and what is not synced it will sync.
        copy.closed = True
        return
    with ExitStack() as stack:
        stack.callback(_leave, copy)
        if copy.owns_local:
            stack.callback(copy.local.close)
        stack.callback(_mark_closed, copy)
        try:
            copy.sync()
        except KeyboardInterrupt:
            copy.sync()  # or the store would be closed in order, with changes that no log names
            raise
        settle_writes(copy)


def close_lost(copy: WorkingCopy) -> None:
    """Close a copy that nobody closed, where nobody could catch what that raises."""
    try:
        close_copy(copy)
    except Exception as exc:  # noqa: BLE001  # whatever it is, Python would only print it, at length
        _log.warning(
            "%s was never closed, and what was set since the last sync() may be lost: %s",
            copy.local.location,
            exc,
        )


def _leave(copy: WorkingCopy) -> None:
    """Give the lock back, and close the remote; without waiting, where that takes a request."""
    with ExitStack() as stack:
        if copy.remote is not None and copy.owns_remote:
            stack.callback(copy.remote.close)
        if copy.mirrored is not None and copy.owns_remote:
            stack.callback(copy.mirrored.close)
        if copy.lease is not None:
            stack.callback(copy.lease.release)
            # What is not ours to close may be closed by the next line of the program.
            if copy.remote is not None and copy.owns_remote and copy.remote.capabilities.shared:
                depart(copy.remote.location, copy.db_key, stack.pop_all().close)


def settle_writes(copy: WorkingCopy) -> None:
    """In mode lock, see with one more read that the last head write stands."""
    holds = copy.commit_mode == "lock" and copy.lease is not None
    if copy.journal.in_doubt and (holds or (takes_turns(copy) and copy.asks_remote)):
        try:
            current = copy.heads.read()
        except EBookletError:
            return  # the journal keeps the doubt for the next open
        if current is not None and current.head.uuid == copy.uuid:
            confirm_writes(copy, current, moves=False)
            copy.sync()


def _mark_closed(copy: WorkingCopy) -> None:
    copy.closed = True
    copy.pending.shape += 1  # what iterators watch
