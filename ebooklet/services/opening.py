"""Opening: bringing both halves together under one of the dbm flags (CONTRACT §3)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, TypeAlias, get_args
from uuid import UUID

from ebooklet.core.callers import stacklevel
from ebooklet.core.head import Proto
from ebooklet.core.journal import ABSENT
from ebooklet.core.names import check_db_key
from ebooklet.errors import (
    OfflineError,
    ReadOnlyError,
    RemoteMissingError,
    UnsupportedFormatError,
    UUIDMismatchError,
)
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import Lease, LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.confirming import settle_landed
from ebooklet.services.fencing import raise_fence
from ebooklet.services.heads import HeadStore
from ebooklet.services.pull import check_advance, take_in
from ebooklet.services.rebasing import rebase_unknown
from ebooklet.services.reconcile import reconcile
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import (
    BORROW_TIMEOUT_S,
    Settings,
    WorkingCopy,
    check_policy,
)

Flag: TypeAlias = Literal["r", "w", "c", "n"]
FLAGS: Final[tuple[Flag, ...]] = get_args(Flag)
KIND_SLOT: Final = "kind"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything an open needs, built or chosen by the caller."""

    flag: Flag
    open_local: OpenLocal
    clock: Clock
    remote: RemoteStore | None = None
    db_key: str = "db"
    locks: Callable[[Proto], LockService | None] = lambda _: None  # by the way heads are moved
    probe: Callable[[], Proto] | None = None  # finds out how heads can be moved
    lock_timeout: float = 300  # s
    force_lock: bool = False
    settings: Settings = field(default_factory=Settings)
    explicit_serializer: str | None = None  # the caller insists on this one


def open_copy(request: Request) -> WorkingCopy:
    """Open both halves, bring them into step, and hold the write lock where one is due.

    Raises:
        RemoteMissingError: flag r or w, and neither half exists.
        UUIDMismatchError: the halves belong to different databases; nothing was changed.
        LockTimeout, LockLostError, AccessDenied, RemoteUnavailable, UnsupportedFormatError, …:
            locks taken on the way are free again, files closed.
    """
    if request.flag not in FLAGS:
        raise ValueError(f"unknown flag {request.flag!r}; one of {', '.join(FLAGS)}")
    check_policy(request.settings.conflict)
    check_db_key(request.db_key)
    remote = request.remote
    if request.flag != "r" and remote is not None and not remote.capabilities.writable:
        raise ReadOnlyError(
            f"{remote.location} can only be read: open it with flag 'r', or by an S3Connection "
            "with credentials",
            op="open",
        )
    with ExitStack() as undo:
        copy = _open(request, undo)
        undo.pop_all()
    return copy


def _open(request: Request, undo: ExitStack) -> WorkingCopy:
    write = request.flag != "r"
    current = read_remote(request)
    _check_request(request, current)
    lease: Lease | None = None
    proto = current.head.proto if current else None
    if write and request.remote is not None and request.remote.capabilities.writable:
        if proto is None and request.probe is not None:
            proto = request.probe()
        service = request.locks(proto) if proto is not None else None
        if service is not None:
            lease, current = _lock(request, request.remote, service, current)
            undo.callback(lease.release)
            _check_request(request, current)
    local = request.open_local(_plan(request, current))
    undo.callback(local.close)
    settings = _settle_settings(request, local, current)
    copy = WorkingCopy(
        local=local,
        remote=request.remote,
        db_key=request.db_key,
        clock=request.clock,
        settings=settings,
    )
    copy.proto = proto
    copy.lease = lease
    attach(copy, current, request.flag)
    return copy


def read_remote(request: Request) -> Snapshot | None:
    """The head that stands now; None without a remote, without a database there, or offline."""
    if request.remote is None or request.settings.offline:
        return None
    return _heads(request.remote, request).read()


def _heads(remote: RemoteStore, request: Request) -> HeadStore:
    return HeadStore(remote, request.db_key, request.clock, lambda *_: False)


