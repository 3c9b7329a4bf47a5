"""Feather from strangers: nothing runs, nothing is allocated on its word; and what pandas does."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from booklet import serializers as theirs

from ebooklet.core import serialization
from ebooklet.errors import SerializationError
from ebooklet.serializers.feather import claims
from ebooklet.serializers.feather.checks import needed_bytes
from ebooklet.serializers.feather.claims import batches, footer_start
from ebooklet.serializers.feather.geopandas import GEOPANDAS
from ebooklet.serializers.feather.pandas import PANDAS

MIB = 1 << 20
FRAME = pd.DataFrame({"number": np.arange(1000), "text": ["some text"] * 1000})
GEO = gpd.GeoDataFrame({"a": [1, 2]}, geometry=[shapely.Point(1, 2), None], crs="EPSG:2056")


def written(table: pa.Table, compression: str | None = "zstd", rows: int | None = None) -> bytes:
    """A table as a stranger may have written it, in batches of so many rows."""
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def told(data: bytes, part: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """The same file, with other metadata for pandas or geopandas."""
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    metadata = dict(table.schema.metadata)
    content = json.loads(metadata[part])
    change(content)
    return written(table.replace_schema_metadata({**metadata, part: json.dumps(content).encode()}))


class TestWhatIsClaimed:
    """Sizes are added up before Arrow sees them."""

    def test_claims_are_read_as_arrow_wrote_them(self) -> None:
        """Arrays and inflated bytes of each batch and dictionary are found."""
        frame = pd.DataFrame(
            {"n": np.arange(70_000), "k": pd.Categorical(["u", "v"] * 35_000), "l": [[1]] * 70_000}
        )
        found = list(batches(PANDAS.dumps(frame)))
        assert [batch.is_dictionary for batch in found] == [True, False, False]
        assert [batch.lengths for batch in found] == [(2,), (65_536,) * 4, (4464,) * 4]
        assert sum(batch.buffer_bytes for batch in found) >= 70_000 * (8 + 1 + 4 + 8)

    @pytest.mark.parametrize("claim", [1 << 30, 1 << 40, 1 << 62, -5])
    def test_an_inflated_size_that_is_only_claimed(self, claim: int) -> None:
        """A buffer that claims more than the limit is refused before anything is allocated."""
        data = PANDAS.dumps(FRAME)
        numbers = 8 * len(FRAME)  # what the first compressed buffer says it inflates to
        assert data.count(struct.pack("<q", numbers)) >= 1
        hostile = data.replace(struct.pack("<q", numbers), struct.pack("<q", claim), 1)
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        try:
            with pytest.raises(SerializationError):
                PANDAS.loads(hostile)
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < MIB

    def test_rows_that_take_no_bytes(self) -> None:
        """Nulls are stored as their number alone, which may be any."""
        data = written(pa.table({"a": pa.nulls(100_000_000)}))
        assert len(data) < 1000
        with pytest.raises(SerializationError, match=r"needs 800000000 bytes"):
            PANDAS.loads(data)

    def test_one_batch_listed_many_times(self) -> None:
        """Blocks of the footer that are the same bytes do not multiply the work."""
        data = written(pa.table({f"c{n}": [1, 2] * 50 for n in range(100)}), rows=1)
        assert len(list(batches(data))) == 100
        start, count = claims._vector(data, claims._root(data, footer_start(data)).field(3), 24)
        first, second = (struct.unpack_from("<q", data, start + at)[0] for at in (0, 24))
        tail = data[footer_start(data) : start] + data[start : start + 24] * count
        hostile = data[:second] + tail + data[start + 24 * count :]
        assert first < second < len(hostile) < len(data) // 2
        with pytest.raises(SerializationError, match="are the same bytes"):
            PANDAS.loads(hostile)

    @pytest.mark.parametrize("cut", range(0, 600, 7))
    def test_cut_anywhere(self, cut: int) -> None:
        """A file that lost some bytes in its middle is refused."""
        data = PANDAS.dumps(FRAME)
        with pytest.raises(SerializationError):
            PANDAS.loads(data[: len(data) - 10 - cut] + data[-10:] if cut else data[:-1])


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x" * 100], pa.string_view()),
        pa.array([b"x" * 100], pa.binary_view()),
        pa.array([[1]], pa.list_view(pa.int64())),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.RunEndEncodedArray.from_arrays(pa.array([1_000_000]), pa.array([7])),
        pa.UnionArray.from_dense(
            pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.nulls(1)]
        ),
        pa.array(
            [[{"a": [("k", 1)]}]], pa.list_(pa.struct({"a": pa.map_(pa.string(), pa.int8())}))
        ),
    ],
    ids=lambda column: str(column.type)[:30],
)
def test_types_that_multiply_are_refused(column: pa.Array) -> None:
    """A type whose elements may share what they hold could be small stored and huge in memory."""
    with pytest.raises(SerializationError, match="cannot be used"):
        PANDAS.loads(written(pa.table({"a": column})))


def test_extension_types_are_refused() -> None:
    """A type that some package registered with Arrow is not asked to make values."""
    storage = pa.array([b"x" * 16], pa.binary(16))
    data = written(pa.table({"a": pa.ExtensionArray.from_storage(pa.uuid(), storage)}))
    with pytest.raises(SerializationError, match="cannot be used"):
        PANDAS.loads(data)


@pytest.mark.parametrize(
    "offsets",
    [(0, 1 << 30, 24), (0, 24, 11), (-9, 11, 24), (0, 11, 1 << 30)],
    ids=["far off", "backwards", "negative", "beyond"],
)
def test_offsets_are_checked(offsets: tuple[int, int, int]) -> None:
    """Offsets that lead out of their buffer are found before anything is read through them."""
    data = written(pa.table({"a": ["eleven char", "thirteen char"]}), compression=None)
    right = struct.pack("<iii", 0, 11, 24)
    assert data.count(right) == 1
    with pytest.raises(SerializationError):
        PANDAS.loads(data.replace(right, struct.pack("<iii", *offsets)))


def test_indices_of_categories_are_checked() -> None:
    """So are the numbers that lead into a dictionary."""
    categories = pa.DictionaryArray.from_arrays(pa.array([7], pa.int8()), ["only one"], safe=False)
    with pytest.raises(SerializationError):
        PANDAS.loads(written(pa.table({"a": categories})))


class TestWhatPandasIsTold:
    """The metadata of pandas and geopandas are text that these evaluate."""

    @pytest.mark.parametrize("dtype", ["S1000000000", "U9999999", "(99999,)i8", "i8,i8,i8,i8,i8"])
    def test_dtypes_with_large_elements(self, dtype: str) -> None:
        """A dtype may not make one name of a column a gigabyte long."""

        def change(content: dict[str, object]) -> None:
            content["column_indexes"] = [
                {"name": None, "field_name": None, "pandas_type": dtype, "numpy_type": "object"}
            ]

        with pytest.raises(SerializationError, match="an element of a column would take"):
            PANDAS.loads(told(PANDAS.dumps(FRAME), b"pandas", change))

    @pytest.mark.parametrize("name", [["list"], 7, "x" * 1000])
    def test_dtypes_that_are_no_names(self, name: object) -> None:
        """What is no short text names no dtype."""

        def change(content: dict[str, object]) -> None:
            columns = content["columns"]
            assert isinstance(columns, list)
            columns[0]["numpy_type"] = name

        with pytest.raises(SerializationError, match="no name of one"):
            PANDAS.loads(told(PANDAS.dumps(FRAME), b"pandas", change))

    def test_literals_that_nest(self) -> None:
        """Names of columns with several levels are read as literals, so they may not be long."""
        frame = pd.DataFrame({("a", "b"): [1], ("a", "c"): [2]})
        assert PANDAS.loads(PANDAS.dumps(frame)).equals(frame)
        table = pa.ipc.open_file(pa.py_buffer(PANDAS.dumps(frame))).read_all()
        renamed = table.rename_columns(["(" * 100_000, "x"])
        with pytest.raises(SerializationError, match="too long"):
            PANDAS.loads(written(renamed.replace_schema_metadata(table.schema.metadata)))

    @pytest.mark.parametrize(
        "crs",
        [
            *("+init=/etc/passwd:root", "EPSG:4326", {"init": "/etc/passwd:root"}, ["EPSG:4326"]),
            {"type": "GeographicCRS", "proj": "longlat", "init": "/etc/passwd:root"},
            'GEOGCS["x",EXTENSION["PROJ4","+init=/etc/passwd:root"]]',
        ],
    )
    def test_reference_systems_are_projjson(self, crs: object) -> None:
        """No spelling of a reference system that could name a file gets to PROJ."""

        def change(content: dict[str, object]) -> None:
            columns = content["columns"]
            assert isinstance(columns, dict)
            columns["geometry"]["crs"] = crs

        with pytest.raises(SerializationError, match="PROJ"):
            GEOPANDAS.loads(told(GEOPANDAS.dumps(GEO), b"geo", change))

    def test_reference_systems_that_nest(self) -> None:
        """A reference system inside others without end is refused."""
        crs: object = {"type": "GeographicCRS"}
        for _ in range(100):
            crs = {"type": "BoundCRS", "source_crs": crs}

        def change(content: dict[str, object]) -> None:
            columns = content["columns"]
            assert isinstance(columns, dict)
            columns["geometry"]["crs"] = crs

        with pytest.raises(SerializationError, match="nests too deep"):
            GEOPANDAS.loads(told(GEOPANDAS.dumps(GEO), b"geo", change))

    def test_geometries_that_nest(self) -> None:
        """The geometries of a frame are looked at as single ones are."""
        table = pa.ipc.open_file(pa.py_buffer(GEOPANDAS.dumps(GEO))).read_all()
        deep = b"\x01\x07\x00\x00\x00\x01\x00\x00\x00" * 200_000
        column = pa.array([deep, None], table.schema.field("geometry").type)
        hostile = table.set_column(1, table.schema.field("geometry"), column)
        with pytest.raises(SerializationError, match="deeper than 200"):
            GEOPANDAS.loads(written(hostile))

    @pytest.mark.parametrize("encoding", ["point", "geoarrow.wkb", None])
    def test_other_encodings_are_refused(self, encoding: object) -> None:
        """Only the encoding that is written is read."""

        def change(content: dict[str, object]) -> None:
            columns = content["columns"]
            assert isinstance(columns, dict)
            columns["geometry"]["encoding"] = encoding

        with pytest.raises(SerializationError, match="not WKB"):
            GEOPANDAS.loads(told(GEOPANDAS.dumps(GEO), b"geo", change))


def test_what_compresses_too_well_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame beyond the largest ratio is stored with a gap: we, Booklet and pandas all read it."""
    monkeypatch.setattr(serialization, "FREE_INFLATION", 64 << 10)
    frame = pd.DataFrame({"zeros": np.zeros(4 * MIB, "i8")})
    stored = PANDAS.dumps(frame)
    plain = theirs.PdZstd.dumps(frame)
    assert len(plain) < len(stored) <= needed_bytes(stored) // 1000
    assert needed_bytes(stored) <= serialization.inflated_limit(len(stored))
    assert PANDAS.loads(stored).equals(frame)
    assert theirs.PdZstd.loads(stored).equals(frame)
    with pytest.raises(SerializationError, match="at most"):
        PANDAS.loads(plain)


