"""Every built-in serializer passes the contract that third parties' do."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import uuid
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ebooklet.core.dictionaries import Dictionaries, train
from ebooklet.ports.serializer import BufferSerializer, Dictionary, Serializer
from ebooklet.serializers.array import NUMPY
from ebooklet.serializers.cbor import CBOR
from ebooklet.serializers.custom import CustomSerializer
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
from ebooklet.serializers.zstd import TrainedZstdSerializer, ZstdSerializer
from ebooklet.testing.serializer_contract import JSON_VALUES, SerializerContract

CYCLE: list[object] = []
CYCLE.append(CYCLE)

DEEP: list[object] = []
for _ in range(200_000):
    DEEP = [DEEP]

CBOR_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.uuids()
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=10) | st.integers(), inner, max_size=5)
    ),
    max_leaves=20,
)


def npy(descr: str, shape: str, elements: bytes = b"") -> bytes:
    """A file of numpy's own format, whatever its header says."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + elements


ARRAYS = st.lists(st.integers(-128, 127), max_size=20).map(lambda items: np.array(items, "i8"))

POINTS = st.tuples(st.floats(-180, 180), st.floats(-90, 90)).map(shapely.Point)
GEOMETRIES = st.recursive(
    POINTS | POINTS.map(lambda point: point.buffer(1, quad_segs=2)),
    lambda inner: st.lists(inner, max_size=3).map(shapely.GeometryCollection),
    max_leaves=5,
)

ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.booleans(),
        st.text(max_size=9) | st.none(),
        st.sampled_from(["a", "b"]),
        st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC)),
    ),
    max_size=6,
)


