"""The composition root: turns URLs, names and options into adapters and hands them to services.

The one module that knows both sides. Whatever an argument names may also be passed ready built.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.probe import probe
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.core.head import Proto
from ebooklet.core.serialization import canonical_name
from ebooklet.database import EBooklet
from ebooklet.errors import SerializationError
from ebooklet.group import RemoteConnGroup
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.custom import CUSTOM_NAME, as_serializer
from ebooklet.services.closing import close_copy
from ebooklet.services.opening import Flag, LocalPlan, Request, open_copy
from ebooklet.services.place import OpenPlace, RemoteLike, RemotePlace
from ebooklet.services.working_copy import ConflictPolicy, Settings

__all__ = ["open", "open_ebooklet", "open_rcg"]

PathLike: TypeAlias = str | os.PathLike[str]
DEFAULT_SERIALIZER: Final = "pickle"
DEFAULT_BUFFER_SIZE: Final = 1 << 22  # bytes
DEFAULT_LOCK_TIMEOUT_S: Final = 300.0

_registry = Registry()


@dataclass(frozen=True, slots=True)
class _Remote:
    """A remote store, the database's key in it, and what kind of place it is."""

    store: RemoteStore
    db_key: str
    scheme: str = ""
    folder: Path | None = None  # of a file:// remote
    trusted: bool = True  # pickles from it may be read
    owned: bool = True  # built here, so closed here


def open(  # noqa: A001 - the dbm name, as in the standard library
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    value_serializer: Any = None,
    n_buckets: int | None = None,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    remote_conn_group: bool = False,
    *,
    lock: Literal["exclusive", "optimistic"] | LockService = "exclusive",
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT_S,
    force_lock: bool = False,
    local: str | LocalStore = "booklet",
    offline: bool = False,
    allow_pickle: bool | None = None,
    conflict: ConflictPolicy = "error",
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
        n_buckets: index size of a local file that is created; it grows by itself.
        buffer_size: bytes of local writes that are collected before they go to the system.
        remote_conn_group: create a connection group; an existing one is known as such.
        lock: "exclusive" holds the write lock while open; "optimistic" takes none, and pushes
            that meet another's commit are merged; or a built LockService.
        lock_timeout: seconds to wait for locks.
        force_lock: take the write lock from whoever holds it.
        local: name of the local store's kind, or a built LocalStore.
        offline: no requests at all; needs flag "r" and an existing local file.
        allow_pickle: read pickled values even from a remote opened without credentials.
        conflict: what a push does with keys changed on both sides: "error", "ours", "theirs".
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
    registry = registry or _registry
    clock = clock or SystemClock()
    explicit = None if value_serializer is None else _serializer_name(value_serializer)
    if remote_conn_group:
        explicit = "json"
    elif explicit is not None:
        _serializer(value_serializer, explicit, registry)  # a name that is none is said at once
    if isinstance(local, str):
        registry.local_store(local)
    if file_path is not None and not Path(file_path).parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "the folder of the local file does not exist", str(file_path)
        )
    if offline and flag != "r":
        raise ValueError("offline=True goes with flag 'r' only: nothing can be pushed")
    remote = _resolve_remote(remote_conn, registry)
    if remote is not None and remote.folder is not None and file_path is not None:
        head = remote.folder / remote.db_key
        if Path(file_path).resolve() == head.resolve():
            raise ValueError(f"file_path and the remote are the same file, {head}; choose another")
    try:
        copy = open_copy(
            Request(
                flag=flag,
                open_local=_LocalOpener(
                    registry=registry,
                    clock=clock,
                    path=None if file_path is None else Path(file_path),
                    given=local,
                    serializer=explicit or DEFAULT_SERIALIZER,
                    n_buckets=n_buckets,
                    buffer_size=buffer_size,
                    lock_timeout=lock_timeout,
                ),
                clock=clock,
                remote=remote.store if remote else None,
                db_key=remote.db_key if remote else "local",
                locks=_locks(lock, remote, clock, registry),
                probe=None if remote is None else _prober(remote, clock),
                lock_timeout=lock_timeout,
                force_lock=force_lock,
                explicit_serializer=explicit if not remote_conn_group else None,
                settings=Settings(
                    kind="group" if remote_conn_group else "database",
                    value_serializer=explicit or DEFAULT_SERIALIZER,
                    writable=flag != "r",
                    offline=offline,
                    exclusive=lock != "optimistic",
                    conflict=conflict,
                    author=_author(),
                    version=ebooklet.__version__,
                ),
            )
        )
    except BaseException:
        if remote is not None and remote.owned:
            remote.store.close()
        raise
    copy.owns_remote = remote is not None and remote.owned
    copy.owns_local = isinstance(local, str)
    try:
        serializer = _serializer(value_serializer, copy.settings.value_serializer, registry)
        _check_trust(serializer, remote, allow_pickle)
    except BaseException:
        close_copy(copy)
        raise
    face = RemoteConnGroup if copy.settings.kind == "group" else EBooklet
    return face(copy, serializer, _place_opener(clock, registry))


