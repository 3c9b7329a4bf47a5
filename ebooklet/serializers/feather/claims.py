"""What the batches of an Arrow file claim to need, read without allocating any of it.

The footer of the file lists its batches; the metadata of each, a flatbuffer, lists the length of
every array and the place of every buffer, and a compressed buffer begins with the size that it is
to inflate to. Arrow allocates all of these as it finds them.

Source: Arrow's format documents (File.fbs, Message.fbs, "IPC File Format") and the layout of
flatbuffers (flatbuffers.dev/internals).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ebooklet.ports.serializer import Buffer

__all__ = ["Batch", "batches", "footer_start"]

_MAGIC: Final = b"ARROW1"
_TAIL_BYTES: Final = 10  # the footer's length, and the magic again
_SMALLEST: Final = 20
_CONTINUES: Final = 0xFFFF_FFFF  # before the length of a message; absent in the oldest files
_DICTIONARY: Final = 2  # of the union MessageHeader
_RECORDS: Final = 3
_BLOCK_BYTES: Final = 24  # a struct of the footer: offset 8, metadata length 4 (+ 4), body length 8
_PAIR_BYTES: Final = 16  # FieldNode and Buffer: two numbers of 8 bytes
_AS_IT_IS: Final = -1  # in the place of a size: this one buffer is not compressed


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch of rows, or one dictionary, will need."""

    is_dictionary: bool
    lengths: tuple[int, ...]  # elements of each array, nested ones after what holds them
    buffer_bytes: int  # once inflated


def batches(data: Buffer) -> Iterator[Batch]:
    """Read the claims of every batch that the footer lists, in its order.

    Raises:
        ValueError: it is no Arrow file, or its structure leads outside of it.
    """
    footer = _root(data, footer_start(data))
    listed = 0
    for field in (2, 3):  # dictionaries, record batches
        start, count = _vector(data, footer.field(field), _BLOCK_BYTES)
        for block in range(start, start + count * _BLOCK_BYTES, _BLOCK_BYTES):
            batch = _batch(data, _number(data, block, "q"), _number(data, block + 8, "i"))
            listed += len(batch.lengths) * _PAIR_BYTES
            if listed > len(data):
                raise ValueError("several batches are the same bytes")
            yield batch


def footer_start(data: Buffer) -> int:
    """Position of the footer, which its length and the magic follow to the end of the file.

    Raises:
        ValueError: it is no Arrow file.
    """
    if data[:6] != _MAGIC or data[-6:] != _MAGIC or len(data) < _SMALLEST:
        raise ValueError("no Arrow file")
    end = len(data) - _TAIL_BYTES
    return end - _number(data, end, "i")


class _Table:
    """A table of a flatbuffer: fields are found through a table of offsets."""

    def __init__(self, data: Buffer, position: int) -> None:
        self.position = position
        self._data = data
        self._offsets = position - _number(data, position, "i")
        self._bytes = _number(data, self._offsets, "H")

    def field(self, index: int) -> int:
        """Position of a field; 0 when it is left out."""
        at = 4 + 2 * index
        if at + 2 > self._bytes:
            return 0
        offset = _number(self._data, self._offsets + at, "H")
        return self.position + offset if offset else 0

    def table(self, index: int) -> _Table | None:
        """The table that a field leads to."""
        at = self.field(index)
        return _root(self._data, at) if at else None


def _batch(data: Buffer, position: int, metadata_bytes: int) -> Batch:
    body = position + metadata_bytes
    prefix = 8 if _number(data, position, "I") == _CONTINUES else 4
    message = _root(data, position + prefix)
    header = message.table(2)
    kind = _number(data, message.field(1), "B") if message.field(1) else 0
    if header is None or kind not in (_DICTIONARY, _RECORDS):
        raise ValueError("a batch is neither of rows nor a dictionary")
    records = header.table(1) if kind == _DICTIONARY else header
    if records is None:
        raise ValueError("a dictionary has no values")
    start, count = _vector(data, records.field(1), _PAIR_BYTES)
    lengths = tuple(_number(data, start + n * _PAIR_BYTES, "q") for n in range(count))
    start, count = _vector(data, records.field(2), _PAIR_BYTES)
    compressed = records.field(3) != 0
    needed = 0
    for pair in range(start, start + count * _PAIR_BYTES, _PAIR_BYTES):
        stored = _number(data, pair + 8, "q")
        inflated = stored
        if compressed and stored:
            claimed = _number(data, body + _number(data, pair, "q"), "q")
            inflated = stored if claimed == _AS_IT_IS else claimed
        needed += _natural(inflated)
    return Batch(kind == _DICTIONARY, tuple(map(_natural, lengths)), needed)


def _root(data: Buffer, position: int) -> _Table:
    """The table that the offset at a position leads to."""
    return _Table(data, position + _number(data, position, "I"))


def _vector(data: Buffer, field: int, item_bytes: int) -> tuple[int, int]:
    """Where a field's items begin, and how many of them there are."""
    if not field:
        return 0, 0
    at = field + _number(data, field, "I")
    count = _number(data, at, "I")
    if at + 4 + count * item_bytes > len(data):
        raise ValueError("a list leads outside of the file")
    return at + 4, count


def _number(data: Buffer, position: int, code: str) -> int:
    """One little-endian number; Python's own negative positions would count from the end."""
    if position < 0:
        raise ValueError("an offset leads outside of the file")
    try:
        number: int = struct.unpack_from(f"<{code}", data, position)[0]
    except struct.error:
        raise ValueError("an offset leads outside of the file") from None
    return number


def _natural(number: int) -> int:
    if number < 0:
        raise ValueError("a length is negative")
    return number