def attach(copy: WorkingCopy, current: Snapshot | None, flag: Flag) -> None:
    """Bring a freshly opened local half into step with the remote."""
    local = copy.local
    if local.condition == "new" and copy.settings.kind == "group":
        local.write_slot(KIND_SLOT, b"group")
    copy.reload()
    if flag == "n":
        if current is not None:
            check_advance(copy, current)
            with copy.lock:
                copy.pending.replace = True
                copy.journal.rewrite(copy.pending)
                copy.set_base(current)
                copy.journal.write_base(current)
                local.sync()
        return
    # Without a base nothing says that what is stored here is fresh, however orderly the end was.
    baseless = copy.base is None and current is not None and local.condition != "new"
    if baseless or local.condition in ("edited", "crashed"):
        with local.exclusive(BORROW_TIMEOUT_S):
            copy.reload()
            if baseless and current is not None:
                check_advance(copy, current)
                settle_landed(copy, current)
            if copy.base is None and current is not None:
                rebase_unknown(copy, ABSENT)
                copy.set_base(current)
                reconcile(copy, current, related=False)
                copy.journal.write_base(current)
            else:
                reconcile(copy, copy.base, related=True)
    elif local.condition == "clean" and local.writable:
        _finish_deletions(copy)
    if current is not None:
        take_in(copy, current)
    if copy.pending.replace:
        warnings.warn(
            "an earlier session opened this database with flag 'n' or cleared it, and has not "
            "pushed since: the next push replaces the whole remote. discard() cancels that",
            UserWarning,
            stacklevel=stacklevel(),
        )


def _finish_deletions(copy: WorkingCopy) -> None:
    """Remove what a killed `delete` or `clear` had journalled but not yet removed."""
    pending = copy.pending
    left = [key for key in pending.deletes if copy.local.contains(key)]
    if pending.replace:
        stored = copy.local.keys()
        left += [key for key in stored if key not in pending.sets]
    if left:
        copy.journal.gone(left)
        copy.local.delete(left)
        copy.local.sync()


def _lock(
    request: Request, remote: RemoteStore, service: LockService, current: Snapshot | None
) -> tuple[Lease, Snapshot | None]:
    """Take the write lock; what another holder may have changed since it was read is read again."""
    fence = current.head.fence if current else 0
    lease = service.acquire(
        request.db_key, timeout=request.lock_timeout, fence=fence, force=request.force_lock
    )
    try:
        # The very next token: whoever wrote that head was the last to hold the lock.
        if lease.waited or lease.token != fence + 1:
            current = read_remote(request)
        if request.force_lock and current is not None and current.head.proto.mode == "cas":
            current = raise_fence(
                _heads(remote, request), current, lease, request.clock, request.db_key
            )
    except BaseException:
        lease.release()
        raise
    return lease, current


def _check_request(request: Request, current: Snapshot | None) -> None:
    flag = request.flag
    if request.settings.offline and not request.open_local.exists:
        raise OfflineError(
            "there is no local file to serve from, and the database was opened offline",
            op="open",
            key=request.db_key,
        )
    if current is None and not request.open_local.exists and flag in ("r", "w"):
        where = (
            f"{request.remote.location}/{request.db_key}" if request.remote else "the given path"
        )
        raise RemoteMissingError(
            f"there is no database at {where}, and no local file either; flag 'c' creates one",
            op="open",
            key=request.db_key,
        )
    if current is None:
        return
    stored = current.head.value_serializer
    if request.explicit_serializer is not None and request.explicit_serializer != stored:
        raise ValueError(
            f"this database's values are serialised with {stored!r}, not "
            f"{request.explicit_serializer!r}; leave value_serializer out"
        )
    if flag != "r" and (reason := current.head.read_only_reason):
        raise UnsupportedFormatError(
            f"this database can only be opened with flag 'r': {reason}",
            op="open",
            key=request.db_key,
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
        if local.uuid != current.head.uuid:
            raise UUIDMismatchError(
                f"{local.location} belongs to database {local.uuid}, the remote is "
                f"{current.head.uuid}; nothing was changed. Use another file_path",
                op="open",
                key=request.db_key,
            )
        return replace(
            settings,
            kind=current.head.type,
            key_serializer=current.head.key_serializer,
            value_serializer=current.head.value_serializer,
        )
    stored = local.value_serializer
    if stored is not None:
        explicit = request.explicit_serializer
        if explicit is not None and explicit != stored:
            raise ValueError(
                f"{local.location} holds values serialised with {stored!r}, not {explicit!r}; "
                "leave value_serializer out"
            )
        settings = replace(settings, value_serializer=stored)
    if local.read_slot(KIND_SLOT) == b"group":
        settings = replace(settings, kind="group")
    return settings
