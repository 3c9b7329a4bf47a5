"""Opening a database, or a connection group, for whoever names it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from ebooklet.adapters.clock import SystemClock
from ebooklet.bootstrap.arguments import Arguments, OpenOptions, Options, PathLike, spelled_out
from ebooklet.bootstrap.composing import compose
from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.bootstrap.locking import check_lock, lock_elsewhere
from ebooklet.bootstrap.places import place_opener
from ebooklet.bootstrap.remotes import Remote, resolve_remote
from ebooklet.bootstrap.serializing import accepted, serializer_name, serializer_of
from ebooklet.bootstrap.staging import WriterPlace
from ebooklet.core.encryption import EncryptionLike
from ebooklet.database import EBooklet
from ebooklet.group import RemoteConnGroup
from ebooklet.plugins.hooks import load_hooks
from ebooklet.services.closing import close_copy
from ebooklet.services.hooking import set_hooks
from ebooklet.services.localhalf import DEFAULT_BUFFER_SIZE, DEFAULT_N_BUCKETS
from ebooklet.services.opening import open_copy
from ebooklet.services.place import RemoteLike
from ebooklet.services.reopening import Mode, reopen_copy
from ebooklet.services.request import Flag
from ebooklet.services.working_copy import WorkingCopy


@overload
def open(  # noqa: A001 - as below
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    value_serializer: Any = None,
    n_buckets: int = DEFAULT_N_BUCKETS,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    *,
    remote_conn_group: Literal[True],
    **options: Unpack[OpenOptions],
) -> RemoteConnGroup: ...
@overload
def open(  # noqa: A001 - as below
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    value_serializer: Any = None,
    n_buckets: int = DEFAULT_N_BUCKETS,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    remote_conn_group: bool = False,
    **options: Unpack[OpenOptions],
) -> EBooklet[Any]: ...
@spelled_out
def open(  # noqa: A001 - the dbm name, as in the standard library
    remote_conn: RemoteLike | None,
    file_path: PathLike | None = None,
    flag: Flag = "r",
    value_serializer: Any = None,
    n_buckets: int = DEFAULT_N_BUCKETS,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    remote_conn_group: bool = False,
    **options: Unpack[OpenOptions],
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
        version: the commit to open, read-only: a tag, a branch, an id or its beginning, a seq, or a
            datetime. The handle stays at it, and its `file_path`, if any, is for it alone.
        branch: the branch to read, and to push to: one that `db.branch()` made. None goes on with
            the one that the local file is on, or begins with the default one.
        lock: "exclusive" holds the write lock while open; "optimistic" does not, and pushes that
            meet another's commit are merged; where the server cannot decide a race, each takes the
            lock for a moment. Which lock that is goes by what the server was found to keep; the
            name of a registered lock service, or a built LockService, takes its place, and then
            all writers have to name it.
        lock_timeout: seconds to wait for locks.
        force_lock: take the write lock from whoever holds it.
        local: name of the local store's kind, or a built LocalStore.
        offline: True makes no requests at all, and needs flag "r" and an existing local file.
            "auto" does the same, with a warning, where the remote cannot be reached; with flags
            "w" and "c" what is written then stays pending until the next open that reaches it.
        allow_pickle: whether pickled values are read from a remote opened without credentials.
            None: only if `value_serializer` names them.
        conflict: what a push does with keys changed on both sides: "error", "ours", "theirs", or a
            function of key, base, ours and theirs that returns the value to push. `ABSENT` stands
            for a deletion, in both directions; a base that is not known any more is `UNKNOWN`.
        encryption: the keys of an encrypted database: a `KeyFile`, an `Encryption`, or a function
            from key id to key. Where no database exists yet, one that is encrypted is made. None
            opens and creates plain ones.
        history: how much of the branch's past is retained: a number of commits, the newest
            included; an age, as a timedelta; "all"; or 0 for the newest only. Written with the next
            push, and kept for all writers until somebody says otherwise; older commits go with the
            next `gc`. None leaves it as it is, which is 10 commits and 30 days at first.
        group_bytes: an option of EBooklet 0.11, accepted and without effect, as are
            `push_packers` and `num_groups`, of which only None ever remained.
        push_packers: see `group_bytes`.
        num_groups: see `group_bytes`.
        plugins: hook plugins, which are told and asked before those that packages registered; see
            `ebooklet.plugins.hooks.HookSpecs`.
        clock: time and randomness, for tests and embedding.
        registry: where names and schemes are looked up.

    Returns:
        An EBooklet, or a RemoteConnGroup if that is what is stored there. Type checkers take
        `remote_conn_group=True` at its word; `open_rcg` makes sure of it.

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
        Arguments(
            *(remote_conn, file_path, flag, value_serializer, n_buckets, buffer_size),
            Options.of(options),
            type="group" if remote_conn_group else "database",
        )
    )


@spelled_out
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
        Arguments(
            *(remote_conn, file_path, flag, value_serializer, n_buckets, buffer_size),
            Options.of(options),
            type="database",
            only=True,
        )
    )


@spelled_out
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
        Arguments(
            *(remote_conn, file_path, flag, None, n_buckets, buffer_size),
            Options.of(options),  # a serializer is none of these: a group's is settled
            type="group",
            only=True,
        )
    )
    assert isinstance(group, RemoteConnGroup)  # noqa: S101  # anything else was refused
    return group


def _opened(given: Arguments) -> EBooklet[Any]:
    given.check()
    registry = given.options.registry or INSTALLED
    clock = given.options.clock or SystemClock()
    check_lock(given.options.lock, registry)
    explicit = None
    if given.type == "group":
        explicit = "json"
    elif given.value_serializer is not None:
        explicit = serializer_name(given.value_serializer)
        serializer_of(given.value_serializer, explicit, registry)  # no name at all is said at once
    if isinstance(given.options.local, str):
        registry.local_store(given.options.local)
    hooks = load_hooks(registry, given.options.plugins)
    remote = resolve_remote(given.remote_conn, registry, mirrored=True)
    try:
        _check_apart(given.file_path, remote)
        accept = partial(
            accepted,
            given=given.value_serializer,
            trusted=remote is None or remote.trusted,
            allow_pickle=given.options.allow_pickle,
            registry=registry,
        )
        request = compose(given, explicit, remote, clock, registry, accept)
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
    face = RemoteConnGroup if copy.settings.type == "group" else EBooklet

    def reopen(copy: WorkingCopy, flag: Mode) -> None:
        reopen_copy(copy, request, flag)

    elsewhere = place_opener(clock, registry, lock_elsewhere(given.options.lock))

    def writer_place(encryption: EncryptionLike | None) -> WriterPlace:
        keys = given.options.encryption if encryption is None else encryption
        return WriterPlace(given.remote_conn, keys, given.options.clock, given.options.registry)

    db: EBooklet[Any] = face(copy, serializer, elsewhere, reopen, writer_place)
    if (bound := hooks.bound_to(db)) is not None:
        set_hooks(copy, bound, given.flag)
    return db


def _check_apart(file_path: PathLike | None, remote: Remote | None) -> None:
    if remote is None or remote.folder is None or file_path is None:
        return
    head = remote.folder / remote.db_key
    if Path(file_path).resolve() == head.resolve():
        raise ValueError(f"file_path and the remote are the same file, {head}; choose another")
