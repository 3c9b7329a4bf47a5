"""Where a remote database is, with what it takes to work on it as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.core.closeable import Closeable
from ebooklet.core.head import Proto
from ebooklet.core.keyring import Keyring
from ebooklet.ports.clock import Clock
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.heads import HeadStore
from ebooklet.services.lockchoice import ChooseLock
from ebooklet.services.working_copy import WorkingCopy

RemoteLike: TypeAlias = S3Connection | RemoteAddress | RemoteStore | str | Mapping[str, Any]
"""What callers may name a remote database by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePlace(Closeable):
    """A remote database's place, whether or not a database is there.

    Attributes:
        store: the objects.
        db_key: key of the database's head.
        clock: for waits and times.
        locks: the lock service that writers use, by the way heads are moved.
        probe: finds out how heads can be moved where there is no head to say so.
        keyring: what an encrypted database there is opened with.
        owned: `close` closes the store.
    """

    store: RemoteStore
    db_key: str
    clock: Clock
    locks: ChooseLock
    probe: Callable[[], Proto]
    keyring: Keyring = field(default_factory=Keyring)
    owned: bool = True

    @property
    def location(self) -> str:
        """Where it is, for messages."""
        return f"{self.store.location.rstrip('/')}/{self.db_key}"

    def heads(self) -> HeadStore:
        """Reads and moves the head."""
        return HeadStore(self.store, self.db_key, self.clock, lambda *_: False)

    def close(self) -> None:
        """Close the store, if it was opened for this place; idempotent."""
        if self.owned:
            self.store.close()


OpenPlace: TypeAlias = Callable[[RemoteLike], RemotePlace]
"""Opens the place that a caller names."""


def place_of(copy: WorkingCopy) -> RemotePlace:
    """The place that a working copy follows.

    Without a remote, or offline, its requests raise as the copy's own do.
    """
    proto = copy.proto or Proto("lock")
    return RemotePlace(
        store=copy.reachable_remote(),
        db_key=copy.db_key,
        clock=copy.clock,
        locks=copy.exclusive_locks,
        probe=lambda: proto,
        keyring=copy.keyring,
        owned=False,
    )
