"""Opening: bringing both halves together under one of the dbm flags (CONTRACT §3)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, get_args
from uuid import UUID

from ebooklet.core.callers import stacklevel
from ebooklet.core.head import DatabaseType, Proto
from ebooklet.core.keyring import Keyring
from ebooklet.core.names import check_db_key
from ebooklet.core.serializer_names import BOOKLET_NAMES, CUSTOM_NAME
from ebooklet.errors import (
    LockTimeout,
    OfflineError,
    ReadOnlyError,
    RemoteMissingError,
    RemoteUnavailable,
    UnsupportedFormatError,
    UUIDMismatchError,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import Lease, LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.attaching import attach, attach_anew, stored_type
from ebooklet.services.clashes import check_above, check_below, clashes_named
from ebooklet.services.fencing import raise_fence
from ebooklet.services.heads import HeadStore
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S, ChooseLock, no_lock
from ebooklet.services.mirrors import Mirror, check_mirror, uuid_at
from ebooklet.services.packing import UNSET, GroupBytes, settle_group_bytes
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import Settings, WorkingCopy

Flag: TypeAlias = Literal["r", "w", "c", "n"]
FLAGS: Final[tuple[Flag, ...]] = get_args(Flag)

logger = logging.getLogger("ebooklet.open")


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """What the local half has to be, once the remote has been looked at."""

    uuid: UUID | None  # None: whatever the file has, or a new one
    value_serializer: str | None  # of the remote; None: whatever the file has, or the caller's
    replace: bool  # start from an empty file
    create: bool  # a missing file is made
    writable: bool
    expected_keys: int


class OpenLocal(Protocol):
    """Opens the local half; `exists` tells whether there is one already."""

    @property
    def exists(self) -> bool:
        """Whether there is a local half already."""
        ...

    def __call__(self, plan: LocalPlan) -> LocalStore:
        """Open it, or make it."""
        ...


def _accept_any(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything an open needs, built or chosen by the caller.

    Attributes:
        flag: the dbm flag.
        open_local: opens the local half, once the remote has been looked at.
        clock: time and randomness.
        remote: where the database is kept; None for one without a remote.
        db_key: its name there.
        locks: the write lock, if one is due, by the way heads are moved.
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
        group_bytes: an option of EBooklet 0.11, see `ebooklet.services.packing`.
        owns_local: the local half is opened for this handle, and closed with it.
        owns_remote: and so is the remote.
    """

    flag: Flag
    open_local: OpenLocal
    clock: Clock
    remote: RemoteStore | None = None
    db_key: str = "db"
    locks: ChooseLock = no_lock
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
    group_bytes: GroupBytes = UNSET
    owns_local: bool = True
    owns_remote: bool = True


def open_copy(request: Request) -> WorkingCopy:
    """Open both halves, bring them into step, and hold the write lock where one is due.

    Raises:
        RemoteMissingError: flag r or w, and neither half exists.
        UUIDMismatchError: the halves belong to different databases; nothing was changed.
        LockTimeout, LockLostError, AccessDenied, RemoteUnavailable, UnsupportedFormatError, …:
            locks taken on the way are free again, files closed.
    """
    check_db_key(request.db_key)
    check_writable(request)
    # What a failed attempt has made is no database to serve from.
    may_fall_back = request.falls_back and request.flag != "n" and request.open_local.exists
    try:
        return _open_whole(request)
    except RemoteUnavailable as exc:
        if not may_fall_back:
            raise
        warn_of_fallback(exc, writes=request.flag != "r")
    return _open_whole(offline(request))


def offline(request: Request) -> Request:
    """The same, without asking the remote anything."""
    return replace(request, settings=replace(request.settings, offline=True))


def warn_of_fallback(reason: RemoteUnavailable, *, writes: bool) -> None:
    """Say that the local half is used alone, and why."""
    also = " Changes stay pending until the next open that reaches it." if writes else ""
    warnings.warn(
        f"opened offline, as the remote cannot be reached: {reason}. What is stored locally is "
        f"served, and may be old.{also}",
        UserWarning,
        stacklevel=stacklevel(),
    )


