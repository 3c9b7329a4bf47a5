"""Whether a local file is there, and in which condition it was found."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

from ebooklet.errors import LocalFileError

Signature: TypeAlias = tuple[int, int, int]
D = TypeVar("D")


class Finding(NamedTuple, Generic[D]):
    """What the look at a file that lay there told."""

    header: D
    condition: Literal["clean", "edited", "crashed"]
    sound: bool  # the library of its kind may be trusted with it
    foreign: bool  # the folder beside it belongs to another database
    signature: Signature


def signature(found: os.stat_result) -> Signature:
    """What tells whether a file is another one, or was written to: inode, size, time."""
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def is_there(location: Path) -> bool:
    """Whether there is anything; a file of no bytes counts as none.

    Raises:
        LocalFileError: it is not a file.
    """
    try:
        found = location.stat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise LocalFileError(f"{location} is not a file: choose another path", op="open")
    return found.st_size > 0


def require(location: Path) -> None:
    """Raise `FileNotFoundError` if there is no file."""
    if not is_there(location):
        raise FileNotFoundError(errno.ENOENT, "no such local database", str(location))