def open_ebooklet(
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    *args: Any,
    **kwargs: Any,
) -> EBooklet[Any]:
    """`open` that refuses a connection group.

    Raises:
        TypeError: a connection group is stored there; the handle is closed again.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open_ebooklet("memory://plain", flag="c") as db:
        ...     type(db).__name__
        'EBooklet'
    """
    db = open(remote_conn, file_path, flag, *args, **kwargs)
    if isinstance(db, RemoteConnGroup):
        db.close()
        raise TypeError("this is a connection group; open it with open_rcg")
    return db


def open_rcg(
    remote_conn: RemoteLike, file_path: PathLike | None = None, flag: Flag = "r", **kwargs: Any
) -> RemoteConnGroup:
    """`open` for connection groups: creates one, or opens what has to be one.

    Raises:
        TypeError: an ordinary database is stored there; the handle is closed again.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open_rcg("memory://group", flag="c") as group:
        ...     type(group).__name__
        'RemoteConnGroup'
    """
    db = open(remote_conn, file_path, flag, remote_conn_group=True, **kwargs)
    if not isinstance(db, RemoteConnGroup):
        db.close()
        raise TypeError("this is an ordinary database; open it with open_ebooklet")
    return db


@dataclass(frozen=True, slots=True, kw_only=True)
class _LocalOpener:
    """Opens the local half once the remote has been looked at."""

    registry: Registry
    clock: Clock
    path: Path | None
    given: str | LocalStore
    serializer: str
    n_buckets: int | None
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


def _resolve_remote(remote_conn: RemoteLike | None, registry: Registry) -> _Remote | None:
    if remote_conn is None:
        return None
    if isinstance(remote_conn, Mapping):
        inner = remote_conn.get("remote_conn", remote_conn)
        if not isinstance(inner, Mapping):
            raise TypeError(
                "'remote_conn' of a group entry must be a dict of connection parameters"
            )
        remote_conn = S3Connection(**{k: v for k, v in inner.items() if v is not None})
    if isinstance(remote_conn, S3Connection):
        address, trusted = remote_conn.address(), remote_conn.has_credentials
    elif isinstance(remote_conn, str):
        address = RemoteAddress.parse(remote_conn)
        trusted = address.scheme not in ("http", "https")
    elif isinstance(remote_conn, RemoteAddress):
        address, trusted = remote_conn, True
    elif isinstance(remote_conn, RemoteStore):
        return _Remote(remote_conn, "db", owned=False)
    else:
        raise TypeError(
            "remote_conn must be an S3Connection, a URL, a dict of parameters or a RemoteStore, "
            f"not {type(remote_conn).__name__}"
        )
    store, db_key = registry.remote_store(address.scheme)(address)
    folder = Path(address.path).parent if address.scheme == "file" else None
    return _Remote(store, db_key, address.scheme, folder, trusted)


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

    if isinstance(lock, str) and lock not in ("exclusive", "optimistic"):
        raise ValueError(f"lock must be 'exclusive', 'optimistic' or a LockService, not {lock!r}")
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


def _check_trust(serializer: Serializer, remote: _Remote | None, allow_pickle: bool | None) -> None:
    if serializer.safe or allow_pickle or remote is None or remote.trusted:
        return
    if allow_pickle is None and serializer.name == CUSTOM_NAME:
        return  # the caller's own class: they vouch for it by passing it
    raise SerializationError(
        f"values of this remote are serialised with {serializer.name!r}, which can run code, and "
        "it was opened without credentials; pass allow_pickle=True if you trust its author",
        op="open",
    )


def _author() -> str:
    """Who commits, for the history; nobody is named unless they ask for it."""
    return os.environ.get("EBOOKLET_AUTHOR", "")[:200]
