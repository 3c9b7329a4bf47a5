"""Group objects: many values with their keys and timestamps, self-describing.

Number of members u32, then of each: key length u16 | key | timestamp 7, little endian | value
length u32 | value. The other numbers are big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from ebooklet.core.legacy.index import IndexEntry

_COUNT: Final = struct.Struct(">I")
_KEY_LENGTH: Final = struct.Struct(">H")
_VALUE_LENGTH: Final = struct.Struct(">I")
_STAMP_BYTES: Final = 7

Wanted: TypeAlias = Callable[[bytes, int, int, int], bool]
"""Whether a member is to be read, by its key, timestamp (µs), and offset and length of its value."""


def group_key(db_key: str, group: int, generation: str) -> str:
    """The object that holds a group."""
    return f"{db_key}/{group}.{generation}"


def head_bytes(key: bytes) -> int:
    """How many bytes a member has before its value."""
    return _KEY_LENGTH.size + len(key) + _STAMP_BYTES + _VALUE_LENGTH.size


def member_head(key: bytes, entry: IndexEntry) -> bytes:
    """What stands before the value that the index means by `entry`."""
    return (
        _KEY_LENGTH.pack(len(key))
        + key
        + entry.timestamp.to_bytes(_STAMP_BYTES, "little")
        + _VALUE_LENGTH.pack(entry.length)
    )


class GroupReader:
    """Reads a group that arrives in pieces, and keeps no more of it than a wanted value.

    Lengths in it are only followed, never allocated: bytes are held once they have arrived.

    Args:
        wanted: which members to read; asked again when more of one arrives.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._held = bytearray()
        self._at = 0  # of the first byte held, in the group
        self._skip = 0  # bytes that are not wanted
        self._left = -1  # members not yet passed; unknown before the group's first bytes

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, int, bytes]]:
        """Yield the wanted members that are whole with the next piece: key, timestamp, value.

        The iterator is to be exhausted before the next piece is fed.
        """
        held = self._held
        held += piece
        at = 0
        if self._left < 0:
            if len(held) < _COUNT.size:
                return
            (self._left,) = _COUNT.unpack_from(held)
            at = _COUNT.size
        with memoryview(held) as view:
            for used, member in self._members(view, at):
                at = used
                if member is not None:
                    yield member
        if self._left == 0 and not self._skip:
            at = len(held)  # nothing follows the last member
        del held[:at]
        self._at += at

    def _members(
        self, view: memoryview, at: int
    ) -> Iterator[tuple[int, tuple[bytes, int, bytes] | None]]:
        """Yield how far the bytes held are used, and a wanted member where one ends there."""
        size = len(view)
        while True:
            step = min(self._skip, size - at)
            at += step
            self._skip -= step
            yield at, None
            if self._skip or self._left == 0 or size - at < _KEY_LENGTH.size:
                return
            (key_bytes,) = _KEY_LENGTH.unpack_from(view, at)
            stamp_at = at + _KEY_LENGTH.size + key_bytes
            value_at = stamp_at + _STAMP_BYTES + _VALUE_LENGTH.size
            if value_at > size:
                return
            key = bytes(view[stamp_at - key_bytes : stamp_at])
            timestamp = int.from_bytes(view[stamp_at : stamp_at + _STAMP_BYTES], "little")
            (length,) = _VALUE_LENGTH.unpack_from(view, stamp_at + _STAMP_BYTES)
            if not self._wanted(key, timestamp, self._at + value_at, length):
                at, self._skip = value_at, length
            elif value_at + length > size:
                return
            else:
                at = value_at + length
                yield at, (key, timestamp, bytes(view[value_at:at]))
            self._left -= 1