def check_flag(flag: object, known: Sequence[str]) -> None:
    """Raise `ValueError` for anything but one of the known flags."""
    if flag not in known:
        raise ValueError(f"unknown flag {flag!r}; one of {', '.join(known)}")


def check_writable(request: Request) -> None:
    """Raise `ReadOnlyError` if a writer is asked for, and either half can only be read."""
    remote = request.remote
    if request.flag != "r" and remote is not None and not remote.capabilities.writable:
        raise ReadOnlyError(
            f"{remote.location} can only be read: open it with flag 'r', or by an S3Connection "
            "with credentials",
            op="open",
            key=request.db_key,
        )


def _open_whole(request: Request) -> WorkingCopy:
    with ExitStack() as undo:
        copy = _open(request, undo)
        undo.pop_all()
    logger.info(
        "opened %s with flag %s: %s", copy.location, request.flag, _commits_go_by(copy.commit_mode)
    )
    return copy


def _commits_go_by(mode: str | None) -> str:
    if mode == "cas":
        return "mode cas, a commit is one conditional write"
    if mode == "lock":
        return "mode lock, commits go under a lock and writers queue"
    return "no database there yet, and no server probed" if mode is None else f"mode {mode}"


def _open(request: Request, undo: ExitStack) -> WorkingCopy:
    writes = request.flag != "r"
    current, shown = read_both(request)
    _check_exists(request, current)
    check_head(request, current)
    claim = Claim(None if current is None else current.head.proto, None, current)
    if current is not None or request.flag == "n" or not request.open_local.exists:
        check_mirror(shown, current.head.uuid if current else None, request.db_key)
    if writes:
        claim = claim_writing(request, current, undo)
        current = claim.current
        _check_exists(request, current)
    group_bytes = settle_group_bytes(
        request.group_bytes, replacing=request.flag == "n" and current is not None
    )
    local = request.open_local(_plan(request, current))
    if request.owns_local:
        undo.callback(local.close)
    if writes and not local.writable:
        raise ReadOnlyError(
            f"{local.location} was opened for reading only, and is to be written to: open the "
            "store for writing, or the database with flag 'r'",
            op="open",
            key=request.db_key,
        )
    settings = replace(_settle_settings(request, local, current), group_bytes=group_bytes)
    if request.flag != "n":
        check_mirror(shown, local.uuid, request.db_key)
    copy = WorkingCopy(
        local=local,
        remote=request.remote,
        db_key=request.db_key,
        clock=request.clock,
        settings=settings,
        mirrored=request.mirror.segments if request.mirror is not None else None,
        keyring=request.keyring,
    )
    copy.owns_local, copy.owns_remote = request.owns_local, request.owns_remote
    copy.proto = claim.proto
    copy.lease = claim.lease
    copy.exclusive_locks, copy.lock_timeout = request.exclusive_locks, request.lock_timeout
    if current is not None:
        current = copy.heads.of_branch(current)
    if request.flag == "n":
        attach_anew(copy, current)
    else:
        attach(copy, current, local.condition, writes=writes)
    return copy


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
        if service is None:
            return Claim(proto, None, current)
        lease, current = _lock(request, request.remote, service, current)
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
    current = read_remote(request)
    if request.flag == "r" or request.mirror is None or request.settings.offline:
        return current, None
    shown = uuid_at(request.mirror.look, request.db_key)
    if shown is not None and (current is None or current.head.uuid != shown):
        current = read_remote(request)  # it may have been made just now
    return current, shown


def _heads(remote: RemoteStore, request: Request) -> HeadStore:
    return HeadStore(remote, request.db_key, request.clock, lambda *_: False)


def _lock(
    request: Request, remote: RemoteStore, service: LockService, current: Snapshot | None
) -> tuple[Lease, Snapshot | None]:
    """Take the write lock; what another holder may have changed since it was read is read again."""
    fence = current.head.fence if current else 0
    try:
        lease = service.acquire(
            request.db_key, timeout=request.lock_timeout, fence=fence, force=request.force_lock
        )
    except LockTimeout as exc:
        if request.settings.exclusive:
            raise
        raise LockTimeout(
            f"{exc.args[0]}. On this server writers queue, with lock='optimistic' too: it does not "
            "honour conditional writes, so that commits go under the lock (mode lock)",
            op=exc.op,
            key=exc.key,
        ) from exc
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


