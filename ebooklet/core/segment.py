"""Segments: write-once objects that hold values, nodes and records (FORMAT §4).

    header 64: `EBKSEGM1` | version u16 | kind u8 | flags u8 | uuid | sid | write_id | zeros
    blocks, back to back from offset 64
    footer: CBOR list of [type, offset, length, crc], in order, leaving no gap
    trailer 40: footer offset u64, footer length u32, footer crc u32, total length u64, write_id

Readers follow refs and need none of the framing; it lets fsck verify a segment on its own.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from itertools import accumulate, repeat
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

from ebooklet.core import cbor
from ebooklet.core.cbor import U32, U48, Malformed
from ebooklet.core.entry import Place, new_place
from ebooklet.core.refs import BlockRef
from ebooklet.core.wire import split_ids
from ebooklet.errors import RemoteIntegrityError, UnsupportedFormatError
from ebooklet.ports.remote_store import Body

__all__ = [
    "HEADER_BYTES",
    "MIXED_LIMIT",
    "SEGMENT_LIMIT",
    "TRAILER_BYTES",
    "BlockType",
    "Run",
    "SegmentHeader",
    "SegmentKind",
    "SegmentWriter",
    "Trailer",
    "check_block",
    "check_frame",
    "check_header",
    "frame_value",
    "join_sids",
    "read_footer",
    "read_trailer",
    "split_sids",
    "verify_segment",
]

SEGMENT_LIMIT: Final = 64 * 1024 * 1024  # bytes; where a writer starts the next one
MIXED_LIMIT: Final = 256 * 1024  # bytes; above, values and nodes go to segments of their own
RUN_BYTES: Final = 1024 * 1024  # values are checksummed in runs of this size

_MAGIC: Final = b"EBKSEGM1"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(">8sHBB16s16s16s4x")
_TRAILER: Final = struct.Struct(">QIIQ16s")
HEADER_BYTES: Final = _HEADER.size
TRAILER_BYTES: Final = _TRAILER.size
MAX_FOOTER_BYTES: Final = 8 * 1024 * 1024
MAX_RUNS: Final = 1 << 19


class SegmentKind(IntEnum):
    """What a segment holds."""

    VALUES = 1
    NODES = 2  # nodes and records
    MIXED = 3


_HOLDS_VALUES: Final = {
    SegmentKind.VALUES: {True},
    SegmentKind.NODES: {False},
    SegmentKind.MIXED: {True, False},
}


class BlockType(IntEnum):
    """What a run of a segment's footer is."""

    VALUES = 1  # values back to back
    NODE = 2
    COMMIT = 3
    SIDS = 4  # sorted 16-byte segment ids
    METADATA = 5  # the user's, JSON
    DICTIONARY = 6  # zstd's, of values


class SegmentHeader(NamedTuple):
    """The first bytes of a segment."""

    kind: SegmentKind
    uuid: bytes
    sid: bytes
    write_id: bytes


class Trailer(NamedTuple):
    """The last bytes of a segment."""

    footer_offset: int
    footer_length: int
    footer_crc: int
    total: int  # bytes of the whole segment
    write_id: bytes


class Run(NamedTuple):
    """One row of the footer."""

    type: int  # BlockType; others, by newer versions, are passed through
    offset: int
    length: int
    crc: int


