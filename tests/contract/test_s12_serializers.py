"""Serializers, named, missing, one's own, and those of strangers (CONTRACT §12)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import booklet
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

import ebooklet
from ebooklet.core.serializer_names import BOOKLET_NAMES
from ebooklet.plugins.groups import SERIALIZERS
from ebooklet.plugins.registry import Registry, installed_entry_points
from ebooklet.services.request import FLAGS, Flag
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place
from tests.same_values import assert_same

JSONISH = {"text": "grüße", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}}
ARRAY = np.array([-128, 0, 127] * 20)
SHAPE = shapely.box(0, 0, 2, 2).difference(shapely.Point(1, 1).buffer(0.5))
VALUES: dict[str | None, list[Any]] = {
    **{key: [b"\x00\xff" * 50, b""] for key in (None, "bytes", "zstd")},
    "str": ["grüße", "", "line\nline\0"],
    **{key: [{("a", 1): {2, 3}}, None, dict] for key in ("pickle", "pickle_zstd")},
    **{key: [JSONISH, None, "x", 1 << 53] for key in ("json", "orjson")},
    **{key: [JSONISH, None] for key in ("orjson_zstd", "json+zstd")},
    **{key: [JSONISH, {"bytes": b"\x00"}, None] for key in ("msgpack", "msgpack_zstd", "cbor")},
    **{f"uint{n}": [0, 1, (1 << 8 * n) - 1] for n in (1, 2, 4, 5, 8)},
    **{f"int{n}": [-(1 << 8 * n - 1), -1, 0, (1 << 8 * n - 1) - 1] for n in (1, 2, 4, 5, 8)},
    **{f"numpy_int{n}": [ARRAY, ARRAY[:0]] for n in (1, 2, 4, 8)},
    **{f"numpy_int{n}_zstd": [ARRAY, ARRAY[:0]] for n in (2, 4, 8)},
    "pd_zstd": [pd.DataFrame({"a": [1, 2], "b": ["x", None]}), pd.DataFrame({"a": [1.5]})],
    "gpd_zstd": [gpd.GeoDataFrame({"a": [1]}, geometry=[SHAPE], crs=2056)],
    **{key: [SHAPE, shapely.Point(1, 2, 3)] for key in ("wkb", "wkb_zstd")},
}
PICKLES = ("pickle", "pickle_zstd", "pickle+zstd")


class Reversed:
    """A serializer as users of Booklet write them."""

    @staticmethod
    def dumps(value: str) -> bytes:
        return value[::-1].encode()

    @staticmethod
    def loads(data: bytes) -> str:
        return data.decode()[::-1]


class Odd:
    """A serializer that is registered here and nowhere else."""

    name = "antigravity"
    safe = True
    dumps = loads = staticmethod(bytes)


ODD = Odd()


def header(path: Path) -> tuple[int, int]:
    """Booklet's numbers of the value and the key serializer of a file."""
    raw = path.read_bytes()[:200]
    return int.from_bytes(raw[29:31], "little"), int.from_bytes(raw[31:33], "little")


def test_every_name_has_values() -> None:
    """None of the names that Booklet lists is left out of the tests below."""
    assert set(booklet.available_serializers) <= VALUES.keys()
    assert tuple(booklet.available_serializers) == BOOKLET_NAMES


