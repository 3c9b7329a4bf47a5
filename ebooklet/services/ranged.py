"""A remote object as a file: read by ranges, from anywhere, without being held whole."""

from __future__ import annotations

import io
import os
from typing import Final

from ebooklet.errors import RemoteIntegrityError
from ebooklet.ports.remote_store import RemoteStore

_READ_AHEAD: Final = 4 * 1024 * 1024  # bytes; for those who read in small pieces


class RangedReader(io.RawIOBase):
    """Reads one immutable object; each read is one request, small ones share some.

    Args:
        remote: where it is.
        key: its name.
        size: bytes that it has to have.
    """

    def __init__(self, remote: RemoteStore, key: str, size: int) -> None:
        super().__init__()
        self._remote = remote
        self._key = key
        self._size = size
        self._position = 0
        self._ahead = b""  # what was read around the position ...
        self._ahead_start = 0  # ... and where that begins

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the object's start."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; makes no request."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = min(max(0, start + offset), self._size)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes, fewer only at the object's end.

        Raises:
            RemoteIntegrityError: the object has another size than it has to.
            ObjectNotFound, RemoteUnavailable, AccessDenied: it cannot be read.
        """
        left = self._size - self._position
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        begin = self._position - self._ahead_start
        if not 0 <= begin <= len(self._ahead) - wanted:
            if wanted >= _READ_AHEAD:
                data = self._fetch(wanted)
                self._position += wanted
                return data
            self._ahead = self._fetch(min(_READ_AHEAD, left))
            self._ahead_start, begin = self._position, 0
        self._position += wanted
        return self._ahead[begin : begin + wanted]

    def _fetch(self, count: int) -> bytes:
        start = self._position
        found = self._remote.get(self._key, start=start, stop=start + count)
        if found.meta.size != self._size or len(found.body) != count:
            raise RemoteIntegrityError(
                f"the object has {found.meta.size} bytes instead of {self._size}; run fsck",
                op="get",
                key=self._key,
            )
        return found.body
