"""What is there and is not what an open is asked for, refused before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ebooklet.core.advance import FIRST_BRANCH
from ebooklet.core.head import MAGIC_BYTES, DatabaseType, looks_like_head
from ebooklet.core.names import is_segment_key, segment_prefix
from ebooklet.errors import (
    EBookletError,
    OfflineError,
    ReadOnlyError,
    RemoteMissingError,
    UnknownVersionError,
    UnsupportedFormatError,
    UUIDMismatchError,
)
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.founding import check_joins, is_founder
from ebooklet.services.lastplace import LastPlace
from ebooklet.services.localhalf import LocalHalf, OpenHalf
from ebooklet.services.refs import find_branch
from ebooklet.services.request import Request
from ebooklet.services.snapshot import Snapshot


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


def check_exists(request: Request, current: Snapshot | None) -> None:
    """Refuse to open what is nowhere, unless the flag creates it.

    Raises:
        OfflineError: there is no local half, and nobody else may be asked.
        RemoteMissingError: flag r or w, and neither half exists.
    """
    if request.open_half.exists:
        return
    if request.settings.offline:
        raise OfflineError(
            "there is no local file to serve from, and the database was opened offline",
            op="open",
            key=request.db_key,
        )
    if current is None and request.flag in ("r", "w"):
        remote = request.remote
        if remote is None:
            raise RemoteMissingError(
                f"there is no database at {_path(request.open_half)}, and no remote was given; "
                "check the path, or create one with flag 'c'",
                op="open",
            )
        where = f"{remote.location}/{request.db_key}"
        remedy = "flag 'c' creates one" if remote.capabilities.writable else "check the URL"
        if _has_segments(remote, request.db_key):
            remedy = (
                "but segments of one are there: its head was lost, or its deletion was not "
                "finished. Where it was lost, fsck makes a new one (rescue); flag 'c' would begin "
                "another database in its place"
            )
        raise RemoteMissingError(
            f"there is no database at {where}, and no local file either; {remedy}",
            op="open",
            key=request.db_key,
        )


def _path(half: OpenHalf) -> str:
    path = half.path if isinstance(half, LocalHalf) else None
    return "no path" if path is None else repr(str(path))


@contextmanager
def naming_rescue(request: Request) -> Iterator[None]:
    """Where what stands in the head's place is none, and segments lie beside it, say the remedy.

    Raises:
        UnsupportedFormatError: in place of the one that only says what the object is not.
    """
    try:
        yield
    except UnsupportedFormatError as exc:
        remote, key = request.remote, request.db_key
        if remote is None or not _is_foreign(remote, key) or not _has_segments(remote, key):
            raise
        raise UnsupportedFormatError(
            f"what stands at {remote.location}/{key} is no head, and segments of a database lie "
            "beside it. If something was written over the head, restore an older version of that "
            "object. Where there is none, delete it, and run `ebooklet fsck URL --rescue`, which "
            "makes a new head of what the segments tell",
            op="open",
            key=key,
        ) from exc


def _is_foreign(remote: RemoteStore, db_key: str) -> bool:
    try:
        return not looks_like_head(remote.get(db_key, stop=MAGIC_BYTES).body)
    except EBookletError:
        return False


def _has_segments(remote: RemoteStore, db_key: str) -> bool:
    """Whether segments lie beside a head that is not there; False where that cannot be told."""
    try:
        listed = remote.list(segment_prefix(db_key))
        return any(is_segment_key(db_key, meta.key) for meta in listed)
    except EBookletError:
        return False


def check_head(request: Request, current: Snapshot | None) -> None:
    """Refuse a remote that is not what the caller asks for, or cannot be opened this way.

    Raises:
        TypeError: it is stored as the other type, and `only` one will do.
        ValueError: another serializer is asked for than it has.
        UnsupportedFormatError: this version may not write it.
        SerializationError: its values may not be read.
        EncryptionError: it is encrypted and cannot be opened by the caller's keys, or it is not.
        UnknownVersionError: the branch that is asked for is not there.
    """
    _check_branch(request, current)
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
    if request.flag != "r":
        current.head.require_writable("open", "this database", request.db_key)


def _check_branch(request: Request, current: Snapshot | None) -> None:
    branch = request.settings.branch
    if branch is None:
        return
    if current is not None:
        find_branch(current.head, branch, request.db_key)
    elif branch != FIRST_BRANCH and not request.settings.offline:
        raise UnknownVersionError(
            f"there is no branch {branch!r}, as there is no database yet: the first push makes "
            f"{FIRST_BRANCH!r}, and branch() the others",
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


def check_same(request: Request, local: LocalStore, current: Snapshot) -> None:
    """Refuse halves that belong to different databases, unless the local one is about to join.

    Raises:
        UUIDMismatchError: they do.
        EncryptionError: see `founding.check_joins`.
    """
    if local.uuid == current.head.uuid:
        return
    here = LastPlace(local, request.remote, request.db_key).here
    if request.flag in ("w", "c") and is_founder(local, here):
        check_joins(local, current.head)
        return
    raise UUIDMismatchError(
        f"{local.location} belongs to database {local.uuid}, the remote is "
        f"{current.head.uuid}; nothing was changed. Use another file_path",
        op="open",
        key=request.db_key,
    )
