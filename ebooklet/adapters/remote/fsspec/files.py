"""The requests of a folder of any of fsspec's file systems, through its public methods alone.

A file system that can rename gets bodies under a name of their own first, so that a reader sees
the old one or the new one. One that cannot is taken for an object store, whose writes are whole.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from fsspec import AbstractFileSystem

from ebooklet.adapters.keypaths import HIDDEN_FOLDER, decode, encode
from ebooklet.adapters.objects import no_copy, quoted
from ebooklet.adapters.outgoing import MAX_PUT_BYTES, PART_BYTES, Outgoing
from ebooklet.adapters.s3failures import Effect, lost
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    EBookletError,
    ObjectNotFound,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)
from ebooklet.ports.remote_store import (
    Capabilities,
    Condition,
    ObjectMeta,
    Origin,
    StoredObject,
)

__all__ = ["FileRequests"]

_ETAGS: Final = ("ETag", "etag", "e_tag")
_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


@dataclass(frozen=True)
class Folder:
    """A folder, from which nothing is copied."""

    location: str
    shared: bool  # whether other machines can reach it

    @property
    def endpoint(self) -> str:
        """The folder itself: nothing is ever probed here."""
        return self.location

    @property
    def origin(self) -> Origin | None:
        """None: nothing copies from here."""
        return None

    @property
    def capabilities(self) -> Capabilities:
        """What all of fsspec's file systems can be asked for."""
        return Capabilities(
            conditional_put=False,
            server_side_copy=False,
            max_copy_bytes=0,
            ranges=True,
            writable=True,
            max_put_bytes=MAX_PUT_BYTES,
            shared=self.shared,
        )

    def copies_from(self, origin: Origin | None) -> bool:
        """No: there is no such request."""
        return False


