"""Checking segments against their own frame and against what the index says lies in them.

The bytes of a segment pass by once, in order and in pieces, so that one of any size can be checked.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, TypeAlias
from zlib import crc32

from ebooklet.core.digest import VALUE_DIGEST_BYTES
from ebooklet.core.entry import Place
from ebooklet.core.refs import BlockRef
from ebooklet.core.sealing import PLAIN, Hasher, Sealer
from ebooklet.core.segment import Run

__all__ = ["Expectations", "SegmentAudit"]

_VALUE: Final = struct.Struct(f">QQ{VALUE_DIGEST_BYTES}s")
_BLOCK: Final = struct.Struct(">QQI")
_MAX_PROBLEMS: Final = 8  # named one by one for a segment


class Expectations:
    """What references say of the contents of segments: packed, as there may be millions.

    Args:
        sealer: of the database whose values lie there.
    """

    def __init__(self, sealer: Sealer = PLAIN) -> None:
        self.sealer: Final = sealer
        self._values: dict[bytes, bytearray] = {}
        self._blocks: dict[bytes, bytearray] = {}

    def value(self, place: Place, digest: bytes) -> None:
        """A value with this digest lies there."""
        packed = _VALUE.pack(place.offset, place.length, digest)
        self._values.setdefault(place.sid, bytearray()).extend(packed)

    def block(self, ref: BlockRef) -> None:
        """A block with this checksum lies there."""
        packed = _BLOCK.pack(ref.offset, ref.length, ref.crc)
        self._blocks.setdefault(ref.sid, bytearray()).extend(packed)

    def values(self, sid: bytes) -> list[tuple[int, int, bytes]]:
        """(offset, length, digest) of the values in a segment, each once, sorted."""
        return sorted(set(_VALUE.iter_unpack(self._values.get(sid, b""))))

    def blocks(self, sid: bytes) -> set[tuple[int, int, int]]:
        """(offset, length, checksum) of the blocks in a segment."""
        return set(_BLOCK.iter_unpack(self._blocks.get(sid, b"")))


class SegmentAudit:
    """Compares the bytes of one segment with its runs, and with the values expected in it.

    Args:
        runs: from the segment's footer.
        values: (offset, length, digest), sorted.
        blocks: (offset, length, checksum) of what references name.
        sealer: of the values.
    """

    def __init__(
        self,
        runs: Iterable[Run],
        values: Iterable[tuple[int, int, bytes]],
        blocks: Collection[tuple[int, int, int]],
        sealer: Sealer = PLAIN,
    ) -> None:
        stated = [(run.offset, run.length, run.crc) for run in runs]
        self._problems = [
            f"no block of {length} bytes with that checksum begins at {offset}"
            for offset, length, _ in sorted(set(blocks).difference(stated))
        ]
        self._passes = (
            _Pass(
                ((offset, length, crc.to_bytes(4)) for offset, length, crc in stated),
                _Crc,
                "the bytes at {} do not match their checksum",
            ),
            _Pass(values, sealer.stored_hasher, "the value at {} does not match its digest"),
        )
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Take in the next bytes of the segment, from its first to its last."""
        with memoryview(data) as view:
            for one in self._passes:
                self._problems += one.feed(self._at, view)
        self._at += len(data)

    def problems(self) -> list[str]:
        """What is wrong, once all bytes have passed; nothing of a sound segment."""
        found = list(self._problems)
        for one in self._passes:
            found += one.unmet()
        if len(found) > _MAX_PROBLEMS:
            found[_MAX_PROBLEMS:] = [f"and {len(found) - _MAX_PROBLEMS} more"]
        return found


_Span: TypeAlias = tuple[int, int, bytes, Hasher]  # start, end, expected digest, what hashes it


class _Crc:
    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: memoryview, /) -> None:
        self._crc = crc32(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(4)


class _Pass:
    """Hashes spans of a stream as they pass; they may overlap, and go over many pieces."""

    def __init__(
        self,
        spans: Iterable[tuple[int, int, bytes]],
        hasher: Callable[[], Hasher],
        complaint: str,
    ) -> None:
        self._spans = iter(spans)
        self._next = next(self._spans, None)
        self._hasher = hasher
        self._complaint = complaint
        self._open: list[_Span] = []  # begun in an earlier piece

    def feed(self, at: int, data: memoryview) -> Iterator[str]:
        end = at + len(data)
        still_open: list[_Span] = []
        for span in self._open:
            yield from self._hash(span, at, end, data, still_open)
        while self._next is not None and self._next[0] < end:
            start, length, expected = self._next
            begun = (start, start + length, expected, self._hasher())
            yield from self._hash(begun, at, end, data, still_open)
            self._next = next(self._spans, None)
        self._open = still_open

    def unmet(self) -> Iterator[str]:
        """Spans that reach beyond the bytes there were."""
        for start, _, _, _ in self._open:
            yield self._complaint.format(start)
        while self._next is not None:
            yield self._complaint.format(self._next[0])
            self._next = next(self._spans, None)

    def _hash(
        self,
        span: _Span,
        at: int,
        end: int,
        data: memoryview,
        still_open: list[_Span],
    ) -> Iterator[str]:
        first, last, expected, hasher = span
        hasher.update(data[max(first, at) - at : min(last, end) - at])
        if last > end:
            still_open.append(span)
        elif hasher.digest() != expected:
            yield self._complaint.format(first)
