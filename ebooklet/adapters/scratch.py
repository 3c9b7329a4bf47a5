"""Scratch space on disk, for what is too large for memory."""

from __future__ import annotations

import mmap
import tempfile

from ebooklet.core.closeable import Closeable

__all__ = ["Scratch"]


class Scratch(Closeable):
    """A file without a name, in the system's folder for temporary files, gone when closed.

    Example:
        >>> with Scratch() as scratch:
        ...     _ = scratch.write(b"much")
        ...     bytes(scratch.view()[1:3])
        b'uc'
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="ebooklet-")  # noqa: SIM115 - closed by `close`
        self._views: list[mmap.mmap] = []

    def write(self, data: bytes, /) -> object:
        """Append."""
        return self._file.write(data)

    def view(self) -> bytes | mmap.mmap:
        """All that was written, mapped: it takes memory only where it is looked at."""
        self._file.flush()
        if self._file.tell() == 0:
            return b""
        view = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._views.append(view)
        return view

    def close(self) -> None:
        """Give the space back; idempotent. Views cannot be used any more."""
        while self._views:
            self._views.pop().close()
        self._file.close()
