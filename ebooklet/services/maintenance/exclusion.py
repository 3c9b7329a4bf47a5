"""Exclusion during maintenance: no push of this handle, and nobody else under the write lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ebooklet.errors import RemoteMissingError
from ebooklet.ports.lock_service import Lease
from ebooklet.services.locking import write_lock
from ebooklet.services.place import place_of
from ebooklet.services.push import check_target
from ebooklet.services.working_copy import WorkingCopy


@contextmanager
def excluding_others(copy: WorkingCopy, op: str) -> Iterator[Lease | None]:
    """Let nobody else push or pull by this handle, or write to the remote under the lock.

    A handle that holds the lock already goes on holding it.

    Raises:
        ReadOnlyError, OfflineError, RemoteMissingError: there is nothing here to work on.
        PushInProgressError: another thread pushes.
        LockTimeout, LockLostError: another has, or took, the lock.
    """
    copy.require_writable(op)
    copy.require_online(op)
    check_target(copy)
    with copy.pushing(op), copy.base_lock:
        if copy.lease is not None:
            copy.lease.check()
            yield copy.lease
            return
        if copy.proto is None or copy.base is None:
            raise RemoteMissingError(
                f"there is no database at {copy.location}: push first", op=op, key=copy.db_key
            )
        with write_lock(
            place_of(copy),
            copy.proto,
            fence=copy.base.head.fence,
            timeout=copy.lock_timeout,
            purpose=op,
        ) as lease:
            yield lease
