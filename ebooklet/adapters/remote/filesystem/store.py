"""A remote store in a folder: of this machine, or of a network share with working locks.

Objects are plain files (`adapters.keypaths` says under which names) and files are never changed in
place, so readers need no lock. Writers take one lock per folder, across threads and processes.

Limits that the file system sets: where it folds case or normalises Unicode (macOS, Windows
shares), keys that differ only so are one file. Symbolic links below the root are never followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ebooklet.adapters.files import exclusive, read, sync_folder
from ebooklet.adapters.keypaths import HIDDEN_FOLDER, decode, encode
from ebooklet.adapters.objects import check_key, check_span, no_copy, read_part, same_etag
from ebooklet.adapters.remote.filesystem.tree import Elements, KeyTree
from ebooklet.adapters.urloptions import known_options
from ebooklet.connection import RemoteAddress
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    EBookletError,
    InvalidURLError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteUnavailable,
    StoreError,
)
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    IfAbsent,
    ObjectMeta,
    Origin,
    StoredObject,
)

__all__ = ["FilesystemRemoteStore", "open_store"]

_STALE_TEMPORARY_S: Final = 24 * 3600
_COARSEST_TICK_NS: Final = 2_000_000_000  # FAT's
_COPY_CHUNK: Final = 1 << 20
_REALM: Final = ("file",)
_DENIED: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_MAYBE: Final = frozenset((errno.EIO, errno.ETIMEDOUT, errno.ESTALE))  # of a network share
_BUSY: Final = frozenset((errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EMFILE))


class FilesystemRemoteStore:
    """Objects as files below `root`; puts are atomic, durable, and honour conditions.

    Args:
        root: an existing folder. Our lock and unfinished files live in `.ebooklet` inside it.

    Raises:
        BucketMissingError: no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        try:
            self._root = Path(root).resolve(strict=True)
        except (OSError, ValueError) as exc:
            raise BucketMissingError(
                f"folder {os.fspath(root)!r} does not exist: create it first", op="open"
            ) from exc
        if not self._root.is_dir():
            raise BucketMissingError(f"{os.fspath(root)!r} is not a folder", op="open")
        self._tree = KeyTree(self._root)
        self._hidden = self._root / HIDDEN_FOLDER
        self._temporary = self._hidden / "tmp"
        self._swept = False
        self._capabilities = Capabilities(
            conditional_put=True,
            server_side_copy=True,
            max_copy_bytes=1 << 62,
            ranges=True,
            writable=os.access(self._root, os.W_OK),
            max_put_bytes=1 << 62,
            shared=False,
        )

    def __repr__(self) -> str:
        return f"FilesystemRemoteStore({str(self._root)!r})"

    @property
    def location(self) -> str:
        """The folder, as a URL."""
        return self._root.as_uri()

    @property
    def endpoint(self) -> str:
        """The folder, as a URL: file systems differ."""
        return self.location

    @property
    def origin(self) -> Origin | None:
        """The folder, to every store of this machine."""
        return Origin(_REALM, str(self._root))

    @property
    def capabilities(self) -> Capabilities:
        """Everything the port knows; `writable` as the folder's permissions were at the start."""
        return self._capabilities

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        check_span(start, stop, key)
        with self._failures("get", key), self._opened(key, "get") as (file, meta):
            begin = min(start, meta.size)
            end = meta.size if stop is None else min(stop, meta.size)
            return StoredObject(read(file, begin, end, key), meta)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`; one after the other, which files need no threads for."""
        return (read_part(self, part) for part in ranges)

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`."""
        with self._failures("head", key), self._opened(key, "head") as (_, meta):
            return meta

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """See `RemoteStore.put`; durable when it returns. Files keep no headers."""
        check_key(key, "put")
        with self._failures("put", key), self._written(body) as temporary:
            return self._place(temporary, key, condition)

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`; folders left empty go too."""
        touched: set[Path] = set()
        for key in keys:
            check_key(key, "delete")
            with self._failures("delete", key), self._lock():
                if folder := self._tree.remove(key):
                    touched.add(folder)
        with self._failures("delete", None):
            for folder in touched:
                sync_folder(folder)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See `RemoteStore.list`; folder by folder, each read under the writers' lock."""
        components = prefix.split("/")[:-1]
        if any(part in ("", ".", "..") for part in components):
            return  # no key looks so, and a path that does would leave the root
        start = encode("/".join(components)) if components else []
        folders = [start]
        while folders:
            folder = folders.pop()
            with self._failures("list", prefix):
                metas, below = self._scan(folder)
            yield from (meta for meta in metas if meta.key.startswith(prefix) and meta.key > after)
            for deeper in below:
                begins = decode(deeper, folder=True) or ""
                if begins.startswith(prefix) or prefix.startswith(begins):
                    folders.append(deeper)

    def copies_from(self, origin: Origin | None) -> bool:
        """Every folder of this machine."""
        return origin is not None and origin.realm == _REALM

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """See `RemoteStore.copy`."""
        check_key(target, "copy")
        folder = self
        if origin is not None:
            if not self.copies_from(origin):
                raise no_copy(f"folder {str(self._root)!r}", source)
            folder = FilesystemRemoteStore(origin.container)
        with (
            folder._failures("copy", source),
            folder._opened(source, "copy") as (descriptor, _),
            os.fdopen(descriptor, "rb", closefd=False) as file,
        ):
            return self.put(target, file)

    def server_time_ms(self) -> int | None:
        """This machine's clock, the only one here."""
        return time.time_ns() // 1_000_000

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _lock(self) -> AbstractContextManager[None]:
        """Keep every other writer of this folder out, in this process and in all others."""
        return exclusive(self._root, self._hidden / "lock")

    # Reading.

    @contextmanager
    def _opened(self, key: str, op: str) -> Iterator[tuple[int, ObjectMeta]]:
        """The object's file and what it is; the file stays the same version whatever happens."""
        file = self._tree.opened(check_key(key, op))
        if file is None:
            raise ObjectNotFound(f"no such object in {self.location}", op=op, key=key)
        try:
            yield file, _meta(key, os.fstat(file))
        finally:
            os.close(file)

    def _scan(self, elements: Elements) -> tuple[Sequence[ObjectMeta], Sequence[Elements]]:
        """Objects and folders right below one folder; nothing where it does not exist."""
        # A scan without the lock could meet an object under both of its names, or neither. Where
        # we may not write we cannot lock either; tolerate that much there.
        with self._lock() if self._capabilities.writable else contextlib.nullcontext():
            found, below = self._tree.scan(elements)
        return [_meta(key, each) for key, each in found], below

    # Writing.

    @contextmanager
    def _written(self, body: Body | BinaryIO) -> Iterator[Path]:
        """The body in a durable file of its own, removed afterwards unless it was moved."""
        self._hidden.mkdir(exist_ok=True)  # not its parents: a removed root stays removed
        self._temporary.mkdir(exist_ok=True)
        self._sweep()
        path = self._temporary / secrets.token_hex(16)
        try:
            with path.open("xb") as file:
                if isinstance(body, (bytes, bytearray, memoryview)):
                    file.write(body)
                else:
                    shutil.copyfileobj(body, file, _COPY_CHUNK)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _place(self, temporary: Path, key: str, condition: Condition | None) -> ObjectMeta:
        """Give a finished file its key, if the condition holds."""
        with self._lock():
            # Before a folder is made: a refused put leaves nothing behind.
            found = self._tree.stat(key)
            if condition is not None:
                _check(condition, found, key)
            with self._tree.slot(key) as (folder, name):
                _stamp(temporary, found)
                try:
                    os.rename(temporary, name, dst_dir_fd=folder)
                except OSError as exc:
                    if exc.errno not in _MAYBE:
                        raise
                    raise OutcomeUnknown(
                        "no answer from the file system: the write may have happened",
                        op="put",
                        key=key,
                    ) from exc
                try:
                    meta = _meta(key, os.stat(name, dir_fd=folder, follow_symlinks=False))
                    os.fsync(folder)
                except OSError as exc:
                    raise OutcomeUnknown(
                        "written, but perhaps not durable: the folder cannot be synchronised",
                        op="put",
                        key=key,
                    ) from exc
        return meta

    def _sweep(self) -> None:
        """Once: remove what writers killed long ago had not finished."""
        if self._swept:
            return
        self._swept = True
        oldest = time.time() - _STALE_TEMPORARY_S
        with contextlib.suppress(OSError):
            for path in self._temporary.iterdir():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()

    @contextmanager
    def _failures(self, op: str, key: str | None) -> Iterator[None]:
        """Turn the system's errors into ours; anything but `OutcomeUnknown` wrote nothing."""
        try:
            yield
        except OSError as exc:
            if isinstance(exc, EBookletError):
                raise
            where = f"folder {str(self._root)!r}"
            reason = exc.strerror or type(exc).__name__
            if exc.errno in _DENIED:
                raise AccessDenied(
                    f"{where}: {reason}; check its permissions", op=op, key=key
                ) from exc
            if not self._root.is_dir():
                raise BucketMissingError(f"{where} has been removed", op=op, key=key) from exc
            kind = RemoteUnavailable if exc.errno in _BUSY else StoreError
            raise kind(f"{where}: {reason}", op=op, key=key) from exc