@pytest.mark.parametrize("place", ["memory", "seaweedfs"], indirect=True)
@pytest.mark.parametrize("name", VALUES)
class TestEveryName:
    """Each name, from the writer through the remote to a reader who names nothing."""

    def test_round_trip(self, place: Place, name: str | None) -> None:
        """What is set is read back, from the file and from the remote; plain Booklet reads it."""
        values = {f"k{number}": value for number, value in enumerate(VALUES[name])}
        with place.open(value_serializer=name or "bytes") as db:
            db.update(values)
            assert db.push()
        path = place.path("a")
        assert path is not None
        with place.open(flag="r") as warm, place.open(file="b", flag="r") as cold:
            assert cold.keys() == values.keys()
            for key, value in values.items():
                assert_same(warm[key], cold[key])
                assert_same(cold[key], _as_it_comes_back(name, value))
        number, keys = header(path)
        known = name in booklet.available_serializers
        expected = (
            booklet.available_serializers.index(None if name == "bytes" else name) + 1
            if known
            else 0
        )
        assert (number, keys) == (expected, 2)
        if known:
            with booklet.open(path) as file:
                for key, value in values.items():
                    assert_same(file.get(key), _as_it_comes_back(name, value))

    def test_a_file_made_by_booklet(self, place: Place, name: str | None) -> None:
        """A file that plain Booklet made opens with `w`, and is pushed as it is."""
        if name not in booklet.available_serializers:
            return  # not Booklet's
        values = {f"k{number}": value for number, value in enumerate(VALUES[name])}
        path = place.path("a")
        assert path is not None
        with booklet.open(path, "n", key_serializer="str", value_serializer=name) as file:
            for key, value in values.items():
                file[key] = value
            file.set_metadata({"made": "by booklet"})
        with place.open(flag="w") as db:
            assert {change["key"] for change in db.changes()} == values.keys()
            assert db.push()
        with place.open(file="b", flag="r") as cold:
            assert cold.get_metadata() == {"made": "by booklet"}
            for key, value in values.items():
                assert_same(cold[key], _as_it_comes_back(name, value))


def _as_it_comes_back(name: str | None, value: Any) -> Any:
    """A value as its format gives it back: arrays in the width of the name."""
    if isinstance(value, np.ndarray):
        assert name is not None
        return value.astype(f"<i{name.removeprefix('numpy_int')[0]}")
    return value


class TestLimits:
    """What a format cannot hold is refused when it is set, or is known to change."""

    @pytest.mark.parametrize("name", ["json", "orjson", "msgpack", "orjson_zstd", "json+zstd"])
    def test_json_kinds(self, tmp_path: Path, name: str) -> None:
        """Tuples come back as lists; keys of dicts, but for msgpack, as text."""
        with ebooklet.open("memory://limits", None, "n", name) as db:
            db["tuple"] = (1, (2, 3))
            db["keys"] = {1: "one"}
            assert db["tuple"] == [1, [2, 3]]
            assert db["keys"] == ({1: "one"} if name == "msgpack" else {"1": "one"})

    def test_not_a_number(self) -> None:
        """`json` keeps NaN, `orjson` makes it None."""
        with ebooklet.open("memory://nan", None, "n", "json") as db:
            db["nan"] = math.nan
            assert math.isnan(db["nan"])
        with ebooklet.open("memory://nan-or", None, "n", "orjson") as db:
            db["nan"] = math.nan
            assert db["nan"] is None

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("str", b"bytes"), ("str", 1), ("str", None), ("bytes", "text"), ("bytes", None)),
            *(("uint1", 256), ("uint1", -1), ("int1", 128), ("int8", 1 << 63), ("uint4", 1.5)),
            *(("numpy_int1", np.array([128])), ("numpy_int4_zstd", np.array([1 << 40]))),
            *(("numpy_int8", [1, 2]), ("wkb", "POINT (1 2)"), ("pd_zstd", {"a": [1]})),
            *(("gpd_zstd", pd.DataFrame({"a": [1]})), ("json", object()), ("json", b"")),
            *(("msgpack", 1 << 70), ("orjson", 1 << 70), ("zstd", "text")),
        ],
    )
    def test_what_does_not_fit(self, name: str, value: object) -> None:
        """It is a TypeError and a ValueError of ours, and nothing is written."""
        with ebooklet.open("memory://fit", None, "n", name) as db:
            with pytest.raises(ebooklet.SerializationError) as caught:
                db["k"] = value
            assert isinstance(caught.value, TypeError)
            assert isinstance(caught.value, ValueError)
            with pytest.raises(ebooklet.SerializationError):
                db.set("k", value)
            assert "k" not in db
            assert not list(db.changes())

    def test_raw_bytes_that_do_not_fit(self) -> None:
        """Bytes stored as they are, that the serializer cannot read, say so on reading."""
        with ebooklet.open("memory://raw", None, "n", "uint4") as db:
            db.set("k", b"12345", encode_value=False)
            with pytest.raises(ebooklet.SerializationError, match="4 bytes"):
                db["k"]
            with pytest.raises(ebooklet.SerializationError):
                db.get("k")
            assert db.get_timestamp("k", include_value=True, decode_value=False)[1] == b"12345"


