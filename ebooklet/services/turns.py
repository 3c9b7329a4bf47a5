"""Taking the lock for a moment, where a writer holds none while it is open (FORMAT §6).

In mode lock nobody may move the head without it: who opened optimistically takes it once all that
can be uploaded before has been, so that writers wait for each other's head writes alone. In mode
cas nothing safe rests on it, and it is a courtesy to those who keep losing races.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ebooklet.errors import EBookletError, LockTimeout
from ebooklet.ports.lock_service import Lease
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_COURTESY_S: Final = 10.0  # to wait for those who hold it while they are open


def takes_turns(copy: WorkingCopy) -> bool:
    """Whether this copy holds no lock while it is open, and needs one to move the head."""
    settings = copy.settings
    return settings.writable and not settings.exclusive and copy.commit_mode == "lock"


def must_wait(copy: WorkingCopy) -> bool:
    """Whether it is somebody else's turn at this moment; asks only where turns are taken."""
    if copy.lease is not None or copy.proto is None or not takes_turns(copy):
        return False
    service = copy.exclusive_locks(copy.proto)
    info = None if service is None else service.inspect(copy.db_key)
    return info is not None and info.state == "held"


def take_turn(copy: WorkingCopy, purpose: str, *, timeout: float | None = None) -> None:
    """Hold the lock from here to `end_turn`, where that is due and it is not held already.

    What was read of the head before is old by then.

    Args:
        copy: the working copy.
        purpose: what for, as those who wait are told.
        timeout: seconds to wait; None: as long as the copy waits for locks.

    Raises:
        LockTimeout: others held it all the time.
    """
    if copy.lease is not None or copy.proto is None or not takes_turns(copy):
        return
    service = copy.exclusive_locks(copy.proto)
    if service is None:
        return
    try:
        copy.lease = service.acquire(
            copy.db_key,
            timeout=copy.lock_timeout if timeout is None else timeout,
            purpose=purpose,
            fence=_fence(copy),
            force=copy.forces_turn,
        )
    except LockTimeout as exc:
        raise LockTimeout(
            f"{exc.args[0]}. Nothing was committed, what is pending stays so. This server does not "
            "honour conditional writes, so that commits go under the lock (mode lock), one at a "
            "time, with lock='optimistic' too",
            op=exc.op,
            key=exc.key,
        ) from exc
    copy.forces_turn = False  # who comes later is no dead writer


@contextmanager
def ending_turns(copy: WorkingCopy) -> Iterator[None]:
    """Give back at the end what `take_turn` took inside, if anything."""
    try:
        yield
    finally:
        end_turn(copy)


def end_turn(copy: WorkingCopy) -> None:
    """Give back what `take_turn` took, if anything."""
    if copy.settings.exclusive:
        return
    lease, copy.lease = copy.lease, None
    if lease is not None:
        lease.release()


@contextmanager
def turn(copy: WorkingCopy, purpose: str) -> Iterator[Lease | None]:
    """Hold the lock inside: the copy's own, or one taken for the moment; None where none is due.

    Raises:
        LockTimeout: others held it all the time.
    """
    held = copy.lease is not None
    take_turn(copy, purpose)
    try:
        yield copy.lease
    finally:
        if not held:
            end_turn(copy)


def queue_again(copy: WorkingCopy, current: Snapshot) -> None:
    """End a turn that came before that of who wrote `current`: the next one comes after it."""
    if copy.lease is not None and copy.lease.token < current.head.fence:
        end_turn(copy)


def take_courtesy(copy: WorkingCopy) -> Lease | None:
    """In mode cas, have others who are as unlucky wait; None where that is not to be had.

    It is not made the copy's own lock: to lose it stops nobody.
    """
    if copy.lease is not None or copy.proto is None or copy.proto.mode != "cas":
        return None
    service = copy.exclusive_locks(copy.proto)
    if service is None:
        return None
    try:
        return service.acquire(
            copy.db_key,
            timeout=min(copy.lock_timeout, _COURTESY_S),
            purpose="push",
            fence=_fence(copy),
        )
    except EBookletError:
        return None  # somebody has it for longer, or the store fails: the push finds out


def _fence(copy: WorkingCopy) -> int:
    known = copy.base or copy.former
    return known.head.fence if known is not None else 0