def test_what_a_frame_keeps() -> None:
    """Index, attributes and pandas' own types come back; cells that are lists come back as arrays."""
    frame = pd.DataFrame(
        {
            "period": pd.period_range("2026", periods=4, freq="M"),
            "interval": pd.interval_range(0, 4),
            "nullable": pd.array([1, None, 3, None], dtype="Int64"),
            "bytes": [b"\x00", b"", None, b"x"],
            "dict": [{"a": 1, "b": "x"}] * 4,
        },
        index=pd.MultiIndex.from_product([[1, 2], ["x", "y"]], names=["u", "v"]),
    )
    frame.attrs = {"source": "a test"}
    back = PANDAS.loads(PANDAS.dumps(frame))
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == frame.attrs
    lists = PANDAS.loads(PANDAS.dumps(pd.DataFrame({"list": [[1, 2], []]})))
    assert [list(cell) for cell in lists["list"]] == [[1, 2], []]


def test_labels_come_back_or_are_refused() -> None:
    """Numbers, times and levels do; what Arrow would change, or pandas not read, is not stored."""
    times = pd.date_range("2026", periods=2)
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    kept: list[Any] = [[0, 7], [0.5, 1], times, levels, pd.Index(["a", "b"], name="x")]
    for labels in kept:
        frame = pd.DataFrame([[1, 2]], columns=labels)
        back = PANDAS.loads(PANDAS.dumps(frame))
        pd.testing.assert_frame_equal(back, frame, check_freq=False)
    changed: list[Any] = [
        *(["a", 1], [True, False], times.date, times - times[0], times.to_period("D")),
        *(pd.CategoricalIndex(["a", "b"]), pd.MultiIndex.from_tuples([("a", 1), ("a", "x")])),
        pd.Index(["a", "b"], name=("x", 1)),
    ]
    for labels in changed:
        with pytest.raises(SerializationError, match="labels of its columns"):
            PANDAS.dumps(pd.DataFrame([[1, 2]], columns=labels))
    named = pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("a", 1)], names=["x", 1]))
    with pytest.raises(SerializationError, match="name of its index"):
        PANDAS.dumps(named)
    with pytest.raises(SerializationError, match="labels of its columns"):
        GEOPANDAS.dumps(GEO.rename(columns={"a": 1}))