MISSING = {  # what is not installed: the names that need it, and the extra that brings it
    "msgpack": {"msgpack": "msgpack", "msgpack_zstd": "msgpack"},
    "numpy": {"numpy_int1": "numpy", "numpy_int8_zstd": "numpy"},
    "pandas": {"pd_zstd": "pandas"},
    "pyarrow": {"pd_zstd": "pandas", "gpd_zstd": "geopandas"},
    "geopandas": {"gpd_zstd": "geopandas"},
    "shapely": {"wkb": "wkb", "wkb_zstd": "wkb"},
}
WITHOUT = """
import importlib.abc, json, sys

missing = sys.argv[1]


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
import ebooklet

for remote, path, flag, serializer in json.loads(sys.argv[2]):
    try:
        ebooklet.open(remote, path, flag, serializer)
    except ebooklet.Error as exc:
        print(json.dumps([type(exc).__name__, isinstance(exc, ValueError), str(exc)]))
    else:
        print(json.dumps(None))
"""


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("missing", MISSING)
def test_a_missing_package_is_said_at_the_open(tmp_path: Path, missing: str) -> None:
    """Whoever names it, or meets it in a remote or a file, learns the extra; nothing is made."""
    opens: list[tuple[str, str, str, str | None]] = []
    extras: list[str] = []
    for name, extra in MISSING[missing].items():
        remote = f"file://{tmp_path}/bucket/{name}"
        (tmp_path / "bucket").mkdir(exist_ok=True)
        known = tmp_path / f"{name}.blt"
        with ebooklet.open(remote, known, "c", name) as db:
            db["k"] = VALUES[name][0]
            assert db.push()
        fresh = str(tmp_path / "fresh.blt")
        empty = f"file://{tmp_path}/bucket/none"
        opens += [(empty, fresh, flag, name) for flag in FLAGS]
        opens += [(remote, fresh, flag, None) for flag in FLAGS]
        opens += [(remote, str(known), flag, None) for flag in ("r", "w", "c")]
        extras += [extra] * (len(opens) - len(extras))
    before = tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, json.dumps(opens)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(opens)
    for answer, extra, tried in zip(answers, extras, opens, strict=True):
        assert answer is not None, tried
        assert answer[:2] == ["UnknownNameError", True], tried
        assert f"pip install 'ebooklet[{extra}]'" in answer[2]
    assert tree(tmp_path) == before


class TestAClassOfOnesOwn:
    """A class with static functions, passed at every open."""

    def test_round_trip(self, place: Place) -> None:
        """It is 0 in the file, goes through the remote, and reads back wherever it is passed."""
        with place.open(value_serializer=Reversed) as db:
            db.update({"a": "hello", "b": ""})
            assert db.push()
        path = place.path("a")
        assert path is not None
        assert header(path)[0] == 0
        for file in ("a", "b"):
            with place.open(file=file, flag="r", value_serializer=Reversed) as db:
                assert dict(db) == {"a": "hello", "b": ""}
        with place.open(flag="w", value_serializer=Reversed) as db:
            db["c"] = "new"
            assert db.push()
        with booklet.open(path, value_serializer=Reversed) as file:
            assert file["c"] == "new"

    @pytest.mark.parametrize("place", ["memory"], indirect=True)
    @pytest.mark.parametrize("flag", FLAGS)
    def test_it_has_to_be_passed(self, place: Place, flag: Flag) -> None:
        """Without it, every open of the file or the remote says what to do, and makes nothing."""
        with place.open(value_serializer=Reversed) as db:
            db["a"] = "hello"
            assert db.push()
        path, elsewhere = place.path("a"), place.path("b")
        assert path is not None
        assert elsewhere is not None
        before = path.read_bytes()
        for file in ("a", "b", None):
            with pytest.raises(ValueError, match="pass that class as value_serializer"):
                ebooklet.open(place.connect("db"), place.path(file), flag)
        if flag != "n":  # which starts anew
            with pytest.raises(ValueError, match="pass that class as value_serializer"):
                ebooklet.open(None, path, flag)
        assert path.read_bytes() == before
        assert not elsewhere.exists()
        with place.open(flag="r", value_serializer=Reversed) as db:
            assert db["a"] == "hello"

    @pytest.mark.parametrize("place", ["memory"], indirect=True)
    def test_a_file_that_booklet_made_with_a_class(self, place: Place) -> None:
        """Nothing tells what the class was: it is asked for, and pickles are not guessed."""
        path = place.path("a")
        assert path is not None
        with booklet.open(path, "n", "str", Reversed) as file:
            file["a"] = "hello"
        for flag in ("r", "w", "c"):
            with pytest.raises(ValueError, match="pass that class"):
                ebooklet.open(place.connect("db"), path, flag)
            with pytest.raises(ValueError, match="'custom', not 'json'"):
                ebooklet.open(place.connect("db"), path, flag, "json")
        with place.open(flag="w", value_serializer=Reversed) as db:
            assert db["a"] == "hello"
            assert db.push()
        with place.open(file="b", flag="r", value_serializer=Reversed) as db:
            assert db["a"] == "hello"

    @pytest.mark.parametrize("flag", FLAGS)
    def test_a_class_that_is_none(self, tmp_path: Path, flag: Flag) -> None:
        """A class without both functions is a TypeError before anything is touched."""

        class Half:
            @staticmethod
            def dumps(value: object) -> bytes:
                return b""

        for given in (Half, 7, object()):
            with pytest.raises(TypeError, match="class with static dumps and loads"):
                ebooklet.open(f"file://{tmp_path}/db", tmp_path / "a.blt", flag, given)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("place", ["memory"], indirect=True)
    def test_what_it_raises(self, place: Place) -> None:
        """Errors of the class come out as ours, with the original as the cause."""

        class Failing(Reversed):
            @staticmethod
            def dumps(value: Any) -> Any:
                return value

            @staticmethod
            def loads(data: bytes) -> Any:
                raise RuntimeError("boom")

        with place.open(value_serializer=Failing) as db:
            db["a"] = b"x"
            with pytest.raises(ebooklet.SerializationError, match="Failing") as caught:
                db["a"]
            assert isinstance(caught.value.__cause__, RuntimeError)
            with pytest.raises(ebooklet.SerializationError, match="not bytes"):
                db["b"] = "text"


