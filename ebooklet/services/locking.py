"""The write lock of a place, for those who work on the whole remote database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ebooklet.core.head import Proto
from ebooklet.errors import UnsupportedOperation
from ebooklet.ports.lock_service import Lease, LockInfo, LockService
from ebooklet.services.clashes import check_above
from ebooklet.services.fencing import raise_fence
from ebooklet.services.place import RemotePlace
from ebooklet.services.snapshot import Snapshot


@contextmanager
def write_lock(
    place: RemotePlace,
    proto: Proto,
    *,
    fence: int,
    timeout: float,
    purpose: str,
    held: Lease | None = None,
) -> Iterator[Lease | None]:
    """Hold the write lock of a place; None where writers take none.

    Args:
        place: what to lock.
        proto: how its head is moved.
        fence: the token to exceed, as the head has it.
        timeout: seconds to wait.
        purpose: what for, as those who wait are told.
        held: the lock, if the caller holds it: it is used, and stays held.

    Raises:
        LockTimeout: another held it for the whole wait.
    """
    if held is not None:
        yield held
        return
    service = place.locks(proto)
    if service is None:
        yield None
        return
    lease = service.acquire(place.db_key, timeout=timeout, purpose=purpose, fence=fence)
    try:
        yield lease
    finally:
        lease.release()


def lock_service(place: RemotePlace, current: Snapshot | None) -> LockService:
    """The service that writers of this place lock with.

    Where there is no head to say how heads are moved, the store is probed.

    Raises:
        UnsupportedOperation: writers take no lock there.
        NameClashError: the server cannot hold a database there.
    """
    if current is None:
        check_above(place.store, place.db_key, place.clock)
    service = place.locks(place.probe() if current is None else current.head.proto)
    if service is None:
        raise UnsupportedOperation(
            "writers take no lock on this remote", op="lock", key=place.location
        )
    return service


def break_others(
    place: RemotePlace, service: LockService, *, older_than_s: float
) -> list[LockInfo]:
    """Free the locks of others that are at least so old, and keep their holders from committing.

    In mode cas a holder asks nobody before it moves the head. So the head is given a token that is
    greater than any of those freed, which it meets there (decision 0005).

    Returns:
        Who held them.
    """
    broken = service.break_lock(place.db_key, older_than_s=older_than_s)
    if broken:
        heads = place.heads()
        current = heads.read()
        if current is not None and current.head.proto.mode == "cas":
            token = max(info.token for info in broken) + 1
            raise_fence(heads, current, token, place.clock, place.db_key)
    return broken
