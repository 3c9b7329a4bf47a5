"""Geometries in well-known binary (WKB), by shapely, as Booklet's `wkb`."""

from __future__ import annotations

from typing import Any, Final

import shapely
import shapely.wkb

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.core.wkb import check_nesting
from ebooklet.ports.serializer import Buffer

__all__ = ["WKB", "WkbSerializer"]


class WkbSerializer:
    """Geometries of shapely, with Z and M coordinates.

    As in Booklet, the SRID is not kept, and a linear ring comes back as a line string.
    """

    name: Final = "wkb"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Encode a geometry whose parts nest at most 200 levels deep."""
        if not isinstance(value, shapely.Geometry):
            raise encoding_failed(self.name, value, TypeError("only shapely's geometries can"))
        try:
            data: bytes = shapely.wkb.dumps(value)
            check_nesting(data)
        except Exception as exc:  # GEOS's errors, and those of kinds that WKB does not have
            raise encoding_failed(self.name, value, exc) from exc
        return data

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> shapely.Geometry:
        """Decode; lengths that the bytes only claim cost nothing."""
        try:
            plain = bytes(data)  # what shapely takes
            check_nesting(plain)
            return shapely.wkb.loads(plain)
        except Exception as exc:  # GEOS's errors
            raise decoding_failed(self.name, data, exc) from exc


WKB: Final = WkbSerializer()
