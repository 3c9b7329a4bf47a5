"""Files below a folder, by descriptors that follow no link, and a lock on the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import fasteners

from ebooklet.errors import RemoteIntegrityError, RemoteUnavailable

__all__ = [
    "ABSENT",
    "FOLDER_FLAGS",
    "exclusive",
    "file_type",
    "open_regular",
    "read",
    "sync_folder",
]

_LOCK_WAIT_S: Final = 60
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO that somebody left here would wait for ever.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
ABSENT: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR))

# The lock of a file belongs to the whole process and dies with the first handle closed, so the
# threads of a process must take turns before it.
_turns: dict[Path, threading.Lock] = {}
_turns_lock = threading.Lock()


def _forget_turns() -> None:
    """A fork may copy a lock that some thread of the parent holds, and nobody here releases."""
    global _turns_lock
    _turns_lock = threading.Lock()
    _turns.clear()


os.register_at_fork(after_in_child=_forget_turns)


@contextmanager
def exclusive(folder: Path, lock_file: Path) -> Iterator[None]:
    """Keep all others out who ask for the same folder, in this process and in all others.

    Args:
        folder: the resolved folder; threads of this process take turns by it.
        lock_file: made if need be, in a folder that is made if need be.

    Raises:
        RemoteUnavailable: somebody held it for a minute.
    """
    with _turns_lock:
        turn = _turns.setdefault(folder, threading.Lock())
    with turn:
        lock_file.parent.mkdir(exist_ok=True)
        lock = fasteners.InterProcessLock(str(lock_file))
        if not lock.acquire(delay=0.001, max_delay=0.02, timeout=_LOCK_WAIT_S):
            raise RemoteUnavailable(
                f"the lock of folder {str(folder)!r} was held for {_LOCK_WAIT_S} s: "
                "another process hangs in it"
            )
        try:
            yield
        finally:
            lock.release()


def open_regular(name: str, folder: int) -> int | None:
    """Open a file of an open folder; None where there is none, or a link or a device."""
    try:
        file = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except OSError as exc:
        if exc.errno in ABSENT or exc.errno == errno.ENXIO:  # ENXIO: a socket
            return None
        raise
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    return None


def read(file: int, start: int, stop: int, key: str) -> bytes:
    """Read bytes [start, stop), which the file has; `RemoteIntegrityError` if it shrank."""
    if stop <= start:
        return b""
    body = os.pread(file, stop - start, start)
    if len(body) == stop - start:
        return body
    parts = [body]
    done = start + len(body)
    while body and done < stop:  # one call gives 2 GiB at most
        body = os.pread(file, stop - done, done)
        parts.append(body)
        done += len(body)
    if done != stop:
        raise RemoteIntegrityError("file shrank while it was read", op="get", key=key)
    return b"".join(parts)


def file_type(name: str, folder: int) -> int:
    """The file type bits of a name in a folder, 0 where there is nothing."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return stat.S_IFMT(found.st_mode)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable, if it still exists."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, FOLDER_FLAGS)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
