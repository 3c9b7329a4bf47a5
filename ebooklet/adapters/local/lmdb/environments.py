"""LMDB environments of one file each, shared within the process and closed in forked children.

LMDB allows a file to be open once in a process, so readers share what is open. It is opened
without LMDB's own locks: `flock` on the file keeps a writer apart from readers, as for Booklets,
and binds no transaction to a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb

from ebooklet.adapters.localfiles.diskfailures import FULL, disk_full
from ebooklet.errors import LocalFileError

# Held over a fork, so that no transaction is half done; reentrant, as collecting garbage closes.
FORKING: Final = threading.RLock()
LEAST_MAP: Final = 1 << 26  # bytes of address space, not of the disk
_N_TABLES: Final = 8
_NO_ROOM: Final = 1 << 20  # bytes that are free where LMDB could write only a part of a transaction
_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, "little")
_MAGIC_AT: Final = (16, 24)  # byte positions in the files of LMDB 0.9 and 1.0


class Shared:
    """An open environment, and how many have it."""

    __slots__ = ("environment", "place", "users")

    def __init__(self, environment: lmdb.Environment, place: tuple[int, int]) -> None:
        self.environment = environment
        self.place = place
        self.users = 1


_shared: dict[tuple[int, int], Shared] = {}  # by device and inode


def looks_like_lmdb(raw: bytes) -> bool:
    """Whether these first bytes of a file are those of an LMDB file."""
    return any(raw[at : at + 4] in (_MAGIC, _MAGIC[::-1]) for at in _MAGIC_AT)


def opened(path: Path, fd: int, *, writable: bool) -> Shared | None:
    """Open the environment that `fd`, which is locked, is a descriptor of.

    Returns:
        None when the path leads to another file by now.
    """
    with FORKING:
        found = os.fstat(fd)
        place = (found.st_dev, found.st_ino)
        shared = _shared.get(place)
        if shared is not None:
            shared.users += 1
            return shared
        with translated(path, "open"):
            environment = lmdb.open(
                str(path),
                subdir=False,
                readonly=not writable,
                create=False,
                lock=False,
                # A power cut may undo the last transaction, as long as nobody has synced the file.
                metasync=False,
                max_dbs=_N_TABLES,
                map_size=max(LEAST_MAP, 2 * found.st_size) if writable else 1,
            )
        named = path.stat()
        if (named.st_dev, named.st_ino) != place:
            environment.close()
            return None
        shared = _shared[place] = Shared(environment, place)
        return shared


def made(path: Path) -> lmdb.Environment:
    """Make a new file; to be closed by the caller, before another process may see it."""
    with translated(path, "create"):
        return lmdb.open(
            str(path),
            subdir=False,
            lock=False,
            max_dbs=_N_TABLES,
            map_size=LEAST_MAP,
            mode=0o666,
        )


def given_back(shared: Shared) -> None:
    """Close the environment, if nobody else has it."""
    with FORKING:
        shared.users -= 1
        if shared.users == 0 and _shared.pop(shared.place, None) is shared:
            shared.environment.close()


@contextlib.contextmanager
def translated(path: Path, op: str, key: str | None = None) -> Iterator[None]:
    """Turn LMDB's failures into ours; the original stays as `__cause__`."""
    try:
        yield
    except lmdb.Error as exc:
        raise failure(exc, path, op, key) from exc
    except UnicodeDecodeError as exc:
        raise LocalFileError(
            f"{path} holds a key that is no text, {exc.object[:100]!r}: delete it with LMDB", op=op
        ) from exc


def failure(error: lmdb.Error, path: Path, op: str, key: str | None = None) -> LocalFileError:
    """What a failure of LMDB is to a caller of ours."""
    said = str(error)
    code = next((one for one in FULL if os.strerror(one) in said), 0)
    # Of a write that was cut short by a full disk LMDB says the same as of a broken one.
    if not code and os.strerror(errno.EIO) in said:
        with contextlib.suppress(OSError):
            code = errno.ENOSPC if shutil.disk_usage(path.parent).free < _NO_ROOM else 0
    if code:
        return disk_full(path, code, os.strerror(code))
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)):
        remedy = "it is damaged: remove it, and what was pushed comes back from the remote"
    elif isinstance(error, lmdb.MemoryError):
        remedy = "there is no address space left for it: raise the limit (ulimit -v)"
    else:
        remedy = "see that its disk has room and no other program has it open in LMDB"
    return LocalFileError(f"{path}: LMDB says {error}; {remedy}", op=op, key=key)


def _let_go() -> None:
    """In a forked child: close what the parent has open, which touches nothing of the parent's.

    Left open, the same file could not be opened here.
    """
    for shared in _shared.values():
        with contextlib.suppress(lmdb.Error):
            shared.environment.close()
    _shared.clear()
    FORKING.release()


os.register_at_fork(before=FORKING.acquire, after_in_parent=FORKING.release, after_in_child=_let_go)
