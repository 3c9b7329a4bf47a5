"""The hooks port: who is told, and asked, of what happens to one open database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Resolution: TypeAlias = Literal["ours", "theirs"]
Hook: TypeAlias = Literal[
    "on_open", "before_push", "after_push", "after_pull", "on_conflict", "on_evict"
]


@dataclass(frozen=True, slots=True)
class Conflict:
    """One key that changed both here and in the remote; values serialised, times in µs.

    Attributes:
        key: the key.
        base: what both sides started from. None: it was absent, or `base_known` is false.
        ours: the value stored here; None after a deletion.
        theirs: the value in the remote; None after a deletion.
        ours_timestamp: when ours was written or deleted.
        theirs_timestamp: when theirs was written; None after a deletion.
        base_known: whether anybody remembers what both sides started from.
    """

    key: str
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None
    ours_timestamp: int | None = None
    theirs_timestamp: int | None = None
    base_known: bool = True


@dataclass(frozen=True, slots=True)
class HookFailure:
    """A hook that raised where nothing could be stopped any more.

    Attributes:
        hook: which, for example "after_push".
        plugin: whose.
        error: what it raised, in words.
    """

    hook: str
    plugin: str
    error: str


class DatabaseHooks(Protocol):
    """Who is told, and asked, of what happens to one open database.

    Promises:

    1. `before_push` and `on_conflict` let out what a hook raises. The others let out no
       `Exception`: each failure is logged and warned of, the other hooks still run, and the
       failures are returned.
    2. They may be called from any thread, and hold no lock of their own while a hook runs.

    Whoever calls holds no lock that reading or writing the database takes.
    """

    @property
    def wanted(self) -> frozenset[Hook]:
        """The hooks that somebody answers to; the others need not be called."""
        ...

    @property
    def running(self) -> frozenset[Hook]:
        """The hooks of this database that the current thread is inside of."""
        ...

    def on_open(self, flag: str) -> Sequence[HookFailure]: ...

    def before_push(self, message: str | None) -> None: ...

    def after_push(self, result: object) -> Sequence[HookFailure]: ...

    def after_pull(self, result: object) -> Sequence[HookFailure]: ...

    def on_conflict(self, conflict: Conflict) -> Resolution | None: ...

    def on_evict(self, keys: Sequence[str]) -> Sequence[HookFailure]: ...
