"""Which lock a writer takes, and how it is found out whether one is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.probe import prober
from ebooklet.bootstrap.arguments import Lock
from ebooklet.bootstrap.remotes import Remote
from ebooklet.core.head import Proto
from ebooklet.errors import UnknownNameError
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import LockService
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

    def choose(proto: Proto) -> LockService | None:
        if remote is None:
            return None
        if not isinstance(lock, str):
            return lock
        if lock == "optimistic":
            return None  # in mode lock one is taken for each move of the head
        name = lock
        if lock == "exclusive":
            name = "file" if remote.folder else "lease" if proto.mode == "cas" else "ticket"
        return registry.lock_service(name)(remote.store, clock, folder=remote.folder)

    return choose