class SegmentWriter:
    """Builds one segment in memory.

    Example:
        >>> writer = SegmentWriter(UUID(int=1), bytes(16), bytes(16), SegmentKind.VALUES)
        >>> place = writer.add_value(b"hello")
        >>> place.offset, place.length
        (64, 5)
        >>> len(writer.finish())
        120
    """

    def __init__(self, uuid: UUID, sid: bytes, write_id: bytes, kind: SegmentKind) -> None:
        """Start an empty segment.

        Args:
            uuid: of the database.
            sid: segment id, 16 bytes.
            write_id: of the logical write, 16 bytes.
            kind: what the header will say; may be set again until `finish`.
        """
        self.sid: Final = sid
        self.kind = kind
        self._uuid = uuid.bytes
        self._write_id = write_id
        self._buffer = bytearray(HEADER_BYTES)
        self._runs: list[Run] = []
        self._values_start = HEADER_BYTES  # of the values that are not in a run yet

    @property
    def size(self) -> int:
        """Bytes so far, without footer and trailer."""
        return len(self._buffer)

    def add_value(self, data: Body) -> Place:
        """Append a stored value and say where it lies."""
        buffer = self._buffer
        place = new_place((self.sid, len(buffer), len(data)))
        buffer += data
        return place

    def add_values(self, values: Sequence[Body]) -> list[Place]:
        """Append stored values back to back, and say where each lies."""
        buffer = self._buffer
        lengths = list(map(len, values))
        offsets = accumulate(lengths, initial=len(buffer))
        for value in values:  # a joined copy would take memory anew each time
            buffer += value
        # One more offset than values: where the next one will begin.
        return list(map(new_place, zip(repeat(self.sid), offsets, lengths, strict=False)))

    def add_block(self, type_: BlockType, data: Body) -> BlockRef:
        """Append a block with a checksum of its own, and return the ref to it."""
        self._close_values()
        ref = BlockRef(self.sid, len(self._buffer), len(data), crc32(data))
        self._buffer += data
        self._runs.append(Run(type_, ref.offset, ref.length, ref.crc))
        self._values_start = len(self._buffer)
        return ref

    def finished_size(self, type_: BlockType | None = None, data: Body = b"") -> int:
        """Bytes of the segment if it were finished now, or right after adding this block."""
        self._close_values()
        runs = list(self._runs)
        if type_ is not None:
            runs.append(Run(type_, len(self._buffer), len(data), crc32(data)))
        end = len(self._buffer) + len(data)
        return end + len(_ending(runs, end, self._write_id))

    def finish(self) -> bytearray:
        """Complete the segment and hand over its buffer; the writer is spent."""
        self._close_values()
        buffer = self._buffer
        self._buffer = bytearray()
        _HEADER.pack_into(
            buffer, 0, _MAGIC, _VERSION, self.kind, 0, self._uuid, self.sid, self._write_id
        )
        buffer += _ending(self._runs, len(buffer), self._write_id)
        return buffer

    def _close_values(self) -> None:
        start, end = self._values_start, len(self._buffer)
        if start < end:
            with memoryview(self._buffer) as view:
                for at in range(start, end, RUN_BYTES):
                    run = view[at : min(at + RUN_BYTES, end)]
                    self._runs.append(Run(BlockType.VALUES, at, len(run), crc32(run)))
                    run.release()
            self._values_start = end


def frame_value(uuid: UUID, sid: bytes, write_id: bytes, value: Body) -> tuple[bytes, bytes]:
    """What stands before and after one value too large to be copied into a buffer.

    The value's place in that segment is (sid, 64, len(value)).
    """
    header = _HEADER.pack(_MAGIC, _VERSION, SegmentKind.VALUES, 0, uuid.bytes, sid, write_id)
    runs: list[Run] = []
    with memoryview(value) as view:
        for at in range(0, len(view), RUN_BYTES):
            run = view[at : at + RUN_BYTES]
            runs.append(Run(BlockType.VALUES, HEADER_BYTES + at, len(run), crc32(run)))
            run.release()
    return header, _ending(runs, HEADER_BYTES + len(value), write_id)


def _ending(runs: Iterable[Run], offset: int, write_id: bytes) -> bytes:
    footer = cbor.encode([list(run) for run in runs])
    total = offset + len(footer) + TRAILER_BYTES
    return footer + _TRAILER.pack(offset, len(footer), crc32(footer), total, write_id)


def check_header(data: bytes, uuids: Collection[bytes] | None, sid: bytes) -> SegmentHeader:
    """Check the first 64 bytes of a segment.

    Args:
        data: at least the header.
        uuids: of the database and of those it was copied from (`Head.accepted_uuids`); None
            accepts any.
        sid: the id in the object's name.

    Raises:
        RemoteIntegrityError: not a segment, of another database, or under another's name.
        UnsupportedFormatError: a newer version wrote it.
    """
    if len(data) < HEADER_BYTES or data[: len(_MAGIC)] != _MAGIC:
        raise _damaged("it does not start as a segment does")
    _, version, kind, flags, uuid, own_sid, write_id = _HEADER.unpack_from(data)
    if version != _VERSION or flags:
        raise UnsupportedFormatError(
            f"a newer version of the format ({version}, flags {flags:#x}) wrote this segment: "
            "upgrade ebooklet"
        )
    if own_sid != sid:
        raise _damaged("it stands under another segment's name")
    if uuids is not None and uuid not in uuids:
        raise _damaged("it belongs to another database")
    if any(data[_HEADER.size - 4 : _HEADER.size]) or kind not in iter(SegmentKind):
        raise _damaged("its header is malformed")
    return SegmentHeader(SegmentKind(kind), uuid, own_sid, write_id)


