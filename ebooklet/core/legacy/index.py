"""The index of a database: a Booklet whose values all have one length.

Numbers are little endian. Header, 200 bytes, as that of a Booklet of any kind; the length of a value
at 37:41. A block: hash of the key 13 | next block of its chain 6 (0 dead, 1 last) | key length 2 |
key | value. A value: timestamp 7, and then, per key, offset 4 | length 4, both 0; grouped, group 4 |
offset 4 | length 4. The number of a key's chain is its hash modulo the number of chains.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2s
from mmap import mmap
from typing import Final, NamedTuple, TypeAlias

from ebooklet.core.legacy.description import Layout
from ebooklet.core.legacy.payload import damaged

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap

HEADER_BYTES: Final = 200
HASH_BYTES: Final = 13
_FIXED: Final = bytes.fromhex("04d3b294f2104162958d0400738c9e0a")
_VERSIONS: Final = (4, 5)
_WIDTHS: Final = b"\x06\x02"  # of a position in the file and of a key's length
_PLACEHOLDER: Final = 52_983_525_027_888  # six "0" characters, left by early versions of Booklet
_STR: Final = 2
_BLOCK: Final = struct.Struct("<13s6sH")
_POINTER: Final = struct.Struct("<IH")
_DEAD: Final = bytes(6)
_PER_KEY: Final = struct.Struct("<IHBII")  # a timestamp of 7 bytes in three parts
_GROUPED: Final = struct.Struct("<IHBIII")
_LAYOUTS: Final[dict[int, Layout]] = {_PER_KEY.size: "per key", _GROUPED.size: "grouped"}
_MAX_STEPS: Final = 1000  # blocks of one chain; Booklet lengthens its index before there are many


class IndexEntry(NamedTuple):
    """What the index says of one key. Group, offset and length are 0 with the layout per key."""

    timestamp: int  # µs since the Unix epoch
    group: int
    offset: int  # of the value in its group, bytes
    length: int  # of the value, bytes


class IndexTable:
    """Reads an index without taking it into memory, and without believing it.

    Args:
        data: the index, with nothing before or after it.
        key: the object or file it comes from, for messages.

    Attributes:
        layout: of the database, which the length of the entries tells.
        count: number of keys by the header.

    Raises:
        RemoteIntegrityError: it is none. Iterating raises it as well, for damage found on the way.
    """

    def __init__(self, data: Buffer, key: str) -> None:
        self._data = data
        self._key = key
        self._size = len(data)
        header = bytes(data[:HEADER_BYTES])
        if len(header) < HEADER_BYTES or header[:16] != _FIXED:
            raise damaged("its index is none", key)
        number = _number
        layout = _LAYOUTS.get(number(header, 37, 41))
        if (
            layout is None
            or number(header, 16, 18) not in _VERSIONS
            or header[18:20] != _WIDTHS
            or number(header, 31, 33) != _STR
        ):
            raise damaged("its index is of an unknown kind", key)
        self.layout: Layout = layout
        self.count = number(header, 33, 37)
        self._entry = _GROUPED if layout == "grouped" else _PER_KEY
        self._chains = number(header, 21, 25)
        at, first = number(header, 65, 71), number(header, 71, 77)
        moved = at not in (0, HEADER_BYTES, _PLACEHOLDER)
        self._index_at = at if moved else HEADER_BYTES
        end = self._index_at + _POINTER.size * self._chains
        if not moved:
            self._regions: tuple[tuple[int, int], ...] = ((end, self._size),)
        else:
            self._regions = ((first, at), (end, self._size))
        if (
            self._chains == 0
            or end > self._size
            or not HEADER_BYTES <= self._regions[0][0] <= (self._regions[0][1])
        ):
            raise damaged("its index does not fit together", key)

    @property
    def expected_keys(self) -> int:
        """`count`, or what the index has room for if that is less."""
        return min(self.count, self._size // (_BLOCK.size + self._entry.size))

    def __iter__(self) -> Iterator[tuple[bytes, IndexEntry]]:
        """Yield every key with its entry, in the order in which they lie there."""
        data, entry_of = self._data, self._entry_at
        entry_bytes = self._entry.size
        live = 0
        for start, end in self._regions:
            position = start
            while position < end:
                if position + _BLOCK.size > end:
                    raise damaged(f"its index breaks off at byte {position}", self._key)
                hashed, following, key_bytes = _BLOCK.unpack_from(data, position)
                at = position + _BLOCK.size
                position = at + key_bytes + entry_bytes
                if position > end:
                    raise damaged(f"its index breaks off at byte {at}", self._key)
                if following != _DEAD:
                    key = bytes(data[at : at + key_bytes])
                    if _hash(key) != hashed:
                        raise damaged(f"a key in its index is not whole, at byte {at}", self._key)
                    live += 1
                    yield key, entry_of(at + key_bytes)
        if live != self.count:
            raise damaged(f"its index says {self.count} keys and holds {live}", self._key)

    def find(self, key: bytes) -> IndexEntry | None:
        """The entry of a key; None when its chain does not lead to it."""
        hashed = _hash(key)
        position = self._index_at + _POINTER.size * (
            int.from_bytes(hashed, "little") % self._chains
        )
        pointer = self._data[position : position + _POINTER.size]
        block_bytes = _BLOCK.size + len(key) + self._entry.size
        for _ in range(_MAX_STEPS):
            position = int.from_bytes(pointer, "little")
            if position <= 1 or position + _BLOCK.size > self._size:
                return None
            found, pointer, key_bytes = _BLOCK.unpack_from(self._data, position)
            if found == hashed and key_bytes == len(key) and pointer != _DEAD:
                at = position + _BLOCK.size
                if position + block_bytes > self._size or self._data[at : at + key_bytes] != key:
                    return None
                return self._entry_at(at + key_bytes)
        return None

    def _entry_at(self, position: int) -> IndexEntry:
        low, middle, high, *place = self._entry.unpack_from(self._data, position)
        timestamp = low | middle << 32 | high << 48
        return IndexEntry(timestamp, *place) if len(place) == 3 else IndexEntry(timestamp, 0, 0, 0)


def _hash(key: bytes) -> bytes:
    return blake2s(key, digest_size=HASH_BYTES).digest()


def _number(raw: bytes, start: int, end: int) -> int:
    return int.from_bytes(raw[start:end], "little")