def _meta(key: str, found: os.stat_result) -> ObjectMeta:
    return ObjectMeta(key, found.st_size, _etag(found), found.st_mtime_ns // 1_000_000)


def _etag(found: os.stat_result) -> str:
    return f'"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"'


def _stamp(temporary: Path, replaced: os.stat_result | None) -> None:
    """Make the file's time differ from that of the one it replaces, so that the ETag does.

    Two writes can fall in one tick of the clock, and the file after next may get the same inode.
    """
    now = time.time_ns()
    if replaced is None:
        os.utime(temporary, ns=(now, now))
        return
    last = replaced.st_mtime_ns
    for wanted in (max(now, last + 1), last + _COARSEST_TICK_NS):
        os.utime(temporary, ns=(wanted, wanted))
        if temporary.stat().st_mtime_ns > last:
            return


def _check(condition: Condition, found: os.stat_result | None, key: str) -> None:
    if isinstance(condition, IfAbsent):
        if found is not None:
            raise PreconditionFailed("object already exists", op="put", key=key)
    elif found is None:
        raise PreconditionFailed("object to be replaced does not exist", op="put", key=key)
    elif not same_etag(condition, _etag(found)):
        raise PreconditionFailed("object changed since it was read", op="put", key=key)


def open_store(address: RemoteAddress) -> tuple[FilesystemRemoteStore, str]:
    """Open `file:///folder/db`: the store is the folder, which must exist, the key is `db`.

    Raises:
        InvalidURLError: the URL names another host or no database, or has options.
        BucketMissingError: the folder does not exist.
    """
    if address.netloc not in ("", "localhost"):
        raise InvalidURLError(f"{address}: a file URL has three slashes, as in file:///folder/db")
    known_options(address)
    path = Path(address.path)
    if not path.name:
        raise InvalidURLError(f"{address}: the URL must end in the database's name")
    return FilesystemRemoteStore(path.parent), path.name