DIFFERENT = [
    ("json", "pickle"),
    ("pickle", "orjson"),
    ("json", "json+zstd"),
    ("bytes", "str"),
    ("cbor", "json"),
    ("json", Reversed),
]


@pytest.mark.parametrize("place", ["memory", "file"], indirect=True)
@pytest.mark.parametrize(
    ("stored", "asked"), DIFFERENT, ids=[f"{stored}-{asked}" for stored, asked in DIFFERENT]
)
class TestADifferentOne:
    """An explicit serializer that is not the stored one is a ValueError, whatever the flag."""

    def test_than_the_remotes(self, place: Place, stored: str, asked: Any) -> None:
        """Of an existing remote, with and without a local file; nothing is changed or made."""
        with place.open(value_serializer=stored) as db:
            assert db.push()
        path, elsewhere = place.path("a"), place.path("b")
        assert path is not None
        assert elsewhere is not None
        before, objects = path.read_bytes(), place.objects()
        for flag in FLAGS:
            for file in ("a", "b", None):
                with pytest.raises(ValueError, match=rf"serialised with '{stored}', not"):
                    place.open(file=file, flag=flag, value_serializer=asked)
        assert path.read_bytes() == before
        assert not elsewhere.exists()
        assert place.objects().keys() >= objects.keys()
        assert place.objects()["db"] == objects["db"]
        with place.open(flag="w", lock_timeout=0) as db:
            assert len(db) == 0

    def test_than_the_files(self, place: Place, stored: str, asked: Any) -> None:
        """Of an existing file without a remote; `n` makes the file anew, and may."""
        with place.open(value_serializer=stored):
            pass
        path = place.path("a")
        assert path is not None
        before = path.read_bytes()
        for flag in ("r", "w", "c"):
            with pytest.raises(ValueError, match=rf"serialised with '{stored}', not"):
                place.open(flag=flag, value_serializer=asked)
        assert path.read_bytes() == before
        with place.open(flag="n", value_serializer=asked) as db:
            assert len(db) == 0
        with place.open(flag="w", value_serializer=asked, lock_timeout=0):
            pass


