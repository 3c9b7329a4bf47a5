"""geopandas' data frames, as Booklet's `gpd_zstd`: geometries as WKB in Feather."""

from __future__ import annotations

import json
import threading
from typing import Any, Final

import geopandas as gpd
import pyarrow as pa

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.core.wkb import check_nesting
from ebooklet.ports.serializer import Buffer
from ebooklet.serializers.feather.checks import checked_table
from ebooklet.serializers.feather.writing import feather

__all__ = ["GEOPANDAS", "GeopandasSerializer"]

_MAX_CRS_DEPTH: Final = 64  # of JSON inside JSON; what PROJ writes has less than 20
# geopandas silences warnings by `catch_warnings`, which one thread may undo under another.
_one_at_a_time: Final = threading.Lock()


class GeopandasSerializer:
    """Data frames with geometries and their coordinate reference systems."""

    name: Final = "gpd_zstd"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Write Feather with zstd at level 1 inside."""
        if not isinstance(value, gpd.GeoDataFrame):
            raise encoding_failed(self.name, value, TypeError("only geopandas' data frames can"))
        try:
            with _one_at_a_time:
                return feather(value)
        except Exception as exc:  # Arrow's and geopandas' errors, and those of what a cell holds
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> gpd.GeoDataFrame:
        """Read Feather, once all of it has been checked."""
        try:
            _check_geometries(checked_table(data))
            return gpd.read_feather(pa.BufferReader(data))
        except Exception as exc:  # Arrow's, GEOS's, PROJ's and geopandas' errors
            raise decoding_failed(self.name, data, exc) from exc


def _check_geometries(table: pa.Table) -> None:
    """Refuse what geopandas would hand to GEOS and PROJ and these have no limits for."""
    told = json.loads((table.schema.metadata or {})[b"geo"])
    for name, column in told["columns"].items():
        if column["encoding"] != "WKB":
            raise ValueError("the geometries of a column are not WKB")
        _check_crs(column.get("crs"))
        for index in table.schema.get_all_field_indices(name):
            _check_column(table.column(index))


def _check_column(column: pa.ChunkedArray) -> None:
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise ValueError("the geometries of a column are not binary")
    for geometry in column:
        if geometry.is_valid:
            check_nesting(geometry.as_py())


def _check_crs(crs: object) -> None:
    """Take a coordinate reference system only as PROJJSON, which geopandas writes.

    The other spellings that PROJ understands can name files of this machine (`+init=`).
    """
    if crs is None:
        return
    if not isinstance(crs, dict) or not str(crs.get("type")).endswith("CRS"):
        raise ValueError("the coordinate reference system is not PROJJSON")
    if {"proj", "init"} & crs.keys():
        raise ValueError("the coordinate reference system is a PROJ string, not PROJJSON")
    level: list[object] = [crs]
    for _ in range(_MAX_CRS_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]  # `level` has only dicts and lists
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError("the coordinate reference system nests too deep")


GEOPANDAS: Final = GeopandasSerializer()
