"""The remote at an open: the head that stands, and the write lock, where one is due."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from uuid import UUID

from ebooklet.core.head import Proto
from ebooklet.ports.lock_service import Lease, LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.clashes import check_above, check_below, clashes_named
from ebooklet.services.fencing import raise_fence
from ebooklet.services.heads import HeadStore
from ebooklet.services.mirrors import uuid_at
from ebooklet.services.refusals import check_head
from ebooklet.services.request import Request
from ebooklet.services.snapshot import Snapshot


class Claim(NamedTuple):
    """What a writer holds and knows before it opens the local half."""

    proto: Proto | None  # how heads are moved
    lease: Lease | None
    current: Snapshot | None


def claim_writing(request: Request, current: Snapshot | None, undo: ExitStack) -> Claim:
    """Take the write lock, where one is due.

    Args:
        request: of a writer.
        current: the head as it was read just now.
        undo: frees the lock, should something fail later.

    Returns:
        The claim, with the head read again if the lock had to be waited for.
    """
    proto = current.head.proto if current else None
    if request.remote is None or request.settings.offline:
        return Claim(proto, None, current)
    if current is None:
        check_above(request.remote, request.db_key, request.clock)
    with clashes_named(request.remote, request.db_key, request.clock):
        if proto is None and request.probe is not None:
            proto = request.probe()
        service = request.locks(proto) if proto is not None else None
        lease = None
        if service is not None:
            lease, current = _lock(request, request.remote, service, current)
    if lease is not None:
        undo.callback(lease.release)
    if current is None and proto is not None and proto.mode == "lock":
        check_below(request.remote, request.db_key, request.clock)  # before anything is uploaded
    check_head(request, current)
    return Claim(current.head.proto if current else proto, lease, current)


def read_remote(request: Request) -> Snapshot | None:
    """The head that stands now; None without a remote, without a database there, or offline."""
    if request.remote is None or request.settings.offline:
        return None
    return _heads(request.remote, request).read()


def read_both(request: Request) -> tuple[Snapshot | None, UUID | None]:
    """The head, and for a writer the database that the mirror shows, if it has one."""
    with _looking_ahead(request):
        current = read_remote(request)
    if request.flag == "r" or request.mirror is None or request.settings.offline:
        return current, None
    shown = uuid_at(request.mirror.look, request.db_key)
    if shown is not None and (current is None or current.head.uuid != shown):
        current = read_remote(request)  # it may have been made just now
    return current, shown


@contextmanager
def _looking_ahead(request: Request) -> Iterator[None]:
    """As a writer, look at the lock while the head is read: neither has to wait for the other."""
    look = request.look_ahead
    if look is None or request.flag == "r" or request.settings.offline:
        yield
        return
    thread = threading.Thread(target=look, name="ebooklet-look", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is about to end: the lock is looked at when it is taken
        yield
        return
    try:
        yield
    finally:
        thread.join()


def _heads(remote: RemoteStore, request: Request) -> HeadStore:
    return HeadStore(remote, request.db_key, request.clock, lambda *_: False)


def _lock(
    request: Request, remote: RemoteStore, service: LockService, current: Snapshot | None
) -> tuple[Lease, Snapshot | None]:
    """Take the write lock; what another holder may have changed since it was read is read again."""
    fence = current.head.fence if current else 0
    lease = service.acquire(
        request.db_key, timeout=request.lock_timeout, fence=fence, force=request.force_lock
    )
    try:
        # The very next token: whoever wrote that head was the last to hold the lock.
        if lease.waited or lease.token != fence + 1:
            current = read_remote(request)
        if request.force_lock and current is not None and current.head.proto.mode == "cas":
            current = raise_fence(
                _heads(remote, request),
                current,
                lease.token,
                request.clock,
                request.db_key,
                lease,
            )
    except BaseException:
        lease.release()
        raise
    return lease, current
