"""Geometries that nest: refused where GEOS would end the process, read where it would not."""

from __future__ import annotations

import struct

import pytest
import shapely

from ebooklet.core.wkb import MAX_DEPTH, check_nesting
from ebooklet.errors import SerializationError
from ebooklet.serializers.wkb import WKB

POINT = b"\x01" + struct.pack("<Idd", 1, 1.0, 2.0)
COLLECTIONS = {4: "multipoint", 5: "multilinestring", 6: "multipolygon", 7: "collection"}


def nested(levels: int, kind: int = 7, flags: int = 0, srid: bytes = b"") -> bytes:
    """A point within `levels` collections of one member."""
    level = b"\x01" + struct.pack("<I", kind | flags) + srid + struct.pack("<I", 1)
    return level * levels + POINT


@pytest.mark.parametrize("levels", [MAX_DEPTH, 100_000])
@pytest.mark.parametrize("kind", COLLECTIONS)
@pytest.mark.parametrize("flags", [0, 0x8000_0000, 1000], ids=["2D", "EWKB Z", "ISO Z"])
def test_deep_nests_are_refused(levels: int, kind: int, flags: int) -> None:
    """What nests too deep raises and ends nobody's process, whatever the kind says it holds."""
    number = kind + flags
    with pytest.raises(SerializationError, match="deeper than 200"):
        WKB.loads(nested(levels, number))


def test_deep_nests_with_srids_are_refused() -> None:
    """The SRID that each level may carry does not hide the next one."""
    with pytest.raises(SerializationError, match="deeper than 200"):
        WKB.loads(nested(MAX_DEPTH, 7, 0x2000_0000, srid=struct.pack("<I", 4326)))


def test_deep_nests_as_text_are_refused() -> None:
    """shapely takes hexadecimal digits for bytes; long ones are refused."""
    with pytest.raises(SerializationError, match="begins with the byte 48"):
        WKB.loads(nested(100_000).hex().encode())


@pytest.mark.parametrize("order", [0, 1], ids=["big endian", "little endian"])
def test_large_geometries_are_followed(order: int) -> None:
    """Polygons with holes, lines and points, in either byte order, are walked over exactly."""
    polygon = shapely.Point(0, 0).buffer(9).difference(shapely.Point(0, 0).buffer(1))
    parts = [polygon, shapely.LineString([(0, 0, 1), (2, 3, 4)]), shapely.Point(1, 2)]
    value = shapely.GeometryCollection([shapely.GeometryCollection(parts * 20)] * 5)
    data = shapely.to_wkb(value, byte_order=order)
    check_nesting(data)
    assert WKB.loads(data) == value
    with pytest.raises(SerializationError):
        WKB.loads(data[:-1])


def test_the_deepest_value_comes_back() -> None:
    """What may be stored can be read again, up to the limit; what is deeper is not stored."""
    value: shapely.Geometry = shapely.Point(1, 2)
    for _ in range(MAX_DEPTH - 1):
        value = shapely.GeometryCollection([value])
    assert WKB.loads(WKB.dumps(value)) == value
    with pytest.raises(SerializationError, match="deeper than 200"):
        WKB.dumps(shapely.GeometryCollection([shapely.GeometryCollection([value])]))


@pytest.mark.parametrize("kind", [0, *range(2, 18)])  # a point claims nothing
def test_claimed_counts_cost_nothing(kind: int) -> None:
    """A short geometry that claims two thousand million parts is refused at once."""
    data = b"\x01" + struct.pack("<II", kind, 0x7FFF_FFFF) + bytes(5)
    with pytest.raises(SerializationError):
        WKB.loads(data)
    with pytest.raises(SerializationError):
        WKB.loads(nested(1)[:9] + data * 200)
