"""What the disk says, in words of the local file: full, or without the folder that was beside it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ebooklet.adapters.localfiles.beside import file_of, folder_beside
from ebooklet.errors import DiskFullError, EBookletError, LocalFileError

__all__ = ["FULL", "disk_full", "explained", "told"]

FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@contextlib.contextmanager
def explained(location: Path, *, was_open: bool = True) -> Iterator[None]:
    """Have what the disk refuses told in words of the file at `location`.

    Args:
        location: the file.
        was_open: whether the folder beside it has been there.

    Raises:
        DiskFullError: there is no room.
        LocalFileError: the folder beside the file is gone.
        OSError: anything else, as it is.
    """
    try:
        yield
    except OSError as exc:
        failure = told(exc, location, was_open=was_open)
        if failure is exc:
            raise
        raise failure from exc


def told(error: OSError, location: Path, *, was_open: bool = True) -> Exception:
    """The error to raise for one of the system's; itself, where there is nothing to add."""
    if isinstance(error, EBookletError):
        return error
    if error.errno in FULL:
        return disk_full(location, error.errno or 0, error.strerror or "")
    folder = folder_beside(location)
    removed = was_open and error.errno == errno.ENOENT
    if removed and location.exists() and not folder.exists():
        return LocalFileError(
            f"{folder} was removed while {location} was open, and with it the list of what is "
            "pending. Close the database and open it again: values that the file has and the remote "
            "has not, or has otherwise, are pending then; delete again what was deleted",
            op="write",
        )
    return error


def disk_full(location: Path, code: int, reason: str) -> DiskFullError:
    """The error for a file, or one in the folder beside it, that could not grow.

    Args:
        location: the file that did not.
        code: the errno.
        reason: its words.
    """
    location = file_of(location)
    return DiskFullError(
        f"{location} could not be written, as its disk is full ({reason}): make room, and call "
        "sync() before anything is closed, which keeps all that was set before",
        errno=code,
        filename=str(location),
        op="write",
    )