class FileRequests:
    """See `ebooklet.adapters.requests.Requests`.

    Args:
        open_file_system: makes the file system.
        root: the folder in it.
        location: the folder as a URL, for messages.
        shared: whether other machines can reach the same folder.
    """

    def __init__(
        self,
        open_file_system: Callable[[], AbstractFileSystem],
        root: str,
        *,
        location: str,
        shared: bool,
    ) -> None:
        self._open = open_file_system
        self._root = root.rstrip("/")
        self._location = location
        self._lock = threading.Lock()
        self._opened: tuple[int, AbstractFileSystem] | None = None
        self._turn = threading.RLock()
        self.place = Folder(location, shared)

    def get(self, key: str, start: int, stop: int | None) -> StoredObject:
        """What the file is, then its bytes: a body may be newer than its ETag, never older."""
        with self._named("get", key, Effect.READ) as file_system:
            path = self._path(key)
            meta = _meta(key, _file(file_system.info(path)))
            end = meta.size if stop is None else min(stop, meta.size)
            begin = min(start, end)
            if begin == end:
                return StoredObject(b"", meta)
            whole = begin == 0 and end == meta.size
            body = bytes(
                file_system.cat_file(path)
                if whole
                else file_system.cat_file(path, start=begin, end=end)
            )
        if len(body) != end - begin:
            raise RemoteUnavailable(
                "the file changed while it was read: try again", op="get", key=key
            )
        return StoredObject(body, meta)

    def head(self, key: str) -> ObjectMeta:
        """What the file is."""
        with self._named("head", key, Effect.READ) as file_system:
            return _meta(key, _file(file_system.info(self._path(key))))

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectMeta]:
        """Folder by folder, those only in which names can begin so."""
        folders = [encode(prefix.rpartition("/")[0]) if "/" in prefix else []]
        while folders:
            folder = folders.pop()
            for entry in self._entries(folder, prefix):
                name = str(entry["name"]).rstrip("/").rpartition("/")[2]
                path = [*folder, name]
                if entry["type"] == "directory":
                    begins = decode(path, folder=True) or ""
                    if path != [HIDDEN_FOLDER] and (
                        begins.startswith(prefix) or prefix.startswith(begins)
                    ):
                        folders.append(path)
                elif (key := decode(path, folder=False)) is not None:
                    yield _meta(key, entry)

    def put(
        self, key: str, body: Outgoing, condition: Condition | None, cache_control: str | None
    ) -> ObjectMeta:
        """Write the body whole; files keep no headers."""
        if condition is not None:
            raise UnsupportedOperation(
                f"fsspec has no way to send a condition to {self._location}", op="put", key=key
            )
        self._write(key, body)
        return self.head(key)

    def put_in_parts(self, key: str, body: Outgoing, cache_control: str | None) -> None:
        """Write a large body piece by piece."""
        self._write(key, body)

    def delete(self, key: str) -> None:
        """Remove the file; folders stay."""
        with (
            contextlib.suppress(ObjectNotFound),
            self._named("delete", key, Effect.WRITE) as file_system,
        ):
            path = self._path(key)
            _file(file_system.info(path))  # never a folder, whatever the library takes
            file_system.rm_file(path)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Not known here."""
        raise UnsupportedOperation("files are removed one by one", op="delete", key=keys[0])

    def copy(self, source: str, target: str, container: str | None) -> NoReturn:
        """Refuse: the bytes of a copy would pass through here."""
        raise no_copy(self._location, source)

    def server_time_ms(self) -> int | None:
        """Never known: files tell when they were written, not what time it is."""
        return None

    def close(self) -> None:
        """Forget the file system, which closes its connections when nobody else uses it."""
        with self._lock:
            self._opened = None

    # Paths and writing.

    def _path(self, key: str) -> str:
        return "/".join([self._root, *encode(key)])

    def _entries(self, folder: Sequence[str], prefix: str) -> Sequence[dict[str, Any]]:
        """What lies right in a folder; nothing where there is none."""
        path = "/".join([self._root, *folder])
        try:
            with self._named("list", prefix, Effect.READ) as file_system:
                file_system.invalidate_cache()
                found = file_system.ls(path, detail=True)
                return [
                    entry for entry in found if str(entry["name"]).strip("/") != path.strip("/")
                ]
        except ObjectNotFound:
            return ()

    def _write(self, key: str, body: Outgoing) -> None:
        with self._named("put", key, Effect.WRITE) as file_system:
            target = self._path(key)
            if not _renames(file_system):
                _fill(file_system, target, body)
                return
            if file_system.isdir(target):  # a move would go into it
                raise StoreError("a folder has this object's name", op="put", key=key)
            temporary = "/".join([self._root, HIDDEN_FOLDER, "tmp", secrets.token_hex(16)])
            self._in_folder(file_system, temporary, lambda: _fill(file_system, temporary, body))
            try:
                self._in_folder(file_system, target, lambda: file_system.mv(temporary, target))
            except BaseException:
                with contextlib.suppress(Exception):  # the failure of the move says more
                    file_system.rm_file(temporary)
                raise

    def _in_folder(
        self, file_system: AbstractFileSystem, path: str, act: Callable[[], object]
    ) -> None:
        """Do something to a path, after making its folder if that is missing."""
        try:
            act()
        except FileNotFoundError:
            if not file_system.isdir(self._root):
                raise BucketMissingError(
                    f"folder {self._location} does not exist: create it first", op="put"
                ) from None
            file_system.makedirs(path.rpartition("/")[0], exist_ok=True)
            act()

    @contextmanager
    def _named(self, op: str, key: str, effect: Effect) -> Iterator[AbstractFileSystem]:
        """The file system, whose failures become the port's; each library has its own."""
        where = self._location
        try:
            file_system = self._file_system()
            # paramiko, ftplib and their like mix up the answers to two threads.
            with contextlib.nullcontext() if file_system.async_impl else self._turn:
                yield file_system
        except EBookletError as exc:
            exc.op, exc.key = exc.op or op, exc.key or key
            raise
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
            if effect is Effect.WRITE and op == "put":
                raise StoreError(
                    f"a file or folder in {where} is in the way", op=op, key=key
                ) from exc
            raise ObjectNotFound(f"no such object in {where}", op=op, key=key) from exc
        except PermissionError as exc:
            raise AccessDenied(
                f"{where} refused access: check the keys and permissions", op=op, key=key
            ) from exc
        except NotImplementedError as exc:
            raise UnsupportedOperation(
                f"this file system of fsspec cannot {op}", op=op, key=key
            ) from exc
        except (ValueError, TypeError) as exc:
            raise StoreError(
                f"{where} cannot be used so ({type(exc).__name__})", op=op, key=key
            ) from exc
        except Exception as exc:  # of libraries that nobody here has heard of
            self.close()  # a lost connection would stay lost
            what = f"no clear answer ({type(exc).__name__})"
            raise lost(what, op=op, key=key, where=where, effect=effect) from exc

    def _file_system(self) -> AbstractFileSystem:
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = os.getpid(), self._open()
            return self._opened[1]


def _renames(file_system: AbstractFileSystem) -> bool:
    return type(file_system).mv is not AbstractFileSystem.mv


def _fill(file_system: AbstractFileSystem, path: str, body: Outgoing) -> None:
    """Write a body; where it breaks off, an object store keeps nothing of it."""
    if body.size <= PART_BYTES or _renames(file_system):
        with file_system.open(path, "wb") as file:
            for _, part in body.parts():
                file.write(part)
        return
    file = file_system.open(path, "wb", autocommit=False)
    try:
        for _, part in body.parts():
            file.write(part)
        file.close()
    except BaseException:
        file.discard()
        raise
    file.commit()


def _file(info: dict[str, Any]) -> dict[str, Any]:
    if info["type"] == "directory":
        raise FileNotFoundError("a folder is no object")
    return info


def _meta(key: str, info: dict[str, Any]) -> ObjectMeta:
    size = int(info["size"] or 0)
    when = next((info[name] for name in _TIMES if info.get(name) is not None), 0)
    seconds = when.timestamp() if isinstance(when, datetime) else when
    seconds = float(seconds) if isinstance(seconds, (int, float)) else 0.0
    given = next((info[name] for name in _ETAGS if info.get(name)), None)
    # Not every file system tells more of a version than this.
    etag = str(given or f"{seconds:.9f}-{info.get('ino', '')}-{size}")
    return ObjectMeta(key, size, quoted(etag), int(seconds * 1000))
