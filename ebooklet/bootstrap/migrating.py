"""Moving a database of EBooklet 0.11 into a new one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.scratch import Scratch
from ebooklet.bootstrap.arguments import Arguments, Options, PathLike
from ebooklet.bootstrap.composing import compose
from ebooklet.bootstrap.installed import INSTALLED
from ebooklet.bootstrap.places import place_opener
from ebooklet.bootstrap.remotes import ENTRY_FIELD, Remote, connection_of, resolve_remote
from ebooklet.bootstrap.serializing import serializer_name, serializer_of
from ebooklet.connection import DEFAULT_THREADS, S3Connection
from ebooklet.core.encryption import EncryptionLike
from ebooklet.core.numbers import check_seconds
from ebooklet.core.serializer_names import CUSTOM_NAME, split_name
from ebooklet.errors import SerializationError
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.services.localhalf import DEFAULT_N_BUCKETS
from ebooklet.services.lockchoice import DEFAULT_LOCK_TIMEOUT_S
from ebooklet.services.migration.gathering import Wishes
from ebooklet.services.migration.migrate import check_apart, check_target
from ebooklet.services.migration.migrate import migrate as run_migration
from ebooklet.services.migration.olddatabase import OldDatabase
from ebooklet.services.migration.remote import OldRemote
from ebooklet.services.migration.report import MigrationReport
from ebooklet.services.place import RemoteLike

_BUFFER_BYTES: Final = 1 << 20  # beside the values in flight, which count more


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
    encryption: EncryptionLike | None = None,
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
        encryption: makes the new database an encrypted one, as for `open`.
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
    check_seconds("lock_timeout", lock_timeout)
    registry = registry or INSTALLED
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
        with place_opener(clock, registry)(new) as place:
            if old_remote is not None:
                check_apart(place, old_remote.store, old_remote.db_key)
            check_target(place, local_exists=begun)
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
        given = Arguments(
            remote_conn=new,
            file_path=file_path,
            flag="c",
            value_serializer=None,
            n_buckets=max(DEFAULT_N_BUCKETS, database.expected_keys * 8 // 7 + 1),
            buffer_size=_BUFFER_BYTES,
            options=Options(lock_timeout=lock_timeout, encryption=encryption),
            type=database.type or ("group" if remote_conn_group else "database"),
        )
        given.check()
        new_remote = resolve_remote(new, registry)
        if new_remote is not None and new_remote.owned:
            stack.callback(new_remote.store.close)
        # Values are only carried: nothing is decoded, so nothing has to be installed for it.
        request = compose(given, name, new_remote, clock, registry, accept=lambda _: None)
        threads = old.threads if isinstance(old, S3Connection) else DEFAULT_THREADS
        wishes = Wishes(
            apply_pending=apply_pending, strict=strict, message=message or "", threads=threads
        )
        return run_migration(database, request, wishes)


def _resolve_old(old: RemoteLike, registry: Registry) -> Remote:
    """The place of a database of 0.11, which only some adapters can show whole."""
    by_entry = isinstance(old, Mapping) and ENTRY_FIELD in old
    if isinstance(old, Mapping):
        old = connection_of(old)
    if isinstance(old, S3Connection) and old.has_credentials:
        old = replace(old, driver="boto3", db_url=None)
    remote = resolve_remote(old, registry)
    if remote is not None and by_entry:
        remote = replace(remote, trusted=False)
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
    old: Remote | None,
    allow_pickle: bool | None,
    registry: Registry,
) -> None:
    """Values are carried as they are, so their serializer is too."""
    if name == CUSTOM_NAME:
        serializer_of(given, name, registry)
        return
    if given is not None and serializer_name(given) != name:
        raise ValueError(
            f"the old database's values are serialised with {name!r} and carried as they are; "
            "leave value_serializer out"
        )
    allowed = given is not None if allow_pickle is None else allow_pickle  # decision 0018
    if old is None or old.trusted or allowed or split_name(name)[0].word != "pickle":
        return
    raise SerializationError(
        f"values of the old remote are serialised with {name!r}, which can run code, and in the "
        "new place they would be trusted; if you trust their author, pass allow_pickle=True, or "
        "name that serializer as value_serializer",
        op="migrate",
    )
