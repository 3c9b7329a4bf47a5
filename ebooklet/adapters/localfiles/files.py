"""Files replaced in one step, and made durable."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Final

from ebooklet.errors import LocalFileError

TEMPORARY: Final = "tmp-"
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def temporary_path(folder: Path) -> Path:
    """A path in `folder` that nothing else uses."""
    return folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, or take back what was written of it and raise `OSError`."""
    done = os.write(fd, data)
    if done < len(data):
        write_rest(fd, data, done)


def write_rest(fd: int, data: bytes | bytearray, done: int) -> None:
    """Go on where a write has stopped after `done` bytes of `data`.

    What was written at the end of the file is taken back when no more goes in, or others would be
    written behind a torn part of it.

    Raises:
        OSError: as when the disk is full.
    """
    with memoryview(data) as view:  # let go of, or a traceback would keep a bytearray from growing
        try:
            while done < len(view):
                done += os.write(fd, view[done:])
        except OSError:
            end = os.lseek(fd, 0, os.SEEK_CUR)
            if end == os.fstat(fd).st_size:
                os.ftruncate(fd, end - done)
            raise


def replace_file(path: Path, data: bytes, scratch: Path) -> None:
    """Give `path` new content, atomically and durably.

    Args:
        path: the file.
        data: its new content.
        scratch: folder on the same file system for the unfinished file.
    """
    unfinished = temporary_path(scratch)
    fd = os.open(unfinished, _CREATE, 0o666)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    fd = os.open(path, _READ)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_file(path: Path, limit: int) -> bytes | None:
    """Content of a file; None when there is none.

    Raises:
        LocalFileError: it is a link, has more than `limit` bytes, or may not be read.
    """
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as exc:
        reason = "is a symbolic link" if exc.errno == errno.ELOOP else f"is not readable: {exc}"
        raise LocalFileError(f"{path} {reason}; correct or remove it", op="read") from None
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise LocalFileError(
                f"{path} has {size} bytes, which is too much; remove it", op="read"
            )
        parts: list[bytes] = []
        left = size
        while left > 0:
            part = os.read(fd, left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)
