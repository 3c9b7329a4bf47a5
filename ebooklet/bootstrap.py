"""The composition root: turns URLs, names and options into adapters and hands them to services.

The one module that knows both sides. Whatever an argument names may also be passed ready built.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.mirrored import MirroredRemoteStore
from ebooklet.adapters.remote.probe import probe
from ebooklet.adapters.scratch import Scratch
from ebooklet.connection import DEFAULT_THREADS, RemoteAddress, S3Connection
from ebooklet.core.head import MAX_HEAD_BYTES, DatabaseType, Proto
from ebooklet.core.names import segment_prefix
from ebooklet.core.numbers import check_whole
from ebooklet.core.serialization import CUSTOM_NAME, canonical_name, split_name
from ebooklet.database import EBooklet
from ebooklet.errors import SerializationError
from ebooklet.group import RemoteConnGroup
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.custom import as_serializer
from ebooklet.services.closing import close_copy
from ebooklet.services.fsck import DEFAULT_MIN_AGE_MS, FsckReport, examine, sweep
from ebooklet.services.migration.gathering import Wishes
from ebooklet.services.migration.migrate import check_apart, check_target
from ebooklet.services.migration.migrate import migrate as run_migration
from ebooklet.services.migration.olddatabase import OldDatabase
from ebooklet.services.migration.remote import OldRemote
from ebooklet.services.migration.report import MigrationReport
from ebooklet.services.mirrors import Mirror
from ebooklet.services.opening import (
    FLAGS,
    Flag,
    LocalPlan,
    Request,
    check_flag,
    open_copy,
)
from ebooklet.services.packing import UNSET, GroupBytes, check_packing
from ebooklet.services.place import OpenPlace, RemoteLike, RemotePlace
from ebooklet.services.reopening import Mode, reopen_copy
from ebooklet.services.working_copy import ConflictPolicy, Settings, WorkingCopy, check_policy
from ebooklet.session import RemoteSession

__all__ = ["fsck", "migrate", "open", "open_ebooklet", "open_rcg", "open_session"]

PathLike: TypeAlias = str | os.PathLike[str]
DEFAULT_SERIALIZER: Final = "pickle"
DEFAULT_N_BUCKETS: Final = 12_007  # Booklet's own
DEFAULT_BUFFER_SIZE: Final = 1 << 22  # bytes
DEFAULT_LOCK_TIMEOUT_S: Final = 300.0
DEFAULT_FSCK_LOCK_TIMEOUT_S: Final = 60.0
DEFAULT_MIN_AGE: Final = timedelta(milliseconds=DEFAULT_MIN_AGE_MS)
_MIGRATION_BUFFER_BYTES: Final = 1 << 20  # beside the values in flight, which count more
_LONGEST_AGE_S: Final = 100 * 365 * 24 * 3600.0
Offline: TypeAlias = bool | Literal["auto"]

_registry = Registry()


@dataclass(frozen=True, slots=True)
class _Remote:
    """A remote store, the database's key in it, and what kind of place it is."""

    store: RemoteStore
    db_key: str
    scheme: str = ""
    folder: Path | None = None  # of a file:// remote
    trusted: bool = True  # pickles from it may be read
    mirror: Mirror | None = None
    owned: bool = True  # built here, so closed here

    def close(self) -> None:
        """Close what was built."""
        if self.owned:
            if self.mirror is not None:
                self.mirror.segments.close()
            self.store.close()


class OpenOptions(TypedDict, total=False):
    """The keyword-only options of `open`, for those that pass them on."""

    lock: Literal["exclusive", "optimistic"] | LockService
    lock_timeout: float
    force_lock: bool
    local: str | LocalStore
    offline: Offline
    allow_pickle: bool | None
    conflict: ConflictPolicy
    group_bytes: GroupBytes
    push_packers: int
    num_groups: None
    clock: Clock | None
    registry: Registry | None