def read_trailer(tail: bytes, total_length: int) -> Trailer:
    """Read the end of a segment.

    Args:
        tail: the last bytes of the object, at least 40.
        total_length: bytes of the whole object.

    Raises:
        RemoteIntegrityError: damaged, or cut short.
    """
    if len(tail) < TRAILER_BYTES or total_length < HEADER_BYTES + TRAILER_BYTES:
        raise _damaged("it is cut short")
    trailer = Trailer(*_TRAILER.unpack(tail[-TRAILER_BYTES:]))
    if (
        trailer.total != total_length
        or trailer.footer_length > MAX_FOOTER_BYTES
        or trailer.footer_offset + trailer.footer_length + TRAILER_BYTES != total_length
    ):
        raise _damaged("its length differs from what it says")
    return trailer


def read_footer(footer: bytes, trailer: Trailer) -> tuple[Run, ...]:
    """Read what a segment holds.

    Args:
        footer: the bytes that the trailer names.
        trailer: see `read_trailer`.

    Raises:
        RemoteIntegrityError: damaged.
    """
    if len(footer) != trailer.footer_length or crc32(footer) != trailer.footer_crc:
        raise _damaged("its footer does not match its checksum")
    runs: list[Run] = []
    end = HEADER_BYTES
    try:
        for item in cbor.rows(cbor.decode(footer), "the footer", MAX_RUNS):
            type_, offset, length, crc = cbor.row(item, "a run", 4)
            run = Run(
                cbor.uint(type_, "a type", 255),
                cbor.uint(offset, "an offset", U48),
                cbor.uint(length, "a length", U48),
                cbor.uint(crc, "a checksum", U32),
            )
            if run.offset != end:
                raise _damaged("its runs leave gaps or overlap")
            end += run.length
            runs.append(run)
    except Malformed as exc:
        raise _damaged(f"its footer is malformed ({exc})") from exc
    if end != trailer.footer_offset:
        raise _damaged("its runs do not fill it")
    return tuple(runs)


def check_frame(header: SegmentHeader, trailer: Trailer, footer: bytes) -> tuple[Run, ...]:
    """Read what a segment holds, and check that its two ends and its kind agree on it.

    Args:
        header: see `check_header`.
        trailer: see `read_trailer`.
        footer: the bytes that the trailer names.

    Raises:
        RemoteIntegrityError: damaged.
    """
    if trailer.write_id != header.write_id:
        raise _damaged("its two ends belong to different writes")
    runs = read_footer(footer, trailer)
    types = {run.type == BlockType.VALUES for run in runs}
    if not types <= _HOLDS_VALUES[header.kind]:
        raise _damaged("it holds what its kind does not")
    return runs


def verify_segment(data: bytes, uuids: Collection[bytes], sid: bytes) -> tuple[Run, ...]:
    """Check every byte of a whole segment, and return what it holds.

    Raises:
        RemoteIntegrityError: damaged in any way.
        UnsupportedFormatError: a newer version wrote it.
    """
    header = check_header(data, uuids, sid)
    trailer = read_trailer(data[-TRAILER_BYTES:], len(data))
    view = memoryview(data)
    start = trailer.footer_offset
    runs = check_frame(header, trailer, bytes(view[start : start + trailer.footer_length]))
    for run in runs:
        if crc32(view[run.offset : run.offset + run.length]) != run.crc:
            raise _damaged(f"the bytes at {run.offset} do not match their checksum")
    return runs


def check_block(data: Body, ref: BlockRef, key: str) -> None:
    """Check a block against its ref.

    Args:
        data: what a range request answered.
        ref: what was asked for.
        key: the segment's object, for the message.

    Raises:
        RemoteIntegrityError: too short, too long or changed.
    """
    if len(data) != ref.length:
        raise RemoteIntegrityError(
            f"the block at {ref.offset} has {len(data)} bytes instead of {ref.length}; run fsck",
            op="read",
            key=key,
        )
    if crc32(data) != ref.crc:
        raise RemoteIntegrityError(
            f"the block at {ref.offset} does not match its checksum; run fsck", op="read", key=key
        )


def join_sids(sids: Iterable[bytes]) -> bytes:
    """The content of a SIDS block: ids sorted, each once."""
    return b"".join(sorted(set(sids)))


def split_sids(data: bytes) -> tuple[bytes, ...]:
    """Read a SIDS block.

    Raises:
        RemoteIntegrityError: not sorted ids of 16 bytes.
    """
    try:
        return tuple(split_ids(data, "a list of segments", len(data) // 16))
    except Malformed as exc:
        raise RemoteIntegrityError(f"{exc}; run fsck", op="read") from exc


def _damaged(why: str) -> RemoteIntegrityError:
    return RemoteIntegrityError(f"a segment is damaged: {why}; run fsck", op="read")