def _check_exists(request: Request, current: Snapshot | None) -> None:
    if request.open_local.exists:
        return
    if request.settings.offline:
        raise OfflineError(
            "there is no local file to serve from, and the database was opened offline",
            op="open",
            key=request.db_key,
        )
    if current is None and request.flag in ("r", "w"):
        remote = request.remote
        where = f"{remote.location}/{request.db_key}" if remote else "the given path"
        can_create = remote is None or remote.capabilities.writable
        remedy = "flag 'c' creates one" if can_create else "check the URL"
        raise RemoteMissingError(
            f"there is no database at {where}, and no local file either; {remedy}",
            op="open",
            key=request.db_key,
        )


def check_head(request: Request, current: Snapshot | None) -> None:
    """Refuse a remote that is not what the caller asks for, or cannot be opened this way.

    Raises:
        TypeError: it is stored as the other type, and `only` one will do.
        ValueError: another serializer is asked for than it has.
        UnsupportedFormatError: this version may not write it.
        SerializationError: its values may not be read.
        EncryptionError: it is encrypted and cannot be opened by the caller's keys, or it is not.
    """
    if current is None:
        return
    check_type(request, current.head.type)
    request.keyring.sealer_of(current.head)
    stored = current.head.value_serializer
    if request.explicit_serializer is not None and request.explicit_serializer != stored:
        raise ValueError(
            f"this database's values are serialised with {stored!r}, not "
            f"{request.explicit_serializer!r}; leave value_serializer out"
        )
    request.accept_serializer(stored)
    if request.flag != "r" and (reason := current.head.read_only_reason):
        raise UnsupportedFormatError(
            f"this database can only be opened with flag 'r': {reason}",
            op="open",
            key=request.db_key,
        )


def check_type(request: Request, found: DatabaseType) -> None:
    """Raise `TypeError` if a database is found where a group is asked for, or the reverse."""
    if request.only is None or request.only == found:
        return
    raise TypeError(
        "this is a connection group; open it with open_rcg"
        if found == "group"
        else "this is an ordinary database; open it with open_ebooklet"
    )


def _plan(request: Request, current: Snapshot | None) -> LocalPlan:
    head = current.head if current else None
    exists = request.open_local.exists
    return LocalPlan(
        uuid=head.uuid if head else None,
        value_serializer=head.value_serializer if head else None,
        replace=request.flag == "n",
        create=not exists and (head is not None or request.flag in ("c", "n")),
        writable=request.flag != "r",
        expected_keys=current.count if current and request.flag != "n" else 0,
    )


def _settle_settings(request: Request, local: LocalStore, current: Snapshot | None) -> Settings:
    """What the stored halves decide, over what the caller assumed."""
    settings = request.settings
    if current is not None:
        check_same(request, local, current)
        return replace(
            settings,
            type=current.head.type,
            key_serializer=current.head.key_serializer,
            value_serializer=current.head.value_serializer,
        )
    settings = replace(settings, value_serializer=_stored_serializer(request, local))
    stored = stored_type(local)
    if stored is not None and request.flag != "n":
        check_type(request, stored)
        settings = replace(settings, type=stored)
    return settings


def _stored_serializer(request: Request, local: LocalStore) -> str:
    """The serializer of a local half that has no remote to tell it."""
    stored = local.value_serializer
    explicit = request.explicit_serializer
    if stored is None:
        # None that Booklet has a number for. What the name was is lost with the folder beside it.
        stored = CUSTOM_NAME if explicit is None or explicit in BOOKLET_NAMES else explicit
    if explicit is not None and explicit != stored:
        raise ValueError(
            f"{local.location} holds values serialised with {stored!r}, not {explicit!r}; "
            "leave value_serializer out"
        )
    request.accept_serializer(stored)
    return stored


def check_same(request: Request, local: LocalStore, current: Snapshot) -> None:
    """Raise `UUIDMismatchError` if the halves belong to different databases."""
    if local.uuid != current.head.uuid:
        raise UUIDMismatchError(
            f"{local.location} belongs to database {local.uuid}, the remote is "
            f"{current.head.uuid}; nothing was changed. Use another file_path",
            op="open",
            key=request.db_key,
        )