def open(  # noqa: A001 - the dbm name, as in the standard library
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    value_serializer: Any = None,
    n_buckets: int = DEFAULT_N_BUCKETS,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    remote_conn_group: bool = False,
    *,
    lock: Literal["exclusive", "optimistic"] | LockService = "exclusive",
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S,
    force_lock: bool = False,
    local: str | LocalStore = "booklet",
    offline: Offline = False,
    allow_pickle: bool | None = None,
    conflict: ConflictPolicy = "error",
    group_bytes: GroupBytes = UNSET,
    push_packers: int = 1,
    num_groups: None = None,
    clock: Clock | None = None,
    registry: Registry | None = None,
) -> EBooklet[Any]:
    """Open a database, or a connection group, under one of the dbm flags.

    Args:
        remote_conn: an S3Connection, a URL, a dict of an S3Connection's parameters, or a built
            RemoteStore; None for a database without a remote.
        file_path: the local Booklet file; None keeps the local half in memory.
        flag: "r" read, "w" write an existing database, "c" create it if missing, "n" start anew
            (the remote is replaced by the next push, not before).
        value_serializer: a registered name, or a class with static `dumps` and `loads`; needed
            at creation only, an existing database knows its own.
        n_buckets: index size of a local file that is created: as many as there will be keys; it
            grows by itself.
        buffer_size: bytes of local writes that are collected before they go to the system.
        remote_conn_group: create a connection group; an existing one is known as such.
        lock: "exclusive" holds the write lock while open; "optimistic" takes none, and pushes
            that meet another's commit are merged; or a built LockService.
        lock_timeout: seconds to wait for locks.
        force_lock: take the write lock from whoever holds it.
        local: name of the local store's kind, or a built LocalStore.
        offline: True makes no requests at all, and needs flag "r" and an existing local file.
            "auto" does the same, with a warning, where the remote cannot be reached; with flags
            "w" and "c" what is written then stays pending until the next open that reaches it.
        allow_pickle: whether pickled values are read from a remote opened without credentials.
            None: only if `value_serializer` names them.
        conflict: what a push does with keys changed on both sides: "error", "ours", "theirs".
        group_bytes: an option of EBooklet 0.11, accepted and without effect, as are
            `push_packers` and `num_groups`, of which only None ever remained.
        push_packers: see `group_bytes`.
        num_groups: see `group_bytes`.
        clock: time and randomness, for tests and embedding.
        registry: where names and schemes are looked up.

    Returns:
        An EBooklet, or a RemoteConnGroup if that is what is stored there.

    Raises:
        ValueError, TypeError: an argument is wrong; nothing was touched.
        EBookletError: see `ebooklet.errors`; nothing is left locked or open.

    Example:
        >>> import ebooklet
        >>> db = ebooklet.open("memory://example", flag="c", value_serializer="json")
        >>> db["a"] = 1
        >>> db.push().updated
        True
        >>> db.close()
    """
    return _opened(
        _Arguments(
            remote_conn=remote_conn,
            file_path=file_path,
            flag=flag,
            value_serializer=value_serializer,
            n_buckets=n_buckets,
            buffer_size=buffer_size,
            kind="group" if remote_conn_group else "database",
            lock=lock,
            lock_timeout=lock_timeout,
            force_lock=force_lock,
            local=local,
            offline=offline,
            allow_pickle=allow_pickle,
            conflict=conflict,
            group_bytes=group_bytes,
            push_packers=push_packers,
            num_groups=num_groups,
            clock=clock,
            registry=registry,
        )
    )


def open_ebooklet(
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    value_serializer: Any = None,
    n_buckets: int = DEFAULT_N_BUCKETS,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    **options: Unpack[OpenOptions],
) -> EBooklet[Any]:
    """`open` that refuses a connection group.

    Raises:
        TypeError: a connection group is stored there; nothing was changed.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open_ebooklet("memory://plain", flag="c") as db:
        ...     type(db).__name__
        'EBooklet'
    """
    return _opened(
        _Arguments(
            remote_conn=remote_conn,
            file_path=file_path,
            flag=flag,
            value_serializer=value_serializer,
            n_buckets=n_buckets,
            buffer_size=buffer_size,
            kind="database",
            only=True,
            **options,
        )
    )


def open_rcg(
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    n_buckets: int = DEFAULT_N_BUCKETS,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    **options: Unpack[OpenOptions],
) -> RemoteConnGroup:
    """`open` for connection groups: creates one, or opens what has to be one.

    Raises:
        TypeError: an ordinary database is stored there; nothing was changed.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open_rcg("memory://group", flag="c") as group:
        ...     type(group).__name__
        'RemoteConnGroup'
    """
    group = _opened(
        _Arguments(
            remote_conn=remote_conn,
            file_path=file_path,
            flag=flag,
            value_serializer=None,  # a group's is settled; one among the options is refused here
            n_buckets=n_buckets,
            buffer_size=buffer_size,
            kind="group",
            only=True,
            **options,
        )
    )
    assert isinstance(group, RemoteConnGroup)  # noqa: S101  # anything else was refused
    return group


