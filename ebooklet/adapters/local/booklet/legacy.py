"""A local file of EBooklet 0.11, read where it lies and never written to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from ebooklet.adapters.local.booklet.inspection import Salvage
from ebooklet.adapters.local.booklet.layout import (
    HEADER_BYTES,
    RESERVED,
    Header,
    parse_header,
    value_at,
)
from ebooklet.adapters.localfiles.beside import folder_beside
from ebooklet.adapters.localfiles.gate import Waiting
from ebooklet.core.closeable import Closeable
from ebooklet.core.legacy.block import StoredBlock
from ebooklet.errors import LocalFileError, LockTimeout
from ebooklet.ports.clock import Clock

__all__ = ["LegacyLocalFile"]

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_SIDE: Final = ".remote_index"
_READ: Final = 1 << 30  # bytes of one system call


class LegacyLocalFile(Closeable):
    """The file and the index beside it, held with Booklet's own shared lock until `close`.

    Blocks are found one by one, by the hashes of their keys, so that a file whose last writer was
    killed gives all that is whole in it.

    Args:
        path: the file.
        clock: for the wait.
        lock_timeout: seconds to wait for a program that writes to it.

    Raises:
        FileNotFoundError: there is none.
        LocalFileError: it is no Booklet that EBooklet could have made, or one of this version.
        LockTimeout: a program kept it open for writing.
    """

    def __init__(self, path: Path, *, clock: Clock, lock_timeout: float) -> None:
        self._path = path
        self._fd = os.open(path, _FLAGS)
        self._side: mmap.mmap | None = None
        try:
            self._check_kind()
            self._lock(Waiting(clock, lock_timeout))
            raw = os.pread(self._fd, HEADER_BYTES, 0)
            self._header: Header = parse_header(raw, str(path))
            self._size = os.fstat(self._fd).st_size
        except BaseException:
            os.close(self._fd)
            raise
        self._salvage = Salvage(self._fd, self._header, self._size)
        self._closed = False

    @property
    def location(self) -> str:
        """Its path."""
        return str(self._path)

    @property
    def uuid(self) -> UUID:
        """Identity of the database."""
        return self._header.uuid

    @property
    def value_serializer(self) -> int:
        """Booklet's number of the serializer; 0 for a class of the user's own."""
        return self._header.value_serializer

    @property
    def state(self) -> list[Any]:
        """Size and time of the last change."""
        found = os.fstat(self._fd)
        return [found.st_size, found.st_mtime_ns]

    @property
    def damage(self) -> int:
        """Bytes in which the last walk over the blocks found none."""
        return self._salvage.skipped

    def blocks(self) -> Iterator[StoredBlock]:
        """Every value, in file order; of two of one key the later one counts."""
        for block in self._salvage.blocks():
            if block[0] not in RESERVED:
                yield StoredBlock(block[0], block[1], value_at(block), block[3])

    def reserved(self) -> Mapping[bytes, StoredBlock]:
        """Metadata and slots."""
        return {
            block[0]: StoredBlock(block[0], block[1], value_at(block), block[3])
            for block in self._salvage.blocks()
            if block[0] in RESERVED
        }

    def read(self, block: StoredBlock) -> bytes:
        """The bytes of a value.

        Raises:
            LocalFileError: the file ends within it.
        """
        parts: list[bytes] = []
        done = 0
        while done < block.length:
            part = os.pread(self._fd, min(block.length - done, _READ), block.at + done)
            if not part:
                raise LocalFileError(
                    f"{self._path} was cut while it was read: migrate again", op="migrate"
                )
            parts.append(part)
            done += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def side_index(self) -> bytes | mmap.mmap | None:
        """The copy of the remote's index beside the file; None when there is none."""
        if self._side is None:
            try:
                fd = os.open(self._path.with_name(f"{self._path.name}{_SIDE}"), _FLAGS)
            except FileNotFoundError:
                return None
            try:
                if os.fstat(fd).st_size == 0:
                    return b""
                self._side = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(fd)
        return self._side

    def close(self) -> None:
        """Free the file; idempotent."""
        if not self._closed:
            self._closed = True
            if self._side is not None:
                self._side.close()
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def _check_kind(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise LocalFileError(f"{self._path} is no file", op="migrate")
        if folder_beside(self._path).exists():
            raise LocalFileError(
                f"{self._path} was opened with this version of EBooklet already: open it with "
                "that, a new db_key and flag 'w', and push",
                op="migrate",
            )

    def _lock(self, waiting: Waiting) -> None:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                    raise
                if not waiting.pause():
                    raise LockTimeout(
                        f"{self._path} is open in EBooklet 0.11 or Booklet: close it there, or wait "
                        "longer",
                        op="migrate",
                    ) from None
            else:
                return