@pytest.mark.parametrize("place", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("stored", "asked"),
    [("pickle_zstd", "pickle+zstd"), ("zstd", "bytes+zstd"), ("bytes", "bytes"), ("json", None)],
)
def test_another_spelling_is_no_difference(place: Place, stored: str, asked: str | None) -> None:
    """Spellings of one format agree."""
    with place.open(value_serializer=stored) as db:
        assert db.push()
    for flag in FLAGS:
        with place.open(flag=flag, file="a", value_serializer=asked):
            pass


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
class TestStrangers:
    """What a connection without credentials runs: nothing that its reader did not ask for."""

    @pytest.fixture
    def mine(self, s3_server: S3Server, bucket: str) -> ebooklet.S3Connection:
        return s3_server.connection(bucket, "db")

    @pytest.mark.parametrize("name", PICKLES)
    def test_pickles_are_refused(
        self, mine: ebooklet.S3Connection, public_url: str, tmp_path: Path, name: str
    ) -> None:
        """No pickle is loaded unless the reader names it or allows it, whatever else they name."""
        mark = tmp_path / "exploded"
        with ebooklet.open(mine, None, "c", name) as db:
            db.set("k", db._dumps(Bomb(str(mark))), encode_value=False)
            assert db.push()
        url = f"{public_url}/db"
        path = tmp_path / "reader.blt"
        anonymous = ebooklet.S3Connection(db_url=url, db_key="db")
        for remote in (url, anonymous, {"db_url": url}):
            refusals: list[dict[str, Any]] = [
                *({}, {"allow_pickle": False}),
                {"allow_pickle": False, "value_serializer": name},
            ]
            for options in refusals:
                with pytest.raises(ebooklet.SerializationError, match="allow_pickle=True"):
                    ebooklet.open(remote, path, **options)
            for other in ("orjson", "bytes", Reversed):
                with pytest.raises(ValueError, match="serialised with 'pickle"):
                    ebooklet.open(remote, path, value_serializer=other)
        assert not path.exists()
        assert not mark.exists()
        allowances: list[dict[str, Any]] = [{"allow_pickle": True}, {"value_serializer": name}]
        for options in allowances:
            with ebooklet.open(url, path, **options) as db:
                assert not mark.exists()
                db["k"]
                mark.unlink()

    def test_the_local_copy_of_a_stranger_is_no_friend(
        self, mine: ebooklet.S3Connection, public_url: str, tmp_path: Path
    ) -> None:
        """Values that were allowed once are refused later where nobody allows them, offline too."""
        with ebooklet.open(mine, None, "c", "pickle") as db:
            db["k"] = {1, 2}
            assert db.push()
        path = tmp_path / "reader.blt"
        with ebooklet.open(f"{public_url}/db", path, allow_pickle=True) as db:
            assert db["k"] == {1, 2}
        for offline in (False, True):
            with pytest.raises(ebooklet.SerializationError, match="without credentials"):
                ebooklet.open(f"{public_url}/db", path, offline=offline)
        with ebooklet.open(mine, path) as db:
            assert db["k"] == {1, 2}

    def test_safe_ones_need_no_leave(
        self, s3_server: S3Server, bucket: str, public_url: str
    ) -> None:
        """Frames, geometries, arrays and a class that the reader passes are read from anyone."""
        for name in ("pd_zstd", "gpd_zstd", "wkb", "numpy_int4", "cbor", Reversed):
            value = "text" if name is Reversed else VALUES[str(name)][0]
            given = name if name is Reversed else None
            key = f"db-{len(str(name))}"
            with ebooklet.open(s3_server.connection(bucket, key), None, "c", name) as db:
                db["k"] = value
                assert db.push()
            with ebooklet.open(f"{public_url}/{key}", value_serializer=given) as db:
                assert_same(db["k"], _as_it_comes_back(str(name), value))

    def test_an_unknown_name_imports_nothing(self, mine: ebooklet.S3Connection) -> None:
        """A head may name what it likes: only what is installed answers."""

        def source() -> list[EntryPoint]:
            extra = EntryPoint("antigravity", f"{__name__}:ODD", SERIALIZERS)
            return [*installed_entry_points(), extra]

        with ebooklet.open(mine, None, "c", "antigravity", registry=Registry(source)) as db:
            db["k"] = b"v"
            assert db.push()
        for flag in FLAGS:
            with pytest.raises(ebooklet.UnknownNameError, match="unknown serializer 'antigravity'"):
                ebooklet.open(mine, None, flag)
        assert "antigravity" not in sys.modules
