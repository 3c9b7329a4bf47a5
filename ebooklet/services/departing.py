"""Departing: what a closed database still has to tell its remote, for which nobody waits.

A lock is given back by a request that nothing depends on but the next writer. So that whoever
closes does not wait for its answer, it is sent beside; the process does not end before it came,
and whoever takes the lock in this process comes after it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from ebooklet.errors import EBookletError
from ebooklet.ports.lock_service import ForesightedLockService, Lease, LockInfo, LockService

__all__ = ["PatientLockService", "await_departures", "depart"]

logger = logging.getLogger("ebooklet.close")

_Place: TypeAlias = tuple[str, str]  # location of a store, and a database's key there

_lock: Final = threading.Lock()
_under_way: Final[dict[_Place, threading.Thread]] = {}


def depart(location: str, db_key: str, leave: Callable[[], None]) -> None:
    """Run `leave` beside the program, which does not end before it has.

    Args:
        location: of the remote store.
        db_key: of the database there.
        leave: gives back what was held; its `EBookletError` is logged.
    """
    place = location, db_key

    def run() -> None:
        try:
            leave()
        except EBookletError as exc:
            logger.warning("closing %s/%s: %s", location, db_key, exc)
        finally:
            with _lock:
                if _under_way.get(place) is threading.current_thread():
                    del _under_way[place]

    # No daemon: the interpreter waits for it, in processes of `multiprocessing` too.
    thread = threading.Thread(target=run, name="ebooklet-departing", daemon=False)
    with _lock:
        before = _under_way.get(place)
        awaited = False
        if threading.main_thread().is_alive():
            _under_way[place] = thread
            try:
                thread.start()
                awaited = True
            except RuntimeError:  # the system has no thread left
                del _under_way[place]
    if before is not None:
        before.join()
    if not awaited:  # or `atexit` closes what the program forgot: threads are awaited no more
        run()


def await_departures() -> None:
    """Wait until nothing is under way that a close has left behind, as the end of the process does."""
    with _lock:
        threads = list(_under_way.values())
    for thread in threads:
        thread.join()


def _await_departure(location: str, db_key: str) -> None:
    """Wait until nothing is under way there that a close has left behind."""
    with _lock:
        thread = _under_way.get((location, db_key))
    if thread is not None:
        thread.join()


class PatientLockService:
    """Locks of a place, asked for after what this process had held there was given back.

    Args:
        service: has the locks.
        location: of the remote store that they are of.
    """

    def __init__(self, service: LockService, location: str) -> None:
        self.service = service
        self._location = location

    @property
    def kind(self) -> str:
        """The service's."""
        return self.service.kind

    @property
    def takeover_s(self) -> float:
        """The service's, in seconds."""
        return self.service.takeover_s

    def acquire(
        self,
        name: str,
        *,
        timeout: float,
        purpose: str = "write",
        fence: int = 0,
        force: bool = False,
    ) -> Lease:
        """See `LockService.acquire`."""
        _await_departure(self._location, name)
        return self.service.acquire(
            name, timeout=timeout, purpose=purpose, fence=fence, force=force
        )

    def look_ahead(self, name: str) -> None:
        """See `ForesightedLockService.look_ahead`; nothing, where the service has no such thing."""
        if isinstance(self.service, ForesightedLockService):
            _await_departure(self._location, name)
            self.service.look_ahead(name)

    def inspect(self, name: str) -> LockInfo | None:
        """See `LockService.inspect`."""
        _await_departure(self._location, name)
        return self.service.inspect(name)

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """See `LockService.break_lock`."""
        _await_departure(self._location, name)
        return self.service.break_lock(name, older_than_s=older_than_s)
