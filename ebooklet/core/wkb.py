"""How a geometry in well-known binary nests, seen before a library reads it.

GEOS reads a geometry inside a geometry by recursion and has no limit: 900 kB from a stranger, one
collection inside another, end the process. So the headers are walked here first, without recursion.

Source: OGC 06-103r4 §8.2 (WKB), the dimensions of ISO 13249-3 and of EWKB as GEOS 3.14 reads them.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["MAX_DEPTH", "check_nesting"]

MAX_DEPTH: Final = 200  # geometries inside one another; PostGIS has the same limit

_LINES: Final = frozenset({2, 8})  # line string, circular string
_POINT: Final = 1
_POLYGON: Final = 3
_LEAVES: Final = _LINES | {_POINT, _POLYGON}
_COLLECTIONS: Final = frozenset({4, 5, 6, 7, 9, 10, 11, 12})  # geometries that consist of others
_NUMBERS: Final = (struct.Struct(">I"), struct.Struct("<I"))  # by the byte that begins a geometry
_HAS_Z: Final = 0x8000_0000
_HAS_M: Final = 0x4000_0000
_HAS_SRID: Final = 0x2000_0000
_ISO: Final = 0xFFFF
_COORDINATE_BYTES: Final = 8
_LEVEL_BYTES: Final = 9  # of a collection, at the least


class _Layout(NamedTuple):
    """What the number of a kind of geometry tells."""

    kind: int
    point_bytes: int
    header_bytes: int


def check_nesting(data: bytes) -> None:
    """Refuse a geometry whose parts nest deeper than `MAX_DEPTH`, or cannot be followed.

    What is too short to nest so deep, and what a point, line string or polygon at the top holds,
    is not looked at.

    Raises:
        ValueError: it nests too deep, is cut short, or is of no kind that is known.
    """
    if len(data) < _LEVEL_BYTES * MAX_DEPTH:
        return
    unread = [1]  # geometries still to come, at each level
    position = 0
    try:
        while unread:
            if unread[-1] == 0:
                unread.pop()
                continue
            unread[-1] -= 1
            number = _order(data[position])
            layout = _layout(number.unpack_from(data, position + 1)[0])
            position += layout.header_bytes
            if layout.kind in _COLLECTIONS:
                if len(unread) >= MAX_DEPTH:
                    raise ValueError(f"geometries nest deeper than {MAX_DEPTH} levels")
                unread.append(number.unpack_from(data, position)[0])
                position += 4
            elif len(unread) == 1:
                return
            else:
                position = _leaf_end(data, position, number, layout)
    except (struct.error, IndexError):
        raise ValueError("the geometry is cut short") from None


def _order(mark: int) -> struct.Struct:
    if mark > 1:
        raise ValueError(f"no geometry begins with the byte {mark}")
    return _NUMBERS[mark]


@lru_cache(maxsize=64)
def _layout(code: int) -> _Layout:
    dimensions, kind = divmod(code & _ISO, 1000)
    flags = code & ~_ISO
    known = kind in _LEAVES or kind in _COLLECTIONS
    if not known or dimensions > 3 or flags & ~(_HAS_Z | _HAS_M | _HAS_SRID):
        raise ValueError(f"no known kind of geometry has the number {code}")
    has_z = bool(flags & _HAS_Z) or dimensions in (1, 3)
    has_m = bool(flags & _HAS_M) or dimensions in (2, 3)
    return _Layout(kind, _COORDINATE_BYTES * (2 + has_z + has_m), 9 if flags & _HAS_SRID else 5)


def _leaf_end(data: bytes, position: int, number: struct.Struct, layout: _Layout) -> int:
    """Where a geometry that holds no others ends; beyond the data if it is cut short."""
    if layout.kind == _POINT:
        return position + layout.point_bytes
    count: int = number.unpack_from(data, position)[0]
    position += 4
    if layout.kind in _LINES:
        return position + count * layout.point_bytes
    for _ in range(count):  # the rings of a polygon
        points: int = number.unpack_from(data, position)[0]
        position += 4 + points * layout.point_bytes
    return position
