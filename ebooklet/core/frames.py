"""Logs that survive a crash: frames with a checksum each, readable up to the first bad one.

A frame is `length u32 | crc32 u32 of the payload | payload`. A payload is one byte, 0 (plain) or
1 (zstd), and a CBOR list whose first item is the record's code. Nothing behind a torn, damaged or
unknown frame is ever read, so whoever finds one must replace the log before appending to it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar
from zlib import crc32

import zstandard

from ebooklet.core import cbor
from ebooklet.core.cbor import Malformed

MAX_FRAME: Final = 32 * 1024 * 1024  # bytes, decompressed
BATCH_KEYS: Final = 16_384
BATCH_CHARS: Final = 2 * 1024 * 1024  # at most 4 bytes each
COMPRESS_FROM: Final = 512  # bytes

_FRAME: Final = struct.Struct(">II")
_PLAIN: Final = b"\0"
_ZSTD: Final = b"\1"

Record = TypeVar("Record")


def encode_frame(items: list[object]) -> bytes:
    """The frame of one record's list of plain values."""
    plain = cbor.encode(items)
    payload = _PLAIN + plain
    if len(plain) >= COMPRESS_FROM:
        packed = zstandard.ZstdCompressor(level=1).compress(plain)
        if len(packed) < len(plain):
            payload = _ZSTD + packed
    return _FRAME.pack(len(payload), crc32(payload)) + payload


def read_frames(
    data: bytes, read: Callable[[list[object]], Record]
) -> Iterator[tuple[Record, int]]:
    """Yield each readable record with the offset of its end; never raises, whatever the bytes.

    Args:
        data: a whole log.
        read: makes a record of a payload's list, or raises `Malformed`.
    """
    at = 0
    view = memoryview(data)
    while at + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, at)
        start, end = at + _FRAME.size, at + _FRAME.size + length
        # A tail of zeros, which some file systems leave after a crash, is no empty frame.
        if not 0 < length <= MAX_FRAME or end > len(data) or crc32(view[start:end]) != crc:
            return
        try:
            record = read(_payload(view[start:end]))
        except Malformed:
            return
        yield record, end
        at = end


def _payload(payload: memoryview) -> list[object]:
    packing, body = bytes(payload[:1]), bytes(payload[1:])
    if packing == _ZSTD:
        try:
            size = zstandard.frame_content_size(body)
            if not 0 <= size <= MAX_FRAME:
                raise Malformed("a frame is too large")
            body = zstandard.ZstdDecompressor().decompress(body)
        except zstandard.ZstdError as exc:
            raise Malformed("a frame does not decompress") from exc
    elif packing != _PLAIN:
        raise Malformed("a frame is packed in an unknown way")
    items = cbor.rows(cbor.decode(body), "a record", 16)
    if not items:
        raise Malformed("a record is empty")
    return items


def key_batches(keys: Sequence[str]) -> Iterator[slice]:
    """Slices of `keys` that fit into one frame each."""
    at = 0
    while at < len(keys):
        count = BATCH_KEYS
        while count > 1 and sum(map(len, keys[at : at + count])) > BATCH_CHARS:
            count //= 2
        yield slice(at, at + count)
        at += count


def read_keys(value: object) -> list[str]:
    """The keys of one frame; raises `Malformed`."""
    keys = cbor.rows(value, "keys", BATCH_KEYS)
    if set(map(type, keys)) - {str}:
        raise Malformed("a key is not a string")
    return keys  # type: ignore[return-value]  # the set of types says so, at C speed