def _frame(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    kinds = ("int64", "float64", "bool", "str", "category", "datetime64[us, UTC]")
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    names = "abcdef"
    return pd.DataFrame(
        {n: pd.Series(list(c), dtype=k) for n, c, k in zip(names, columns, kinds, strict=True)}
    )


def _geoframe(rows: list[tuple[str, object]], crs: pyproj.CRS | None) -> gpd.GeoDataFrame:
    names = pd.Series([name for name, _ in rows], dtype="str")
    geometries = [geometry for _, geometry in rows]
    return gpd.GeoDataFrame({"name": names}, geometry=geometries, crs=crs)


def _dictionary() -> Dictionary:
    rows = [f'{{"id": {n}, "name": "value {n * 7 % 97}", "ok": true}}' for n in range(2_000)]
    trained = train([row.encode() for row in rows], 1_000_000, level=3)
    assert trained is not None
    return trained


DICTIONARY = _dictionary()


class _Reversed:
    """A serializer as users of Booklet write them."""

    @staticmethod
    def dumps(value: bytes) -> bytes:
        return value[::-1]

    @staticmethod
    def loads(data: bytes) -> bytes:
        return data[::-1]


class TestBytes(SerializerContract):
    values = st.binary()
    refused = ("text", None, 1, [b"x"])

    @pytest.fixture
    def serializer(self) -> Serializer:
        return BYTES


class TestStr(SerializerContract):
    values = st.text()
    refused = (b"bytes", None, 1, "\ud800")
    unreadable = (b"\xff", b"\xed\xa0\x80")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return STR


class TestPickle(SerializerContract):
    values = CBOR_VALUES
    refused = (lambda: None, DEEP)
    unreadable = (b"", b"\x80", b"cno_such_module\nthing\n.")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return PICKLE


class TestJson(SerializerContract):
    refused = (object(), b"bytes", {1, 2}, {(1, 2): 3}, CYCLE, DEEP)
    unreadable = (b"", b"{", b"\xff", b"nul", b"1 2", b"[" * 100_000, b"9" * 5000)

    @pytest.fixture
    def serializer(self) -> Serializer:
        return JSON


class TestOrjson(SerializerContract):
    refused = (object(), b"bytes", {1, 2}, CYCLE, DEEP, 1 << 70, "\ud800")
    unreadable = (b"", b"{", b"\xff", b"nul", b"NaN", b"[" * 100_000)

    @pytest.fixture
    def serializer(self) -> Serializer:
        return ORJSON


class TestCbor(SerializerContract):
    values = CBOR_VALUES
    refused = (object(), CYCLE, DEEP, "\ud800")
    unreadable = (
        b"",
        b"\x5b" + b"\x7f" * 8,
        b"\x9a\x10\x00\x00\x00",
        b"\x81" * 5000 + b"\x00",
        b"\xd8\x1d\x05",
    )

    @pytest.fixture
    def serializer(self) -> Serializer:
        return CBOR


class TestMsgpack(SerializerContract):
    values = JSON_VALUES | st.dictionaries(st.integers(0, 9), st.binary(max_size=9), max_size=3)
    refused = (object(), {1, 2}, CYCLE, DEEP, 1 << 70, "\ud800")
    unreadable = (
        b"",
        b"\xc1",
        b"1 2",
        b"\xc6\x7f\xff\xff\xff",
        b"\xdd\x7f\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
        b"\x81\x80\x00",
        b"\x91" * 5000 + b"\x00",
    )

    @pytest.fixture
    def serializer(self) -> Serializer:
        return MSGPACK


class TestInteger(SerializerContract):
    values = st.integers(0, 127)
    refused = (1 << 64, -1 << 64, 1.0, "1", None, [1])
    unreadable = (b"", bytes(3), bytes(9))

    @pytest.fixture(params=[(w, signed) for w in (1, 2, 4, 5, 8) for signed in (False, True)])
    def serializer(self, request: pytest.FixtureRequest) -> Serializer:
        width, signed = request.param
        return IntegerSerializer(width, signed=signed)


class TestNumpyInteger(SerializerContract):
    values = ARRAYS
    refused = (
        *(1, [1], None, np.array(["1"]), np.array([1j]), np.array([object()], object)),
        *(np.array([2.5]), np.array([np.nan]), np.array([2.0**63]), np.array([1 << 63], "u8")),
        *(np.array([0], "M8[s]"), np.ma.array([1, 2], mask=[True, False])),
    )

    @pytest.fixture(params=[1, 2, 4, 8])
    def serializer(self, request: pytest.FixtureRequest) -> Serializer:
        return NumpyIntegerSerializer(request.param)

    def same(self, one: Any, other: Any) -> bool:
        return np.array_equal(one, other)


class TestNumpyIntegerZstd(SerializerContract):
    values = ARRAYS
    refused = ([1],)
    unreadable = (b"", b"x")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return ZstdSerializer(NumpyIntegerSerializer(8))

    def same(self, one: Any, other: Any) -> bool:
        return np.array_equal(one, other)


class TestNumpy(SerializerContract):
    values = npst.arrays(
        st.sampled_from(["u1", "<i8", ">i2", "<f4", "<f8", "?", "<c16", "<M8[us]", "<U3", "S2"]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ).flatmap(
        lambda array: st.sampled_from(
            [array, np.asfortranarray(array), array[::-1]] if array.ndim else [array]
        )
    )
    refused = (
        *(1, [1], None, np.array([object()]), np.array([(1, 2)], "i4,i4"), np.longdouble(1)),
        *(np.ma.array([1, 2], mask=[True, False]), np.array([b""], "V0")),
    )
    unreadable = (
        *(b"", b"x", npy("'|O'", "(1,)", bytes(8)), npy("'<i8'", "(2,)", bytes(8))),
        *(npy("'<i8'", "(1099511627776, 1048576)"), npy("'<i8'", "(-1, -1)", bytes(8))),
        *(
            npy("'<i8'", "(0, -1)"),
            npy("'S0'", "(1099511627776,)"),
            npy("'<U1'", "(1,)", b"\xff" * 4),
        ),
        *(
            npy("'>U1'", "(1,)", b"\xff" * 4),
            npy("'?'", "(1,)", b"\2"),
            npy("'(9,)i8'", "(1,)", bytes(72)),
        ),
        *(
            npy("[('a', '<i8')]", "(1,)", bytes(8)),
            npy("'<i8'", "(1,) * 9", bytes(8)),
            npy("'<M8[xy]'", "(1,)", bytes(8)),
        ),
        *(npy("'<f16'", "(1,)", bytes(16)), npy("(" * 1000, "(1,)"), npy("'<i8'", "(1,), 'x': 1")),
        b"\x93NUMPY\x03\x00" + bytes(60),
    )

    @pytest.fixture
    def serializer(self) -> Serializer:
        return NUMPY

    def same(self, one: Any, other: Any) -> bool:
        return (one.dtype, one.shape, one.flags.writeable) == (
            other.dtype,
            other.shape,
            False,
        ) and one.tobytes() == other.tobytes()


class TestPandas(SerializerContract):
    values = ROWS.map(_frame)
    refused: tuple[Any, ...] = (
        *({}, None, pd.Series([1]), gpd.GeoDataFrame(geometry=[shapely.Point(1, 2)])),
        *(pd.DataFrame({"a": [object()]}), pd.DataFrame({"a": [1, "x"]})),
        pd.DataFrame({"a": [1j]}),
    )
    unreadable = (b"", b"ARROW1", b"FEA1" + bytes(40) + b"FEA1", b"ARROW1\0\0" * 5 + b"ARROW1")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return PANDAS

    def same(self, one: Any, other: Any) -> bool:
        return type(one) is type(other) and bool(one.equals(other))


class TestGeopandas(SerializerContract):
    values = st.builds(
        _geoframe,
        st.lists(st.tuples(st.text(max_size=9), GEOMETRIES | st.none()), max_size=3),
        # Reading a reference system takes 30 ms, all the rest 3 ms.
        st.sampled_from([None, None, None, pyproj.CRS("EPSG:4326")]),
    )
    refused: tuple[Any, ...] = ({}, None, pd.DataFrame({"a": [1]}), shapely.Point(1, 2))
    unreadable = (b"", b"ARROW1", PANDAS.dumps(pd.DataFrame({"a": [1]})))

    @pytest.fixture
    def serializer(self) -> Serializer:
        return GEOPANDAS

    def same(self, one: Any, other: Any) -> bool:
        return type(one) is type(other) and one.crs == other.crs and bool(one.equals(other))


class TestWkb(SerializerContract):
    values = GEOMETRIES
    refused = ("POINT (1 2)", None, (1, 2), b"\x01")
    unreadable = (
        *(b"", b"\x01", b"\x01\x0f\x00\x00\x00" + bytes(20), b"POINT (1 2)"),
        b"\x01\x02\x00\x00\x00\xff\xff\xff\x7f",
        b"\x01\x07\x00\x00\x00\x01\x00\x00\x00" * 200_000,
    )

    @pytest.fixture
    def serializer(self) -> Serializer:
        return WKB


class TestWkbZstd(SerializerContract):
    values = GEOMETRIES
    refused = ("POINT (1 2)",)
    unreadable = (b"", b"x")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return ZstdSerializer(WKB)


class TestJsonZstd(SerializerContract):
    refused = (object(), DEEP)
    unreadable: tuple[bytes, ...] = (b"", b"x", b"{}", b"\x28\xb5\x2f\xfd")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return ZstdSerializer(JSON)


class TestJsonZstdAtAnotherLevel(TestJsonZstd):
    @pytest.fixture
    def serializer(self) -> Serializer:
        return ZstdSerializer(JSON, 9)


class TestJsonZstdWithoutADictionary(TestJsonZstd):
    unreadable = (*TestJsonZstd.unreadable, b"\x28\xb5\x2f\xfd\x23\x07\x00\x00\x00\x01\x01\x00\x00")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return TrainedZstdSerializer(JSON)


class TestJsonZstdWithADictionary(TestJsonZstd):
    @pytest.fixture
    def serializer(self) -> Serializer:
        known = Dictionaries()
        known.add((DICTIONARY,))
        return TrainedZstdSerializer(JSON, 3, known)


class TestZstdAroundAThirdPartys(SerializerContract):
    """What has only `dumps` and `loads` composes as well."""

    values = st.binary()
    refused = ("text", None)
    unreadable = (b"", b"x")

    @pytest.fixture
    def serializer(self) -> Serializer:
        class Third:
            name = "third"
            safe = True
            dumps = staticmethod(BYTES.dumps)
            loads = staticmethod(BYTES.loads)

        assert not isinstance(Third(), BufferSerializer)
        return ZstdSerializer(Third())


class TestZstd(SerializerContract):
    values = st.binary()
    refused = ("text", None)
    unreadable = (b"", b"x", b"plain")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return ZstdSerializer(BYTES)


class TestPickleZstd(SerializerContract):
    values = JSON_VALUES
    refused = (lambda: None,)
    unreadable = (b"", b"x")

    @pytest.fixture
    def serializer(self) -> Serializer:
        return ZstdSerializer(PICKLE)


class TestCustom(SerializerContract):
    values = st.binary()
    refused = (1, "text", None)

    @pytest.fixture
    def serializer(self) -> Serializer:
        return CustomSerializer(_Reversed)


def test_cbor_keeps_what_json_cannot() -> None:
    """CBOR gives back sets, dates, decimals, UUIDs and large integers as they were."""
    value = {
        "set": {1, 2},
        "date": dt.date(2026, 1, 2),
        "decimal": decimal.Decimal("1.50"),
        "uuid": uuid.UUID(int=7),
        7: 1 << 100,
    }
    assert CBOR.loads(CBOR.dumps(value)) == value


def test_cbor_reads_the_deepest_value_it_writes() -> None:
    """What was accepted can be read again: lists and sets at the greatest depth alike."""
    nested: object = 1
    as_set: object = 1
    for _ in range(400):
        nested, as_set = [nested], frozenset({as_set})
    assert CBOR.loads(CBOR.dumps(nested)) == nested
    assert CBOR.loads(CBOR.dumps(as_set)) == as_set


class TestContractItself:
    """The base class keeps its word."""

    def test_a_hidden_test_is_refused(self) -> None:
        """Replacing a contract test is a TypeError at class creation, not a silent pass."""
        with pytest.raises(TypeError, match="test_the_name_is_canonical"):

            class Cheat(TestStr):
                def test_the_name_is_canonical(self, serializer: Serializer) -> None:
                    """Says nothing."""

    def test_a_deviation_must_name_a_test_and_a_reason(self) -> None:
        """A typo in `deviations`, or an empty reason, is a TypeError."""
        with pytest.raises(TypeError, match="name no test"):

            class Typo(SerializerContract):
                deviations: ClassVar[dict[str, str]] = {"test_nothing": "because"}

        with pytest.raises(TypeError, match="give no reason"):

            class Silent(SerializerContract):
                deviations: ClassVar[dict[str, str]] = {"test_the_name_is_canonical": " "}


class TestDeviation(SerializerContract):
    """A listed deviation is expected to fail (strictly), and the other tests still run."""

    values = st.binary()
    deviations: ClassVar[dict[str, str]] = {
        "test_the_name_is_canonical": "its name is not one, to show that deviations work"
    }

    @pytest.fixture
    def serializer(self) -> Serializer:
        class Odd:
            name = "zstd+zstd"
            safe = True
            dumps = staticmethod(BYTES.dumps)
            loads = staticmethod(BYTES.loads)

        return Odd()


def test_numpy_reads_what_numpy_writes_and_the_reverse() -> None:
    """A stored array is a file of numpy's own format, for `numpy.load` without pickles."""
    for array in (np.arange(6.0).reshape(2, 3).T, np.array(["a", "bc"]), np.array(7, ">i2")):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        assert NUMPY.dumps(array) == file.getvalue()
        assert np.array_equal(np.load(io.BytesIO(NUMPY.dumps(array)), allow_pickle=False), array)
