"""The bytes of a Booklet file: its header, and the blocks one after another.

All numbers are little endian. Header, 200 bytes: magic 0:16, version 16:18, widths of a file
position, a key length and a value length 18:21, n_buckets 21:25, serializers of values 29:31 and
of keys 31:33, number of keys 33:37, timestamps 41, uuid 49:65, position of the index 65:71, of the
first block 71:77. A block: hash of the key 13 | next block 6 (0 dead, 1 last) | key length 2 |
value length 4 | timestamp 7 | key | value. The index holds the first block of each chain in 6
bytes (0 and 1: none).

Source: files written by booklet 0.12, and CONTRACT §12. Booklet has no checksums and trusts every
length and pointer it reads, so what it did not close itself is looked at here first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final, TypeAlias
from uuid import UUID

from ebooklet.errors import LocalFileError

HEADER_BYTES: Final = 200
COUNT_AT: Final = 33  # offset of the number of keys in the header, 4 bytes
BLOCK_HEADER: Final = struct.Struct("<13s6sHI7s")  # up to and with the timestamp
BLOCK_BYTES: Final = BLOCK_HEADER.size
HASH_BYTES: Final = 13
TIMESTAMP_BYTES: Final = 7
STAMP_AT: Final = 25  # offset of the timestamp in a block; key and value follow it
POINTER_BYTES: Final = 6
DEAD: Final = bytes(POINTER_BYTES)
METADATA_KEY: Final = b"adb01ebc1ba3433eb043527"
SLOT_KEYS: Final = (b"7c40d2ea915b4f3a8e6d201", b"f19a5c3d7e2b48069ab34c5")
RESERVED: Final = frozenset((METADATA_KEY, *SLOT_KEYS))
MAX_BUCKETS: Final = 20_736_017  # beyond this Booklet grows no index of its own accord
UNCLOSED: Final = 0xFFFF_FFFF  # number of keys in a file that was not closed

_VARIABLE: Final = bytes.fromhex("4f7e8a3fe75c4750ad430a728fe31cfe")
_FIXED: Final = bytes.fromhex("04d3b294f2104162958d0400738c9e0a")
_PLACEHOLDER: Final = 52_983_525_027_888  # six "0" characters, left by early versions
_STR: Final = 2  # Booklet's number of the serializer "str"
_CHUNK: Final = 1 << 20
_SMALL_CHUNK: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Header:
    """What the first 200 bytes of a Booklet say; positions are not checked against the file."""

    raw: bytes
    n_buckets: int
    value_serializer: int  # Booklet's number; 0 for a class of the user's own
    n_keys: int
    uuid: UUID
    index_at: int  # byte position of the index
    data_at: int  # byte position of the first block

    @property
    def index_end(self) -> int:
        """Byte position just after the index."""
        return self.index_at + POINTER_BYTES * self.n_buckets

    def regions(self, size: int) -> tuple[tuple[int, int], ...]:
        """The spans [start, end) that hold blocks in a file of `size` bytes."""
        if self.index_at == HEADER_BYTES:
            return ((self.data_at, size),)
        return ((self.data_at, self.index_at), (self.index_end, size))

    def is_plausible(self, size: int) -> bool:
        """Whether index and blocks fit into a file of `size` bytes without overlapping."""
        if self.n_buckets == 0 or self.index_end > size:
            return False
        if self.index_at == HEADER_BYTES:
            return self.index_end == self.data_at
        return HEADER_BYTES <= self.data_at <= self.index_at


# One live block: key, timestamp (µs since the Unix epoch), byte position of the timestamp, which
# key and value follow, and bytes of the value. A plain tuple, as scans make millions of them.
Block: TypeAlias = tuple[bytes, int, int, int]


def value_at(block: Block) -> int:
    """Byte position of a block's value."""
    return block[2] + TIMESTAMP_BYTES + len(block[0])


def _number(raw: bytes, start: int, end: int) -> int:
    return int.from_bytes(raw[start:end], "little")


def looks_like_booklet(raw: bytes) -> bool:
    """Whether these first bytes of a file are those of a Booklet of any kind."""
    return raw[:16] in (_VARIABLE, _FIXED)


