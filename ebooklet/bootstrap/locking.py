"""Which lock a writer takes, and how it is found out whether one is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.probe import prober
from ebooklet.bootstrap.arguments import Lock
from ebooklet.bootstrap.remotes import Remote
from ebooklet.core.head import Proto
from ebooklet.errors import EBookletError, UnknownNameError
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import ForesightedLockService, LockService
from ebooklet.services.departing import PatientLockService
from ebooklet.services.lockchoice import ChooseLock

_BY_VERDICT: Final = ("exclusive", "optimistic")  # which lock service is left to the probe


def check_lock(lock: object, registry: Registry, *, held: bool = False) -> None:
    """Refuse what is no lock before anything is opened.

    Args:
        lock: what was given.
        registry: where names are looked up.
        held: it is to keep writers out, so that "optimistic" will not do.

    Raises:
        ValueError: it is none.
        UnknownNameError: nothing installed answers to this name.
    """
    if lock == "exclusive" or (lock == "optimistic" and not held) or isinstance(lock, LockService):
        return
    if not isinstance(lock, str) or lock == "optimistic":
        optimistic = "" if held else ", 'optimistic'"
        raise ValueError(
            f"lock must be 'exclusive'{optimistic}, the name of a registered lock service, or a "
            f"LockService, not {lock!r}"
        )
    try:
        registry.lock_service(lock)
    except UnknownNameError as exc:
        raise UnknownNameError(
            f"lock must be 'exclusive', 'optimistic', or the name of a lock service: {exc.args[0]}",
            op="open",
            key=lock,
        ) from exc


def lock_elsewhere(lock: Lock) -> str:
    """The lock of other places that its caller names: a built one locks its own place only."""
    return lock if isinstance(lock, str) and lock not in _BY_VERDICT else "exclusive"


def probe_of(remote: Remote, clock: Clock) -> Callable[[], Proto]:
    """How it is found out in which way heads can be moved there; remembered for each server."""
    return prober(remote.store, remote.db_key, clock, cache=ProbeCache())


def locks_for(lock: Lock, remote: Remote | None, clock: Clock, registry: Registry) -> ChooseLock:
    """Which lock a writer takes, once it is known how heads are moved."""
    made: dict[str, PatientLockService] = {}  # of each kind one, which may have looked ahead

    def choose(proto: Proto) -> LockService | None:
        if remote is None or lock == "optimistic":
            return None  # in mode lock one is taken for each move of the head
        if not isinstance(lock, str):
            return PatientLockService(lock, remote.store.location)
        name = lock
        if lock == "exclusive":
            name = "file" if remote.folder else "lease" if proto.mode == "cas" else "ticket"
        if name not in made:
            service = registry.lock_service(name)(remote.store, clock, folder=remote.folder)
            made[name] = PatientLockService(service, remote.store.location)
        return made[name]

    return choose


def look_ahead(locks: ChooseLock, remote: Remote | None) -> Callable[[], None] | None:
    """How the lock is looked at before the head says which one it is; None where that saves nothing.

    It is a lease more often than not, and a look at one that is not to be costs one request.
    """
    if remote is None or not remote.store.capabilities.shared:
        return None

    def look() -> None:
        with suppress(EBookletError):  # a service that cannot be had is said where it is needed
            service = locks(Proto("cas"))
            if isinstance(service, ForesightedLockService):
                service.look_ahead(remote.db_key)

    return look
