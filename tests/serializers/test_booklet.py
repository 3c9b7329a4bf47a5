"""Files go both ways between plain Booklet and our serializers of the same name."""

from __future__ import annotations

from pathlib import Path

import booklet
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from booklet import serializers as theirs

from ebooklet.core.serializer_names import BOOKLET_NAMES
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.feather.geopandas import GEOPANDAS
from ebooklet.serializers.feather.pandas import PANDAS
from ebooklet.serializers.integer import IntegerSerializer
from ebooklet.serializers.json import JSON
from ebooklet.serializers.msgpack import MSGPACK
from ebooklet.serializers.numpy import NumpyIntegerSerializer
from ebooklet.serializers.orjson import ORJSON
from ebooklet.serializers.pickle import PICKLE
from ebooklet.serializers.raw import BYTES
from ebooklet.serializers.text import STR
from ebooklet.serializers.wkb import WKB
from ebooklet.serializers.zstd import ZstdSerializer
from tests.same_values import assert_same

JSONISH = {"a": [1, 2.5, None, "é"], "b": {"c": "x" * 500}}
GEOMETRY = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.Point(5, 5).buffer(1)])
FRAME = pd.DataFrame(
    {
        "number": np.arange(300),
        "text": ["ü", None, "x"] * 100,
        "kind": pd.Categorical(["a", "b", "a"] * 100),
        "list": [[1, 2], [], [3]] * 100,
        "when": pd.date_range("2026-01-01", periods=300, tz="Europe/Berlin"),
    }
)
CASES: list[tuple[str, Serializer, object]] = [
    ("bytes", BYTES, b"\x00\xff" * 100),
    ("str", STR, "grüße"),
    ("pickle", PICKLE, {("a", 1): {2, 3}}),
    ("json", JSON, JSONISH),
    ("orjson", ORJSON, JSONISH),
    ("zstd", ZstdSerializer(BYTES), b"compress me " * 100),
    ("pickle_zstd", ZstdSerializer(PICKLE), {("a", 1): "x" * 1000}),
    ("orjson_zstd", ZstdSerializer(ORJSON), JSONISH),
    ("msgpack", MSGPACK, {**JSONISH, "bytes": b"\x00"}),
    ("msgpack_zstd", ZstdSerializer(MSGPACK), {**JSONISH, "bytes": b"\x00" * 100}),
    *(
        (f"uint{width}", IntegerSerializer(width, signed=False), (1 << 8 * width) - 1)
        for width in (1, 2, 4, 5, 8)
    ),
    *(
        (f"int{width}", IntegerSerializer(width, signed=True), -(1 << 8 * width - 1))
        for width in (1, 2, 4, 5, 8)
    ),
    *(
        (f"numpy_int{width}", NumpyIntegerSerializer(width), np.array([-128, 0, 127], "i8"))
        for width in (1, 2, 4, 8)
    ),
    *(
        (
            f"numpy_int{width}_zstd",
            ZstdSerializer(NumpyIntegerSerializer(width)),
            np.arange(1000) % 99,
        )
        for width in (2, 4, 8)
    ),
    ("pd_zstd", PANDAS, FRAME),
    ("gpd_zstd", GEOPANDAS, gpd.GeoDataFrame({"a": [1]}, geometry=[GEOMETRY], crs=2056)),
    ("wkb", WKB, GEOMETRY),
    ("wkb_zstd", ZstdSerializer(WKB), GEOMETRY),
]


@pytest.mark.parametrize(("name", "ours", "value"), CASES, ids=[case[0] for case in CASES])
class TestBothWays:
    """Each of the names that both know."""

    def test_the_bytes_are_the_same(self, name: str, ours: Serializer, value: object) -> None:
        """Both write the same bytes, so a value does not change when the other rewrites it."""
        assert ours.dumps(value) == theirs.serial_dict[name].dumps(value)

    def test_names_agree(self, name: str, ours: Serializer, value: object) -> None:
        """Our canonical name is the one that Booklet stores."""
        assert ours.name == name

    def test_booklet_reads_what_we_write(
        self, name: str, ours: Serializer, value: object, tmp_path: Path
    ) -> None:
        """A value stored raw by us comes back from a plain Booklet that names nothing."""
        path = tmp_path / "file.blt"
        with booklet.open(path, "n", key_serializer="str", value_serializer=name) as file:
            file.set("k", ours.dumps(value), encode_value=False)
        with booklet.open(path) as file:
            assert_same(file["k"], value)

    def test_we_read_what_booklet_writes(
        self, name: str, ours: Serializer, value: object, tmp_path: Path
    ) -> None:
        """The raw bytes of a plain Booklet's value give the value."""
        path = tmp_path / "file.blt"
        with booklet.open(path, "n", key_serializer="str", value_serializer=name) as file:
            file["k"] = value
        with booklet.open(path) as file:
            _, raw = file.get_timestamp("k", include_value=True, decode_value=False)
        assert_same(ours.loads(raw), value)


def test_every_name_has_a_case() -> None:
    """None of Booklet's serializers is left out."""
    assert {name for name, _, _ in CASES} == set(booklet.available_serializers) - {None}


def test_booklets_numbers_are_ours() -> None:
    """The table of names stands in the order that Booklet's file headers number."""
    assert tuple(theirs.serial_name_dict) == BOOKLET_NAMES
    assert list(theirs.serial_name_dict.values()) == list(range(1, len(BOOKLET_NAMES) + 1))