def parse_header(raw: bytes, location: str) -> Header:
    """Read the header of a Booklet that EBooklet can use.

    Args:
        raw: the first 200 bytes of the file, or all of a shorter one.
        location: where the file is, for messages.

    Raises:
        LocalFileError: it is no Booklet, or one of a kind that cannot be kept in step.
    """
    magic = raw[:16]
    if magic == _FIXED:
        raise LocalFileError(
            f"{location} is a Booklet with values of one fixed length, which cannot be used: copy "
            "it into one made with booklet.open(path, 'n', key_serializer='str')",
            op="open",
        )
    if magic != _VARIABLE:
        raise LocalFileError(
            f"{location} is not a Booklet file; it was left as it is: choose another path",
            op="open",
        )
    if len(raw) < HEADER_BYTES:
        raise LocalFileError(
            f"{location} ends within its header, and nothing of it can be read; it was left as it "
            "is: put a copy in its place, or choose another path",
            op="open",
        )
    version = _number(raw, 16, 18)
    if version not in (4, 5) or raw[18:21] != b"\x06\x02\x04":
        raise LocalFileError(
            f"{location} was written by another version of booklet (format {version}): "
            "upgrade ebooklet, or copy the file with a booklet that reads it",
            op="open",
        )
    if _number(raw, 31, 33) != _STR:
        raise LocalFileError(
            f"the keys of {location} are not str: make the file with "
            "booklet.open(path, 'n', key_serializer='str')",
            op="open",
        )
    if raw[41] != 1:
        raise LocalFileError(
            f"{location} keeps no timestamps: make the file without init_timestamps=False",
            op="open",
        )
    n_buckets = _number(raw, 21, 25)
    index_at = _number(raw, 65, 71)
    data_at = _number(raw, 71, 77)
    unset = (0, _PLACEHOLDER)
    return Header(
        raw=bytes(raw[:HEADER_BYTES]),
        n_buckets=n_buckets,
        value_serializer=_number(raw, 29, 31),
        n_keys=_number(raw, COUNT_AT, COUNT_AT + 4),
        uuid=UUID(bytes=bytes(raw[49:65])),
        index_at=HEADER_BYTES if index_at in unset else index_at,
        data_at=HEADER_BYTES + POINTER_BYTES * n_buckets if data_at in unset else data_at,
    )


def edited_header(raw: bytes, *, n_buckets: int, uuid: UUID | None = None) -> bytes:
    """Header for a new, empty file that is otherwise like the one of `raw`."""
    new = bytearray(raw)
    new[21:25] = n_buckets.to_bytes(4, "little")
    if uuid is not None:
        new[49:65] = uuid.bytes
    return bytes(new)


def key_hash(key: bytes) -> bytes:
    """Booklet's hash of an encoded key."""
    return blake2s(key, digest_size=HASH_BYTES).digest()


def live_blocks(fd: int, header: Header, *, dead: list[int] | None = None) -> Iterator[Block]:
    """Stream the live blocks of users' keys, in file order, without reading large values.

    The file must be sound (see `inspection.is_sound`) and must not be written meanwhile.

    Args:
        fd: descriptor of the file; its offset is neither used nor moved.
        header: its header.
        dead: a list of one number, which is increased by the number of dead blocks met.

    Raises:
        LocalFileError: the blocks do not fit together.
    """
    size = os.fstat(fd).st_size
    unpack = BLOCK_HEADER.unpack_from
    number = int.from_bytes
    for start, end in header.regions(size):
        position = start
        base = start
        buffer = b""
        filled = 0
        chunk = _CHUNK
        while position < end:
            at = position - base
            if at + BLOCK_BYTES > filled:
                buffer = os.pread(fd, min(chunk, end - position), position)
                base, at, filled = position, 0, len(buffer)
                if filled < BLOCK_BYTES:
                    raise _broken(fd, position)
            hashed, following, key_bytes, value_bytes, stamp = unpack(buffer, at)
            if following != DEAD:
                key_at = at + BLOCK_BYTES
                if key_at + key_bytes > filled:
                    buffer = os.pread(fd, BLOCK_BYTES + key_bytes + _SMALL_CHUNK, position)
                    base, at, filled = position, 0, len(buffer)
                    key_at = BLOCK_BYTES
                key = buffer[key_at : key_at + key_bytes]
                if key not in RESERVED:
                    yield key, number(stamp, "little"), position + STAMP_AT, value_bytes
            elif dead is not None and hashed != bytes(HASH_BYTES):
                dead[0] += 1
            position += BLOCK_BYTES + key_bytes + value_bytes
            # Past large values only the next header is wanted, not a whole chunk.
            chunk = _SMALL_CHUNK if value_bytes > _SMALL_CHUNK else _CHUNK
        if position > end:
            raise _broken(fd, position)


def _broken(fd: int, position: int) -> LocalFileError:
    return LocalFileError(
        f"the local file is damaged at byte {position} of {os.fstat(fd).st_size}: "
        "close it and open it again, which keeps all that is whole",
        op="scan",
    )
