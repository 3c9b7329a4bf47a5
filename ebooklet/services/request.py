"""What an open is asked for: the flag, the parts, and what the caller insists on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, get_args

from ebooklet.core.head import DatabaseType, Proto
from ebooklet.core.keyring import Keyring
from ebooklet.ports.clock import Clock
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.localhalf import OpenHalf
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S, ChooseLock, no_lock
from ebooklet.services.mirrors import Mirror
from ebooklet.services.packing import UNSET, GroupBytes
from ebooklet.services.settings import Settings
from ebooklet.services.versions import VersionLike

Flag: TypeAlias = Literal["r", "w", "c", "n"]
FLAGS: Final[tuple[Flag, ...]] = get_args(Flag)


def check_flag(flag: object, known: Sequence[str]) -> None:
    """Raise `ValueError` for anything but one of the known flags."""
    if flag not in known:
        raise ValueError(f"unknown flag {flag!r}; one of {', '.join(known)}")


def check_branch(branch: object, version: object = None) -> None:
    """Refuse what cannot name a branch, nor leave it open which.

    Raises:
        TypeError: it is no str.
        ValueError: a version is asked for besides.
    """
    if branch is not None and version is not None:
        raise ValueError("pass branch= to follow a branch, or version= to stay at a commit")
    if branch is not None and not isinstance(branch, str):
        raise TypeError(f"branch is a str or None, not {type(branch).__name__}")


def _accept_any(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything an open needs, built or chosen by the caller.

    Attributes:
        flag: the dbm flag.
        open_half: opens the local half, once the remote has been looked at.
        clock: time and randomness.
        remote: where the database is kept; None for one without a remote.
        db_key: its name there.
        locks: the write lock, if one is due, by the way heads are moved.
        look_ahead: looks at the lock, which spares `locks` a request then; None where that is no use.
        exclusive_locks: the same for writers that hold none, when they delete a whole database.
        probe: finds out how heads can be moved; None where no database is to be created.
        mirror: where the database can be read too.
        lock_timeout: seconds to wait for the lock.
        force_lock: take the lock from whoever holds it.
        settings: of the working copy, as far as the caller decides them.
        falls_back: offline, where the remote cannot be reached.
        explicit_serializer: the only one that will do; None goes by what is stored.
        accept_serializer: raises for a stored name whose values are not to be read.
        only: the only type of database that will do; None takes either.
        keyring: opens encrypted databases.
        version: the commit to stay at; None follows the branch.
        group_bytes: an option of EBooklet 0.11, see `ebooklet.services.packing`.
        owns_local: the local half is opened for this handle, and closed with it.
        owns_remote: and so is the remote.
    """

    flag: Flag
    open_half: OpenHalf
    clock: Clock
    remote: RemoteStore | None = None
    db_key: str = "db"
    locks: ChooseLock = no_lock
    look_ahead: Callable[[], None] | None = None
    exclusive_locks: ChooseLock = no_lock
    probe: Callable[[], Proto] | None = None
    mirror: Mirror | None = None
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S
    force_lock: bool = False
    settings: Settings = field(default_factory=Settings)
    falls_back: bool = False
    explicit_serializer: str | None = None
    accept_serializer: Callable[[str], object] = _accept_any
    only: DatabaseType | None = None
    keyring: Keyring = field(default_factory=Keyring)
    version: VersionLike | None = None
    group_bytes: GroupBytes = UNSET
    owns_local: bool = True
    owns_remote: bool = True


def offline(request: Request) -> Request:
    """The same, without asking the remote anything."""
    return replace(request, settings=replace(request.settings, offline=True))
