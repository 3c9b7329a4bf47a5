"""The local half of a database that is to be opened: built already, or to be opened as planned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Final, Protocol
from uuid import UUID

from ebooklet.core.builtparts import check_built
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalOpener, LocalStore
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S

DEFAULT_N_BUCKETS: Final = 12_007  # Booklet's own
DEFAULT_BUFFER_SIZE: Final = 1 << 22  # bytes
DEFAULT_SERIALIZER: Final = "pickle"


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """What the local half has to be, once the remote has been looked at."""

    uuid: UUID | None  # None: whatever the file has, or a new one
    value_serializer: str | None  # of the remote; None: whatever the file has, or the caller's
    replace: bool  # start from an empty file
    create: bool  # a missing file is made
    writable: bool
    expected_keys: int


class OpenHalf(Protocol):
    """Opens the local half; `exists` tells whether there is one already."""

    @property
    def exists(self) -> bool:
        """Whether there is a local half already."""
        ...

    def __call__(self, plan: LocalPlan, *, wait: bool = True) -> LocalStore:
        """Open it, or make it.

        Raises:
            LockTimeout: another handle or process has it, at once where that is not to be waited for.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuiltHalf:
    """A local store that is open already, and stays its owner's."""

    store: LocalStore

    @property
    def exists(self) -> bool:
        """It does."""
        return True

    def __call__(self, plan: LocalPlan, *, wait: bool = True) -> LocalStore:
        """It is open."""
        return self.store


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHalf:
    """Opens a local store once the remote has been looked at, which tells whose half it is.

    Attributes:
        open_store: opens one, as the entry points of `ebooklet.local_stores` do.
        path: the local file; None for a store that needs none.
        clock: this machine's.
        serializer: name of the value serializer of a database that is created.
        n_buckets: index size of a file that is created.
        buffer_size: bytes of writes that are collected before they go to the system.
        lock_timeout: seconds to wait for the file.

    Raises:
        TypeError: `path` is a text, or `clock` no clock.
    """

    open_store: LocalOpener
    path: Path | None
    clock: Clock
    serializer: str = DEFAULT_SERIALIZER
    n_buckets: int = DEFAULT_N_BUCKETS
    buffer_size: int = DEFAULT_BUFFER_SIZE
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S

    def __post_init__(self) -> None:
        check_built(
            "pass pathlib.Path(...) for a file, and None for a store that needs none",
            path=(self.path, (Path, NoneType)),
        )
        check_built("pass a SystemClock()", clock=(self.clock, (Clock,)))

    @property
    def exists(self) -> bool:
        """Whether there is something to open."""
        return self.path is not None and self.path.exists() and self.path.stat().st_size > 0

    def __call__(self, plan: LocalPlan, *, wait: bool = True) -> LocalStore:
        """Open it."""
        return self.open_store(
            self.path,
            clock=self.clock,
            mode="write" if plan.writable else "read",
            create=plan.create,
            replace=plan.replace,
            uuid=plan.uuid,
            value_serializer=plan.value_serializer or self.serializer,
            n_buckets=self.n_buckets,
            buffer_size=self.buffer_size,
            lock_timeout=self.lock_timeout if wait else 0.0,
            expected_keys=plan.expected_keys,
        )
