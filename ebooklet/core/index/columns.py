"""Fixed-width little-endian columns, and their compression (FORMAT, terms; §3)."""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Iterable
from typing import Final, Literal

import zstandard

from ebooklet.errors import RemoteIntegrityError

Width: Final = {"H": 2, "I": 4, "Q": 8, "q": 8}
TypeCode = Literal["H", "I", "Q", "q"]
_SWAP: Final = sys.byteorder == "big"
_LEVEL: Final = 3  # as small as level 9 on these columns, at a seventh of its time


class _Contexts(threading.local):
    """zstd contexts are costly to make and may not be shared between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts: Final = _Contexts()


def pack(code: TypeCode, values: Iterable[int]) -> bytes:
    """Lay out integers as one little-endian column.

    Raises:
        OverflowError: a value does not fit the column.
    """
    column = array(code, values)
    if _SWAP:
        column.byteswap()
    return column.tobytes()


class Reader:
    """Takes columns off decompressed bytes, one after another."""

    __slots__ = ("_at", "_data", "_view")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)
        self._at = 0

    def column(self, code: TypeCode, n: int) -> array[int]:
        """The next column, of n values."""
        column = array(code)
        column.frombytes(self.take(n * Width[code]))
        if _SWAP:
            column.byteswap()
        return column

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise RemoteIntegrityError("node columns are shorter than they say", op="index")
        piece = self._view[self._at : end]
        self._at = end
        return piece

    @property
    def at(self) -> int:
        """Bytes taken so far."""
        return self._at

    def finish(self) -> None:
        """Refuse bytes that nothing accounts for."""
        if self._at != len(self._data):
            raise RemoteIntegrityError("node columns are longer than they say", op="index")


def compress(data: bytes) -> bytes:
    """One zstd frame that carries its content size."""
    return _contexts.compressor.compress(data)


def decompress(frame: bytes | memoryview, *, limit: int) -> bytes:
    """Undo `compress`, refusing before allocation what says it is larger than `limit` bytes.

    Raises:
        RemoteIntegrityError: not one whole frame, or too large.
    """
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if size > limit:  # an absent size reads as 2^64 - 1
            raise RemoteIntegrityError(
                f"node columns say {size} bytes, more than the {limit} a node can have", op="index"
            )
        data = _contexts.decompressor.decompress(
            frame, max_output_size=limit, allow_extra_data=False
        )
    except (zstandard.ZstdError, MemoryError) as exc:
        raise RemoteIntegrityError("node columns do not decompress", op="index") from exc
    if len(data) != size:
        raise RemoteIntegrityError("node columns do not have the size they say", op="index")
    return data