def migrate(
    old: RemoteLike | PathLike,
    new: RemoteLike,
    file_path: PathLike | None = None,
    *,
    old_file: PathLike | None = None,
    apply_pending: bool = False,
    strict: bool = True,
    value_serializer: Any = None,
    remote_conn_group: bool = False,
    allow_pickle: bool | None = None,
    message: str | None = None,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S,
    clock: Clock | None = None,
    registry: Registry | None = None,
) -> MigrationReport:
    """Move a database of EBooklet 0.11 into a new one, by one commit; the old one stays as it is.

    Values are carried byte for byte, with their timestamps, the serializer's name and the user's
    metadata. Nothing is in the new remote before that commit, and a call that broke off goes on
    where it was when it is repeated with the same `file_path`. No lock of the old remote is taken:
    if somebody commits to it meanwhile, the migration says so and pushes nothing.

    Args:
        old: the old remote, as an S3Connection with its old parameters, a dict of these, or its
            public URL; or the path of a local file of 0.11, of which only what is stored in it can
            be read.
        new: the new database, as `open` takes it. It must not exist.
        file_path: the new local file, which must not exist; it then holds the whole database. None
            uses the system's folder for temporary files, where as much space is needed.
        old_file: a local file of 0.11 that belongs to the old remote, for what it never pushed.
        apply_pending: take what `old_file` never pushed into the new database; otherwise it is
            only reported. A change that the remote overtook is not applied, but a failure.
        strict: push nothing if anything could not be read, and raise what that is. False leaves it
            out of the new database and lists it in the report.
        value_serializer: the class, where the old database has one of the user's own. A name can
            be given, but not another one.
        remote_conn_group: a local file alone, which does not say what it is, is that of a group.
        allow_pickle: whether pickles are taken over from a remote opened without credentials: in
            the new place they will be trusted. None goes by whether the serializer was named.
        message: of the commit.
        lock_timeout: seconds to wait for the new remote's lock and for either local file.
        clock: time and randomness, for tests and embedding.
        registry: where names and schemes are looked up.

    Raises:
        ValueError: the new database or its local file exists, or a serializer other than the old
            database's was named.
        RemoteMissingError: there is no old database.
        UnsupportedFormatError: it is none of EBooklet 0.11.
        UUIDMismatchError: `old_file` belongs to another database.
        MigrationIncomplete: something could not be read, and `strict` is set.
        SnapshotExpired: the old remote was changed while it was read.
        EBookletError: see `ebooklet.errors`; nothing is left locked or open.
    """
    registry = registry or _registry
    clock = clock or SystemClock()
    if isinstance(old, os.PathLike) or (isinstance(old, str) and "://" not in old):
        if old_file is not None:
            raise ValueError("with old_file, old has to be the remote that it belongs to")
        old_remote, old_file = None, old
    else:
        old_remote = _resolve_old(old, registry)
    if apply_pending and old_file is None:
        raise ValueError("apply_pending goes with old_file, in which the pending changes are")
    with ExitStack() as stack:
        if old_remote is not None and old_remote.owned:
            stack.callback(old_remote.store.close)
        if file_path is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="ebooklet-"))
            file_path = Path(folder, "migration.blt")
        begun = _is_begun(Path(file_path))
        with _place_opener(clock, registry)(new) as place:
            check_target(place, local_exists=begun)
            if old_remote is not None:
                check_apart(place, old_remote.store, old_remote.db_key)
        source = file = None
        if old_remote is not None:
            scratch = stack.enter_context(Scratch())
            source = OldRemote(old_remote.store, old_remote.db_key, scratch)
        if old_file is not None:
            # Here, as Booklet loads every package there is a serializer for: 75 MiB with pandas.
            from ebooklet.adapters.local.booklet.legacy import LegacyLocalFile

            file = LegacyLocalFile(Path(old_file), clock=clock, lock_timeout=lock_timeout)
            stack.callback(file.close)
        database = OldDatabase(source, file)
        name = database.value_serializer
        _check_carried(name, value_serializer, old_remote, allow_pickle, registry)
        given = _Arguments(
            remote_conn=new,
            file_path=file_path,
            flag="c",
            n_buckets=max(DEFAULT_N_BUCKETS, database.expected_keys * 8 // 7 + 1),
            buffer_size=_MIGRATION_BUFFER_BYTES,
            kind=database.kind or ("group" if remote_conn_group else "database"),
            lock_timeout=lock_timeout,
        )
        given.check()
        new_remote = _resolve_remote(new, registry)
        if new_remote is not None and new_remote.owned:
            stack.callback(new_remote.store.close)
        # Values are only carried: nothing is decoded, so nothing has to be installed for it.
        request = _request(given, name, new_remote, clock, registry, accept=lambda _: None)
        threads = old.threads if isinstance(old, S3Connection) else DEFAULT_THREADS
        wishes = Wishes(
            apply_pending=apply_pending, strict=strict, message=message or "", threads=threads
        )
        return run_migration(database, request, wishes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arguments:
    """What a caller of `open` gave; see there."""

    remote_conn: RemoteLike | None
    file_path: PathLike | None
    flag: Flag
    n_buckets: int
    buffer_size: int
    kind: DatabaseType  # where nothing exists yet
    only: bool = False  # nothing else will do
    value_serializer: Any = None
    lock: Literal["exclusive", "optimistic"] | LockService = "exclusive"
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S
    force_lock: bool = False
    local: str | LocalStore = "booklet"
    offline: Offline = False
    allow_pickle: bool | None = None
    conflict: ConflictPolicy = "error"
    group_bytes: GroupBytes = UNSET
    push_packers: int = 1
    num_groups: None = None
    clock: Clock | None = None
    registry: Registry | None = None

    def check(self) -> None:
        """Refuse what can be refused before any file, lock or request."""
        check_flag(self.flag, FLAGS)
        check_policy(self.conflict)
        check_packing(self.group_bytes, self.push_packers, self.num_groups)
        if isinstance(self.lock, str) and self.lock not in ("exclusive", "optimistic"):
            raise ValueError(
                f"lock must be 'exclusive', 'optimistic' or a LockService, not {self.lock!r}"
            )
        if not any(self.offline is known for known in (False, True, "auto")):
            raise ValueError(f"offline must be False, 'auto' or True, not {self.offline!r}")
        if self.offline is True and self.flag != "r":
            raise ValueError(
                "offline=True goes with flag 'r' only; to write where the remote may be out of "
                "reach, pass offline='auto'"
            )
        if not self.lock_timeout >= 0:
            raise ValueError(f"lock_timeout is in seconds, 0 or more, not {self.lock_timeout!r}")
        if self.file_path in FLAGS:
            raise ValueError(
                f"file_path is {self.file_path!r}: flags come third, as flag={self.file_path!r}; "
                f"a file of that name is './{self.file_path}'"
            )
        check_whole("n_buckets", self.n_buckets)
        check_whole("buffer_size", self.buffer_size)
        if self.file_path is not None and not Path(self.file_path).parent.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "the folder of the local file does not exist", str(self.file_path)
            )


def _opened(given: _Arguments) -> EBooklet[Any]:
    given.check()
    registry = given.registry or _registry
    clock = given.clock or SystemClock()
    explicit = None
    if given.kind == "group":
        explicit = "json"
    elif given.value_serializer is not None:
        explicit = _serializer_name(given.value_serializer)
        _serializer(given.value_serializer, explicit, registry)  # no name at all is said at once
    if isinstance(given.local, str):
        registry.local_store(given.local)
    remote = _resolve_remote(given.remote_conn, registry, mirrored=True)
    try:
        _check_apart(given.file_path, remote)
        accept = partial(_accepted, given, remote, registry)
        request = _request(given, explicit, remote, clock, registry, accept)
        copy = open_copy(request)
    except BaseException:
        if remote is not None:
            remote.close()
        raise
    try:
        serializer = accept(copy.settings.value_serializer)
    except BaseException:
        close_copy(copy)
        raise
    face = RemoteConnGroup if copy.settings.kind == "group" else EBooklet

    def reopen(copy: WorkingCopy, flag: Mode) -> None:
        reopen_copy(copy, request, flag)

    return face(copy, serializer, _place_opener(clock, registry), reopen)


def _check_apart(file_path: PathLike | None, remote: _Remote | None) -> None:
    if remote is None or remote.folder is None or file_path is None:
        return
    head = remote.folder / remote.db_key
    if Path(file_path).resolve() == head.resolve():
        raise ValueError(f"file_path and the remote are the same file, {head}; choose another")


def _request(
    given: _Arguments,
    explicit: str | None,
    remote: _Remote | None,
    clock: Clock,
    registry: Registry,
    accept: Callable[[str], object],
) -> Request:
    """What the services are asked to open."""
    return Request(
        flag=given.flag,
        open_local=_LocalOpener(
            registry=registry,
            clock=clock,
            path=None if given.file_path is None else Path(given.file_path),
            given=given.local,
            serializer=explicit or DEFAULT_SERIALIZER,
            n_buckets=given.n_buckets,
            buffer_size=given.buffer_size,
            lock_timeout=given.lock_timeout,
        ),
        clock=clock,
        remote=remote.store if remote else None,
        db_key=remote.db_key if remote else "local",
        locks=_locks(given.lock, remote, clock, registry),
        exclusive_locks=_locks(
            "exclusive" if given.lock == "optimistic" else given.lock, remote, clock, registry
        ),
        probe=None if remote is None else _prober(remote, clock),
        mirror=None if remote is None else remote.mirror,
        lock_timeout=given.lock_timeout,
        force_lock=given.force_lock,
        explicit_serializer=None if given.kind == "group" else explicit,
        accept_serializer=accept,
        only=given.kind if given.only else None,
        group_bytes=given.group_bytes,
        falls_back=given.offline == "auto",
        owns_local=isinstance(given.local, str),
        owns_remote=remote is not None and remote.owned,
        settings=Settings(
            kind=given.kind,
            value_serializer=explicit or DEFAULT_SERIALIZER,
            writable=given.flag != "r",
            offline=given.offline is True,
            exclusive=given.lock != "optimistic",
            conflict=given.conflict,
            author=_author(),
            version=ebooklet.__version__,
        ),
    )


def fsck(
    remote_conn: RemoteLike,
    delete_orphans: bool = False,
    min_age: timedelta | float = DEFAULT_MIN_AGE,
    check_objects: bool = False,
    lock_timeout: float = DEFAULT_FSCK_LOCK_TIMEOUT_S,
) -> FsckReport:
    """Compare a remote database with its objects, and sweep those that nothing needs.

    Without `delete_orphans` nothing is changed and no lock is taken; it may run beside writers.

    Args:
        remote_conn: the database, named as for `open`; its place has to be one that can be listed,
            which a plain URL is not.
        delete_orphans: delete, under the write lock, the orphans that are at least `min_age` old.
            Nothing is deleted from a database that is damaged or missing.
        min_age: a timedelta, or seconds.
        check_objects: also read every segment in use, and compare it with its checksums and with
            what the index says of it: costs as much as downloading the database.
        lock_timeout: seconds to wait for the lock.

    Raises:
        ReadOnlyError: `delete_orphans` without credentials.
        LockTimeout: another writer has the lock.
        UnsupportedFormatError: what stands there is no database of ours.
        UnsupportedOperation: the place cannot be listed.
        EBookletError: a request failed.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open("memory://checked", flag="c", value_serializer="json") as db:
        ...     db["a"] = 1
        ...     _ = db.push()
        >>> report = ebooklet.fsck("memory://checked", check_objects=True)
        >>> report.db_object_exists, report.ok, report.orphans
        (True, True, ())
    """
    seconds = min_age.total_seconds() if isinstance(min_age, timedelta) else min_age
    if not seconds >= 0:
        raise ValueError("min_age must be 0 or more")
    min_age_ms = round(min(seconds, _LONGEST_AGE_S) * 1000)
    with _place_opener(SystemClock(), _registry)(remote_conn) as place:
        if not delete_orphans:
            return examine(place, min_age_ms=min_age_ms, check_objects=check_objects)
        return sweep(
            place, min_age_ms=min_age_ms, check_objects=check_objects, lock_timeout=lock_timeout
        )


def open_session(
    remote_conn: RemoteLike,
    flag: Flag = "r",
    *,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S,
    clock: Clock | None = None,
    registry: Registry | None = None,
) -> RemoteSession:
    """Open a remote database as a whole, without a local file: to look, delete, copy or lock.

    Args:
        remote_conn: which one, named as for `open`.
        flag: "r" to look only; "w", "c" or "n" (all the same here) also to delete, copy and lock.
        lock_timeout: seconds to wait for the write lock where one is needed.
        clock: time and randomness, for tests and embedding.
        registry: where names and schemes are looked up.

    Raises:
        ReadOnlyError: another flag than "r" for a remote that can only be read.
        ValueError, TypeError: an argument is wrong.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open_session("memory://nothing-there") as session:
        ...     session.initialized, session.uuid
        (False, None)
    """
    check_flag(flag, FLAGS)
    open_place = _place_opener(clock or SystemClock(), registry or _registry)
    with ExitStack() as undo:
        place = undo.enter_context(open_place(remote_conn))
        session = RemoteSession(place, open_place, writable=flag != "r", lock_timeout=lock_timeout)
        undo.pop_all()
    return session


@dataclass(frozen=True, slots=True, kw_only=True)
class _LocalOpener:
    """Opens the local half once the remote has been looked at."""

    registry: Registry
    clock: Clock
    path: Path | None
    given: str | LocalStore
    serializer: str
    n_buckets: int
    buffer_size: int
    lock_timeout: float

    @property
    def exists(self) -> bool:
        if not isinstance(self.given, str):
            return True
        return self.path is not None and self.path.exists() and self.path.stat().st_size > 0

    def __call__(self, plan: LocalPlan) -> LocalStore:
        if not isinstance(self.given, str):
            return self.given
        name = "memory" if self.path is None else self.given
        return self.registry.local_store(name)(
            self.path,
            clock=self.clock,
            mode="write" if plan.writable else "read",
            create=plan.create,
            replace=plan.replace,
            uuid=plan.uuid,
            value_serializer=plan.value_serializer or self.serializer,
            n_buckets=self.n_buckets,
            buffer_size=self.buffer_size,
            lock_timeout=self.lock_timeout,
            expected_keys=plan.expected_keys,
        )


def _resolve_remote(
    remote_conn: RemoteLike | None, registry: Registry, *, mirrored: bool = False
) -> _Remote | None:
    """The place that is meant, `mirrored` with where else it can be read."""
    if remote_conn is None:
        return None
    if isinstance(remote_conn, Mapping):
        remote_conn = _connection_of(remote_conn)
    if isinstance(remote_conn, RemoteStore):
        trusted = remote_conn.capabilities.writable
        return _Remote(remote_conn, "db", trusted=trusted, owned=False)
    if isinstance(remote_conn, S3Connection):
        address = remote_conn.address()
    elif isinstance(remote_conn, str):
        address = RemoteAddress.parse(remote_conn)
    elif isinstance(remote_conn, RemoteAddress):
        address = remote_conn
    else:
        raise TypeError(
            "remote_conn must be an S3Connection, a URL, a dict of parameters or a RemoteStore, "
            f"not {type(remote_conn).__name__}"
        )
    store, db_key = registry.remote_store(address.scheme)(address)
    folder = Path(address.path).parent if address.scheme == "file" else None
    # What can only be read was opened without credentials; a folder has its own permissions.
    trusted = store.capabilities.writable or folder is not None
    mirror = None
    if mirrored and address.connection is not None:
        mirror = _mirror(store, db_key, address.connection, registry)
    return _Remote(store, db_key, address.scheme, folder, trusted, mirror)


def _mirror(
    store: RemoteStore, db_key: str, connection: S3Connection, registry: Registry
) -> Mirror | None:
    """Where else a connection's database can be read; None if it names no such place."""
    there = connection.mirror_address()
    if there is None:
        return None
    mirror, mirror_key = registry.remote_store(there.scheme)(there)
    mirrored = MirroredRemoteStore(
        store,
        mirror,
        prefix=segment_prefix(db_key),
        mirror_prefix=segment_prefix(mirror_key),
    )
    return Mirror(mirrored, partial(mirrored.look, mirror_key, stop=MAX_HEAD_BYTES + 1))


def _connection_of(parameters: Mapping[str, Any]) -> S3Connection:
    """The connection that a dict of its parameters describes, or the entry of a group.

    An entry holds no credentials: they may be put beside its `remote_conn`, into a copy of it.
    """
    inner = parameters.get("remote_conn", parameters)
    if not isinstance(inner, Mapping):
        raise TypeError("'remote_conn' of a group entry must be a dict of connection parameters")
    known = {field.name for field in fields(S3Connection)}
    beside = {} if inner is parameters else {k: v for k, v in parameters.items() if k in known}
    given = {**inner, **beside}
    return S3Connection(**{k: v for k, v in given.items() if v is not None})


def _resolve_old(old: RemoteLike, registry: Registry) -> _Remote:
    """The place of a database of 0.11, which only some adapters can show whole."""
    if isinstance(old, Mapping):
        old = _connection_of(old)
    if isinstance(old, S3Connection) and old.has_credentials:
        old = replace(old, driver="boto3", db_url=None)
    remote = _resolve_remote(old, registry)
    if remote is None:
        raise TypeError("old must name a remote database or a local file, not None")
    return remote


def _is_begun(path: Path) -> bool:
    """Whether an earlier migration began to fill this file."""
    begun = path.with_name(f"{path.name}.ebk").is_dir()
    if path.exists() and not begun:
        raise ValueError(f"{path} exists already; choose a file_path where no file is")
    return begun


def _check_carried(
    name: str,
    given: Any,
    old: _Remote | None,
    allow_pickle: bool | None,
    registry: Registry,
) -> None:
    """Values are carried as they are, so their serializer is too."""
    if name == CUSTOM_NAME:
        _serializer(given, name, registry)
        return
    if given is not None and _serializer_name(given) != name:
        raise ValueError(
            f"the old database's values are serialised with {name!r} and carried as they are; "
            "leave value_serializer out"
        )
    allowed = given is not None if allow_pickle is None else allow_pickle  # decision 0018
    if old is None or old.trusted or allowed or split_name(name)[0] != "pickle":
        return
    raise SerializationError(
        f"values of the old remote are serialised with {name!r}, which can run code, and in the "
        "new place they would be trusted; if you trust their author, pass allow_pickle=True, or "
        "name that serializer as value_serializer",
        op="migrate",
    )


def _place_opener(clock: Clock, registry: Registry) -> OpenPlace:
    """How other databases are named by those who hold one: as `open` names them."""

    def open_place(remote_conn: RemoteLike) -> RemotePlace:
        remote = _resolve_remote(remote_conn, registry)
        if remote is None:
            raise TypeError("remote_conn must name a remote database, not None")
        return RemotePlace(
            store=remote.store,
            db_key=remote.db_key,
            clock=clock,
            locks=_locks("exclusive", remote, clock, registry),
            probe=_prober(remote, clock),
            owned=remote.owned,
        )

    return open_place


def _locks(
    lock: str | LockService, remote: _Remote | None, clock: Clock, registry: Registry
) -> Callable[[Proto], LockService | None]:
    """Which lock a writer takes, once it is known how heads are moved."""

    def choose(proto: Proto) -> LockService | None:
        if remote is None:
            return None
        if not isinstance(lock, str):
            return lock
        if lock == "optimistic" and proto.mode == "cas":
            return None
        name = "file" if remote.folder else "lease" if proto.mode == "cas" else "ticket"
        return registry.lock_service(name)(remote.store, clock, folder=remote.folder)

    return choose


def _prober(remote: _Remote, clock: Clock) -> Callable[[], Proto]:
    """How a new database finds out in which way its head can be moved."""

    def probe_store() -> Proto:
        verdict = probe(remote.store, remote.db_key, clock, cache=ProbeCache())
        return Proto(verdict.mode, verdict.etag_style, clock.now_us() // 1000, verdict.server)

    return probe_store


def _serializer_name(given: Any) -> str:
    return canonical_name(given) if isinstance(given, str) else CUSTOM_NAME


def _serializer(given: Any, stored: str, registry: Registry) -> Serializer:
    if stored != CUSTOM_NAME:
        return registry.serializer(stored)
    if given is None or isinstance(given, str):
        raise ValueError(
            "this database's values are serialised by a class of its author's own; pass that "
            "class as value_serializer"
        )
    return as_serializer(given)


def _accepted(
    given: _Arguments, remote: _Remote | None, registry: Registry, stored: str
) -> Serializer:
    """The serializer of this name, if values may be read with it (decision 0018)."""
    serializer = _serializer(given.value_serializer, stored, registry)
    chosen = given.value_serializer
    named = chosen is not None and _serializer_name(chosen) == serializer.name
    allowed = named if given.allow_pickle is None else given.allow_pickle
    if serializer.safe or allowed or remote is None or remote.trusted:
        return serializer
    raise SerializationError(
        f"values of this remote are serialised with {serializer.name!r}, which can run code, and "
        "it was opened without credentials; if you trust its author, pass allow_pickle=True, or "
        "name that serializer as value_serializer",
        op="open",
    )


def _author() -> str:
    """Who commits, for the history; nobody is named unless they ask for it."""
    return os.environ.get("EBOOKLET_AUTHOR", "")[:200]
