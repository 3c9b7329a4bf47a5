"""Section 5: keys, and each call of a mapping."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.core.keys import RESERVED_KEYS
from ebooklet.database import EBooklet
from ebooklet.services.nodes import NodeReader
from ebooklet.testing.faulty import StoreFault
from tests.contract.conftest import Place
from tests.contract.counted import Counted

pytestmark = pytest.mark.usefixtures("lean_processes")

LARGE = "x" * 500  # above what the index holds inline: a value of its own in the bucket
CONTENT = {"a": 1, "b": None, "c": "", "d": LARGE}


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    """A remote that counts its calls."""
    return Counted(tmp_path)


@pytest.fixture(params=["pending", "pushed", "cold"])
def db(request: pytest.FixtureRequest, counted: Counted) -> Iterator[EBooklet[Any]]:
    """CONTENT as it was just set, as it is after a push, and not fetched yet."""
    if request.param == "cold":
        counted.create(CONTENT)
    with counted.open("a") as opened:
        if request.param != "cold":
            opened.update(CONTENT)
        if request.param == "pushed":
            opened.push()
        yield opened


# Keys.

KEYS = [
    "",
    "\x00",
    "/",
    "/a",
    "a//b",
    "a/",
    ".",
    "..",
    "../up",
    "a/../b",
    "%2F",
    "a b",
    "a%20b",
    "a+b",
    "?",
    "a?b=c",
    "#",
    "a#b",
    "line\nfeed",
    "\\",
    "*:<>|\"'",
    "é",
    unicodedata.normalize("NFD", "é"),
    "\u212b",  # the Ångström sign, which normalisation would turn into the letter
    "\u00c5",
    "\ufeffa",
    "😀",
    "\U0010ffff",
    "a",
    "A",
    "a" * 1000,
    "b" * 65_535,
    "é" * 32_767 + "b",  # 65,535 bytes of UTF-8
    "mydb.d/00000000000000000000000000",
    "None",
]


def test_every_string_is_a_key_of_its_own(place: Place) -> None:
    """Pushed and read back cold, no two fall together: nothing is normalised or decoded."""
    assert len(set(KEYS)) == len(KEYS)
    content = {key: n for n, key in enumerate(KEYS)}
    with place.open() as db:
        db.update(content)
        assert len(db) == len(KEYS)
        assert all(db[key] == n for key, n in content.items())
        assert db.push()
    with place.open(file=None, flag="r") as cold:
        assert {key: cold[key] for key in KEYS} == content
        assert list(cold) == sorted(KEYS)
        assert all(key in cold for key in KEYS)


INVALID = {
    "65,536 bytes": "a" * 65_536,
    "65,536 bytes in fewer letters": "é" * 32_768,
    "a lone surrogate": "a\ud800",
    "the other half": "\udfff",
    **{f"reserved {n}": key for n, key in enumerate(sorted(RESERVED_KEYS))},
}


@pytest.mark.parametrize("key", INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("file", ["a", None], ids=["file", "memory"])
def test_what_cannot_be_a_key(counted: Counted, key: str, file: str | None) -> None:
    """Writing it is a ValueError and writes nothing; asked for, it is merely absent."""
    with counted.open(file) as db:
        db["there"] = 1
        for write in (
            lambda: db.__setitem__(key, 1),
            lambda: db.set(key, 1),
            lambda: db.set(key, b"1", encode_value=False),
            lambda: db.update({key: 1}),
            lambda: db.setdefault(key, 1),
        ):
            with pytest.raises(ebooklet.InvalidKeyError) as error:
                write()
            assert isinstance(error.value, ValueError)
        is_absent(db, key)
        assert dict(db) == {"there": 1}
        assert [change["key"] for change in db.changes()] == ["there"]


@pytest.mark.parametrize(
    "key",
    [1, 1.5, None, True, b"there", ("there",), [], {}, object(), float("nan"), Path("there")],
    ids=lambda key: type(key).__name__,
)
def test_what_is_no_string(db: EBooklet[Any], key: Any) -> None:
    """Writing it is a TypeError; asked for in any way, it is merely absent, as in a dict."""
    for write in (
        lambda: db.__setitem__(key, 1),
        lambda: db.set(key, 1),
        lambda: db.update([(key, 1)]),
        lambda: db.setdefault(key, 1),
    ):
        with pytest.raises(TypeError):
            write()
    is_absent(db, key)
    assert dict(db) == CONTENT


def is_absent(db: EBooklet[Any], key: Any) -> None:
    """Every call that takes a key agrees that it is not there."""
    default = object()
    assert key not in db
    assert key not in db.keys()  # noqa: SIM118
    assert (key, 1) not in db.items()
    assert db.get(key) is None
    assert db.get(key, default) is default
    assert db.pop(key, default) is default
    assert db.get_timestamp(key, default=default) is default
    assert db.get_timestamp(key, include_value=True, default=default) is default
    assert [value for _, value in db.get_items([key], default)] == [default]
    assert db.load_items([key]) == {}
    db.discard([key])
    for call in (
        lambda: db[key],
        lambda: db.__delitem__(key),
        lambda: db.pop(key),
        lambda: db.set_timestamp(key, 1),
    ):
        with pytest.raises(KeyError):
            call()


def test_a_missing_key_is_a_key_error_with_the_key(db: EBooklet[Any]) -> None:
    """As in a dict, and nothing is left closed or changed by it."""
    is_absent(db, "missing")
    with pytest.raises(KeyError) as error:
        db["missing"]
    assert error.value.args == ("missing",)
    assert dict(db) == CONTENT


def test_of_a_subclass_of_str_the_text_counts(counted: Counted) -> None:
    """Its own idea of equality does not reach the database."""

    class Name(StrEnum):
        ONE = "one"

    class Odd(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return False

        def __hash__(self) -> int:
            return 1

    with counted.open("a") as db:
        db[Name.ONE] = 1
        db[Odd("two")] = 2
        db.set(Odd("two"), 3)
        assert db.setdefault(Odd("four"), 4) == 4
        assert dict(db) == {"one": 1, "two": 3, "four": 4}
        assert {type(key) for key in db} == {str}
        assert db.push().n_set == 3


# One value.


def test_a_value_is_fetched_once(counted: Counted) -> None:
    """db[k]: what is here and current is read here; else it is fetched, and kept."""
    counted.create(CONTENT)
    with counted.open("a") as db:
        counted.calls()
        assert db["d"] == LARGE
        assert len(counted.calls()) == 1
        assert [db["d"], db.get("d"), db.pop("none", 0)] == [LARGE, LARGE, 0]
        assert counted.calls() == []
    with counted.open("a", "r", offline=True) as db:
        assert db["d"] == LARGE


def test_none_and_empty_are_values(db: EBooklet[Any]) -> None:
    """A stored None is there for every call, and is not taken for an absent key."""
    missing = object()
    assert db["b"] is None
    assert "b" in db
    assert db.get("b", missing) is None
    assert db.setdefault("b", 1) is None
    assert ("b", None) in db.items()
    assert None in db.values()
    assert list(db.get_items(["b", "c"], missing)) == [("b", None), ("c", "")]
    assert db.get_timestamp("b", include_value=True)[1] is None
    assert db.pop("b", missing) is None
    assert "b" not in db
    assert db.popitem()[0] in CONTENT


@pytest.mark.parametrize("place", ["memory", "moto"], indirect=True)
def test_empty_bytes_are_a_value(place: Place) -> None:
    """b"" is stored, pushed and read cold like any other."""
    with place.open(value_serializer="bytes") as db:
        db["k"] = b""
        assert db["k"] == b""
        assert db.push()
    with place.open(file=None, flag="r") as cold:
        assert cold["k"] == b""
        assert dict(cold.items()) == {"k": b""}
        assert len(cold) == 1


FAILING: dict[str, Callable[[EBooklet[Any]], object]] = {
    "[]": lambda db: db["d"],
    "get": lambda db: db.get("d"),
    "get with a default": lambda db: db.get("d", 1),
    "in": lambda db: "d" in db,
    "len": lambda db: (db.set("00150x", 1), len(db)),
    "iter": list,
    "keys": lambda db: list(db.keys()),
    "values": lambda db: list(db.values()),
    "items": lambda db: list(db.items()),
    "items of a range": lambda db: list(db.items("d")),
    "in items": lambda db: ("d", 1) in db.items(),
    "==": lambda db: db == dict.fromkeys(range(304)),
    "get_items": lambda db: list(db.get_items(["d"])),
    "pop": lambda db: db.pop("d"),
    "pop with a default": lambda db: db.pop("d", 1),
    "setdefault": lambda db: db.setdefault("d", 1),
    "del": lambda db: db.__delitem__("d"),
    "get_timestamp": lambda db: db.get_timestamp("d"),
    "set_timestamp": lambda db: db.set_timestamp("d", 1),
    "timestamps": lambda db: list(db.timestamps()),
    "timestamps with values": lambda db: list(db.timestamps(include_value=True)),
}
FROM_THE_INDEX = {"in", "len", "iter", "keys", "del", "get_timestamp", "timestamps"}


@pytest.mark.parametrize("fault", [StoreFault.REFUSE, StoreFault.DENY], ids=lambda f: f.name)
@pytest.mark.parametrize("call", FAILING)
def test_an_outage_is_never_an_absent_key(counted: Counted, call: str, fault: StoreFault) -> None:
    """A failure is raised as what it is: no KeyError, no default, no error object as a value."""
    content = {f"{n:05}": LARGE for n in range(300)} | CONTENT  # several nodes: not all at open
    counted.create(content)
    with counted.open("a", "w") as db:
        counted.fail(fault)
        with pytest.raises(ebooklet.Error) as error:
            FAILING[call](db)
        assert not isinstance(error.value, KeyError)
        counted.heal()
        db.pop("00150x", None)
        assert {k: v for k, v in db.items() if k in CONTENT} == CONTENT


def test_load_items_tells_what_failed(counted: Counted) -> None:
    """load_items: a dict of errors by key, empty when all went well; unknown keys are ignored."""
    counted.create(CONTENT | {"e": LARGE + "e"})
    with counted.open("a", "w") as db:
        assert len(db) == 5
        rule = counted.fail(op="get")
        failures = db.load_items()
        assert set(failures) == {"d", "e"}
        assert all(isinstance(error, ebooklet.RemoteUnavailable) for error in failures.values())
        assert set(db.load_items(["d", "a", "unknown"])) == {"d"}
        assert rule.struck
        counted.heal()
        assert db.load_items(["d", "unknown", 5, "d"]) == {}  # type: ignore[list-item]  # wrong on purpose
        counted.calls()
        assert db["d"] == LARGE
        assert counted.calls() == []
        assert db.load_items() == {}
        counted.calls()
        assert db.load_items() == {}
        assert dict(db.items()) == CONTENT | {"e": LARGE + "e"}
        assert counted.calls() == []


def test_many_values_cost_few_requests(counted: Counted) -> None:
    """load_items, items and get_items fetch neighbours together."""
    content = {f"{n:04}": f"{n}" * 60 for n in range(2000)}
    counted.create(content)
    for read in (
        lambda db: db.load_items(),
        lambda db: dict(db.items()),
        lambda db: dict(db.get_items(content)),
        lambda db: dict(db.get_items(reversed(content))),
    ):
        with counted.open() as db:
            counted.calls()
            assert read(db) in ({}, content)
            assert len(counted.calls()) < 40


def test_get_items_keeps_the_given_order(db: EBooklet[Any]) -> None:
    """Any iterable, repeats included; the default for what is missing; one string is a mistake."""
    keys = ["d", "missing", "a", "d", "c"]
    expected = [("d", LARGE), ("missing", 0), ("a", 1), ("d", LARGE), ("c", "")]
    for given in (keys, tuple(keys), iter(keys), (key for key in keys), dict.fromkeys(keys)):
        found = list(db.get_items(given, 0))
        assert found == (expected if not isinstance(given, dict) else [*expected[:3], expected[4]])
    assert list(db.get_items([])) == []
    assert list(db.get_items(["missing"])) == [("missing", None)]
    with pytest.raises(TypeError):
        db.get_items("abc")


# Writing.


def test_writing_makes_no_request(counted: Counted) -> None:
    """set and update are local, whatever is in the bucket."""
    counted.create(CONTENT)
    with counted.open("a") as db:
        counted.fail()
        counted.calls()
        db["a"] = 2
        db["new"] = 1
        db.set("d", 0, timestamp=5)
        db.update({"x": 1}, y=2)
        db.set_metadata({"m": 1})
        db.sync()
        assert counted.calls() == []
        counted.heal()
        assert dict(db) == CONTENT | {"a": 2, "new": 1, "d": 0, "x": 1, "y": 2}


def test_raw_values(counted: Counted) -> None:
    """encode_value=False stores bytes as they are, and nothing but bytes."""
    with counted.open("a") as db:
        db.set("k", b'{"raw": [1, 2]}', encode_value=False)
        assert db["k"] == {"raw": [1, 2]}
        for value in ("text", 1, None, {"a": 1}, bytearray(b"1"), memoryview(b"1")):
            with pytest.raises(TypeError):
                db.set("k", value, encode_value=False)
        with pytest.raises(ebooklet.SerializationError):
            db["k"] = object()
        assert dict(db) == {"k": {"raw": [1, 2]}}


WRITES: dict[str, Callable[[EBooklet[Any]], object]] = {
    "[]=": lambda db: db.__setitem__("a", 2),
    "set": lambda db: db.set("a", 2),
    "del": lambda db: db.__delitem__("a"),
    "del of a missing key": lambda db: db.__delitem__("missing"),
    "update": lambda db: db.update({"a": 2}),
    "update with nothing": lambda db: db.update(),
    "setdefault": lambda db: db.setdefault("a", 2),
    "pop": lambda db: db.pop("a"),
    "pop with a default": lambda db: db.pop("missing", 0),
    "popitem": lambda db: db.popitem(),
    "clear": lambda db: db.clear(),
    "set_timestamp": lambda db: db.set_timestamp("a", 1),
    "set_metadata": lambda db: db.set_metadata(1),
    "prune": lambda db: db.prune(),
    "discard": lambda db: db.discard(),
    "changes().discard": lambda db: db.changes().discard(),
    "push": lambda db: db.push(),
    "changes().push": lambda db: db.changes().push(),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_reader_writes_nothing(counted: Counted, write: str) -> None:
    """ReadOnlyError, which is a ValueError, from every call that would change anything."""
    counted.create(CONTENT)
    with counted.open("a", "r") as db:
        with pytest.raises(ebooklet.ReadOnlyError) as error:
            WRITES[write](db)
        assert isinstance(error.value, ValueError)
        assert dict(db) == CONTENT


def test_update_takes_what_a_dict_takes(db: EBooklet[Any]) -> None:
    """A mapping, pairs, keywords, another database; what is set before an error stays."""
    db.update({"m": 1})
    db.update([("p", 2), ("q", 3)])
    db.update(iter([("i", 4)]), k=5)
    db.update(other=6, self=7)
    expected = CONTENT | {"m": 1, "p": 2, "q": 3, "i": 4, "k": 5, "other": 6, "self": 7}
    assert dict(db) == expected
    with pytest.raises(TypeError):
        db.update([("before", 1), (5, 2), ("after", 3)])
    expected["before"] = 1
    assert dict(db) == expected
    for wrong in (5, [1, 2], [("a", 1, 2)]):
        with pytest.raises((TypeError, ValueError)):
            db.update(wrong)
    with pytest.raises(TypeError):
        db.update({}, {})  # type: ignore[call-arg]  # wrong on purpose
    db.update((key, value) for key, value in db.items())
    assert dict(db) == expected


def test_deleting_lasts(counted: Counted) -> None:
    """del is durable at once, needs no push and no close, and reaches the remote at the push."""
    counted.create(CONTENT)
    with counted.open("a", "w") as db:
        del db["a"]
        with pytest.raises(KeyError):
            del db["a"]
        assert "a" not in db
        assert db.changes().pending_deletes == {"a"}
    with counted.open("a", "w") as db:
        assert db.changes().pending_deletes == {"a"}
        assert "a" not in db
        with counted.open(flag="r") as other:
            assert other["a"] == 1
        assert db.push().n_deleted == 1
    with counted.open(flag="r") as other:
        assert "a" not in other


def test_setdefault_pop_and_popitem(db: EBooklet[Any]) -> None:
    """As those of a dict."""
    assert db.setdefault("a", 9) == 1
    assert db.setdefault("new", 9) == 9
    assert db.setdefault("none") is None
    assert db["none"] is None
    assert db.pop("new") == 9
    assert db.pop("new", 8) == 8
    assert db.pop("none") is None
    with pytest.raises(KeyError):
        db.pop("new")
    left = dict(CONTENT)
    while left:
        key, value = db.popitem()
        assert left.pop(key) == value
        assert len(db) == len(left)
    with pytest.raises(KeyError):
        db.popitem()


def test_clear_deletes_keys_and_keeps_metadata(counted: Counted) -> None:
    """Pending deletions of every key, cancellable; no trace of buffered writes is left."""
    counted.create(CONTENT)
    with counted.open("a", "w") as db:
        db.set_metadata({"kept": True})
        db.push()
        db["buffered"] = 1
        db.clear()
        assert (len(db), list(db), dict(db.items()), "buffered" in db) == (0, [], {}, False)
        assert db.get("a") is None
        assert db.get_metadata() == {"kept": True}
        assert db.changes().pending_deletes == set(CONTENT)
        db.discard()
        assert dict(db) == CONTENT
        db.clear()
        db["after"] = 1
        result = db.push()
        assert (result.n_set, result.n_deleted) == (1, len(CONTENT))
        assert dict(db) == {"after": 1}
    with counted.open(flag="r") as other:
        assert dict(other) == {"after": 1}
        assert other.get_metadata() == {"kept": True}


# Asking without fetching.


def test_asking_for_keys_fetches_no_value(counted: Counted) -> None:
    """in, len, iter and keys need index nodes at most, each once; len needs none."""
    content = {f"{n:05}": LARGE for n in range(2000)}
    counted.create(content)
    with counted.open("a", "w") as db:
        counted.calls()
        assert len(db) == 2000
        assert bool(db)
        assert counted.calls() == []
        assert "01000" in db
        assert "01000x" not in db
        assert "nothing" not in db
        assert len(counted.calls()) <= 4
        assert "01000" in db
        assert counted.calls() == []
        assert list(db) == list(content)
        assert len(counted.calls()) <= 4
        assert list(db.keys()) == list(db.keys("0")) == list(content)
        assert [key for key, _ in db.timestamps()] == list(content)
        assert counted.calls() == []


def test_len_is_exact_and_costs_nothing(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsynced writes are counted; keys of which it is not known yet are looked up in one batch."""
    counted.create({f"{n:05}": 0 for n in range(0, 20_000, 2)})
    looked_at: list[int] = []
    fetch = NodeReader.fetch

    def counting(self: NodeReader, refs: Any) -> Any:
        looked_at.append(len(refs))
        return fetch(self, refs)

    monkeypatch.setattr(NodeReader, "fetch", counting)
    with counted.open("a", "w") as db:
        looked_at.clear()
        for n in range(9_000, 11_000):  # half of them are there already
            db[f"{n:05}"] = 1
        del db["00000"]
        counted.calls()
        looked_at.clear()
        assert len(db) == 10_000 + 1_000 - 1
        rounds = len(looked_at)
        assert rounds <= 4  # as many as the tree has levels
        assert len(counted.calls()) <= 4
        looked_at.clear()
        for _ in range(100):
            assert len(db) == 10_999
        assert looked_at == []
        assert counted.calls() == []
        db["one more"] = 1
        assert len(db) == 11_000
        assert sum(looked_at) <= 4


# Views and order.


def test_views_are_those_of_a_mapping(db: EBooklet[Any]) -> None:
    """Live, with `in`, len and set operations; of all keys, of a prefix, of a range."""
    keys, values, items = db.keys(), db.values(), db.items()
    assert isinstance(keys, KeysView)
    assert isinstance(values, ValuesView)
    assert isinstance(items, ItemsView)
    assert (len(keys), len(values), len(items)) == (4, 4, 4)
    assert keys == CONTENT.keys()
    assert keys & {"a", "x"} == {"a"}
    assert keys | {"x"} == {*CONTENT, "x"}
    assert keys - {"a"} == {"b", "c", "d"}
    assert keys ^ {"a", "x"} == {"b", "c", "d", "x"}
    assert {"a"} <= keys
    assert keys.isdisjoint({"x"})
    assert items == CONTENT.items()
    assert items & {("a", 1), ("a", 2)} == {("a", 1)}
    assert ("a", 1) in items
    assert ("a", 2) not in items
    assert ("a",) not in items  # type: ignore[comparison-overlap]  # wrong on purpose
    assert ["a", 1] not in items  # type: ignore[comparison-overlap]  # wrong on purpose
    assert LARGE in values
    assert "nowhere" not in values
    db["e"] = 5
    assert "e" in keys
    assert (len(keys), 5 in values, ("e", 5) in items) == (5, True, True)


def test_views_of_ranges(db: EBooklet[Any]) -> None:
    """A prefix, a start and a stop together; what lies outside is not in them."""
    db.update({"p/1": 1, "p/2": 2, "q": 3, "p\U0010ffff": 4})
    assert list(db.keys("p/")) == ["p/1", "p/2"]
    assert list(db.keys("p")) == ["p/1", "p/2", "p\U0010ffff"]
    assert list(db.items("p/", start="p/2")) == [("p/2", 2)]
    assert list(db.values(start="b", stop="d")) == [None, ""]
    assert list(db.keys(start="z")) == list(db.keys(stop="")) == list(db.keys("zz")) == []
    assert list(db.keys(start="d", stop="b")) == []
    assert list(db.keys("")) == list(db)
    assert (len(db.keys("p/")), len(db.values("q")), len(db.items(stop="b"))) == (2, 1, 1)
    assert "a" not in db.keys("p/")
    assert ("a", 1) not in db.items(start="b")
    assert 1 not in db.values("q")
    assert db.keys("p/") & {"p/1", "a"} == {"p/1"}
    for wrong in ({"prefix": 1}, {"start": b"a"}, {"stop": ("a",)}):
        for view in (db.keys, db.values, db.items):
            with pytest.raises(TypeError):
                view(**wrong)


def test_one_order_for_all(db: EBooklet[Any]) -> None:
    """Sorted by code point, whatever was written when: iter, keys, items and values agree."""
    for key in ("z", "ü", "A", "", "😀", "\uffff"):
        db[key] = key
    db["a"] = "again"
    expected = sorted([*CONTENT, "z", "ü", "A", "", "😀", "\uffff"])
    assert list(db) == list(db.keys()) == expected
    assert [key for key, _ in db.items()] == expected
    assert [key for key, _ in db.timestamps()] == expected
    assert list(db.values()) == [value for _, value in db.items()] == [db[k] for k in expected]
    with pytest.raises(TypeError):
        reversed(db)  # type: ignore[call-overload]  # wrong on purpose


def test_equality_is_by_content(counted: Counted, db: EBooklet[Any]) -> None:
    """With any mapping, from either side, whatever is pending or not fetched."""
    other = ebooklet.open(None, counted.folder / "other.blt", "c", "pickle")
    with other:
        other.update(CONTENT)
        assert db == CONTENT
        assert CONTENT == db  # noqa: SIM300
        assert db == other
        other["a"] = 2
        assert db != other
        del other["a"]
        assert db != other
    assert db != {}
    assert db != [*CONTENT]
    assert db != None  # noqa: E711
    with pytest.raises(TypeError):
        hash(db)


# Changing while iterating.


def refused(kind: type[Exception], call: Callable[[], object]) -> None:
    with pytest.raises(kind):
        call()


WALKS: dict[str, Callable[[EBooklet[Any]], Iterator[Any]]] = {
    "iter": iter,
    "keys": lambda db: iter(db.keys()),
    "keys of a range": lambda db: iter(db.keys(start="")),
    "items": lambda db: iter(db.items()),
    "values": lambda db: iter(db.values()),
    "timestamps": lambda db: db.timestamps(),
    "timestamps with values": lambda db: db.timestamps(include_value=True),
}
RESHAPING: dict[str, Callable[[EBooklet[Any]], object]] = {
    "set": lambda db: db.set("new", 1),
    "[]=": lambda db: db.__setitem__("new", 1),
    "setdefault": lambda db: db.setdefault("new"),
    "update": lambda db: db.update(new=1),
    "del": lambda db: db.__delitem__("c"),
    "pop": lambda db: db.pop("c"),
    "popitem": lambda db: db.popitem(),
    "clear": lambda db: db.clear(),
}
HARMLESS: dict[str, Callable[[EBooklet[Any]], object]] = {
    "overwriting": lambda db: db.update(dict.fromkeys(CONTENT, 0)),
    "overwriting one": lambda db: db.set("d", 0),
    "set_timestamp": lambda db: db.set_timestamp("d", 7),
    "set_metadata": lambda db: db.set_metadata(1),
    "reading": lambda db: [db[key] for key in CONTENT],
    "loading": lambda db: db.load_items(),
    "counting": len,
    "asking": lambda db: "x" in db,
    "another walk": lambda db: list(db.items()),
    "changes": lambda db: list(db.changes()),
    "pushing": lambda db: db.push(),
    "pulling": lambda db: db.pull(),
    "evicting": lambda db: (db.push(), db.prune(timestamp=2**55)),
    "discarding nothing": lambda db: db.discard(["missing"]),
    "a failing del": lambda db: refused(KeyError, lambda: db.__delitem__("missing")),
    "a failing set": lambda db: refused(TypeError, lambda: db.__setitem__(5, 5)),  # type: ignore[index]  # wrong on purpose
}


@pytest.mark.parametrize("at", [0, 1, 4], ids=["before the first", "amid", "after the last"])
@pytest.mark.parametrize("change", RESHAPING)
@pytest.mark.parametrize("walk", WALKS)
def test_keys_must_stand_still(counted: Counted, walk: str, change: str, at: int) -> None:
    """A key added or deleted during an iteration is a RuntimeError at its next step."""
    for state in ("pending", "cold"):
        if state == "cold":
            counted.create(CONTENT)
        with counted.open() as db:
            if state == "pending":
                db.update(CONTENT)
            steps = WALKS[walk](db)
            for _ in range(at):
                next(steps)
            RESHAPING[change](db)
            with pytest.raises(RuntimeError):
                next(steps)


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.parametrize("walk", WALKS)
def test_everything_else_may_happen(counted: Counted, walk: str, change: str) -> None:
    """Overwriting as in a dict; reads, fetching ones included; every key comes exactly once."""
    for state in ("pending", "cold"):
        if state == "cold":
            counted.create(CONTENT)
        with counted.open() as db:
            if state == "pending":
                db.update(CONTENT)
            steps = WALKS[walk](db)
            seen = [next(steps)]
            HARMLESS[change](db)
            seen += steps
            assert len(seen) == 4
            if walk != "values":
                assert [s if isinstance(s, str) else s[0] for s in seen] == list(CONTENT)


def test_a_pending_write_is_what_its_session_reads(counted: Counted) -> None:
    """No fetch, pull or eviction replaces it, until it is pushed or discarded."""
    counted.create({"k": "old" * 100, "gone": "old" * 100, "other": "old" * 100})
    with counted.open("a", "w") as db, counted.open("b") as other:
        db["k"] = "mine"
        del db["gone"]
        other.update(k="theirs" * 100, gone="theirs" * 100, other="theirs" * 100)
        other.push()

        def mine() -> bool:
            return (db["k"], "gone" in db, dict(db.items())["k"]) == ("mine", False, "mine")

        for disturb in (
            lambda: db.load_items(),
            lambda: db.load_items(["k", "gone"]),
            lambda: list(db.get_items(["k", "gone"])),
            lambda: db.prune(timestamp=2**55),
            lambda: db.sync(),
        ):
            disturb()
            assert mine()
        with pytest.warns(UserWarning, match="'gone', 'k' changed both"):
            db.pull()
        assert mine()
        db.load_items()
        db.prune(timestamp=2**55)
        assert mine()
        assert db["other"] == "theirs" * 100
        db.discard(["k"])
        assert db["k"] == "theirs" * 100


# Threads and processes.


def test_32_threads_on_one_handle(counted: Counted) -> None:
    """They set, read, delete, take, count and walk; the outcome is exact."""
    n_threads, n_keys = 32, 40
    counted.create({f"shared/{n}": LARGE for n in range(n_keys)} | {"counter": 0})
    taken: list[str] = []
    first: list[int] = []
    barrier = threading.Barrier(n_threads)
    with counted.open("a", "w") as db:

        def work(thread: int) -> None:
            barrier.wait()
            for n in range(n_keys):
                key = f"own/{thread:02}/{n:02}"
                db[key] = [thread, n]
                assert db[key] == [thread, n]
                assert db.get(f"shared/{n}", LARGE) == LARGE
                if n % 4 == 0:
                    del db[key]
                    assert key not in db
                if n % 8 == 1:
                    assert db.pop(key) == [thread, n]
                first.append(db.setdefault(f"first/{n}", thread))
                if (value := db.pop(f"shared/{n}", None)) is not None:
                    assert value == LARGE
                    taken.append(f"shared/{n}")
                assert 0 < len(db) <= n_threads * n_keys + 2 * n_keys + 1
                if n % 10 == 0:
                    db.sync()
                    list(db.get_items([key, "counter"]))

        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(work, range(n_threads)))
        expected = {
            f"own/{thread:02}/{n:02}": [thread, n]
            for thread in range(n_threads)
            for n in range(n_keys)
            if n % 4 and n % 8 != 1
        }
        assert sorted(taken) == sorted(f"shared/{n}" for n in range(n_keys))
        winners = dict(db.items("first/"))
        assert len(winners) == n_keys
        assert sorted(first) == sorted(list(winners.values()) * n_threads)
        assert dict(db.items("own/")) == expected
        assert len(db) == len(list(db)) == len(expected) + n_keys + 1
        assert not list(db.keys("shared/"))
        content = dict(db)
        db.push()
    with counted.open(flag="r") as cold:
        assert dict(cold) == content


def test_32_threads_read_what_is_not_here(counted: Counted) -> None:
    """All fetch the same and different values at once, through one handle."""
    content = {f"{n:03}": f"{n}" * 200 for n in range(200)}
    counted.create(content)
    for flag in ("r", "w"):
        with counted.open(f"cold-{flag}", flag) as db:
            barrier = threading.Barrier(32)

            def work(
                thread: int, db: EBooklet[Any] = db, barrier: threading.Barrier = barrier
            ) -> bool:
                barrier.wait()
                keys = sorted(content, key=lambda key: hash((key, thread)))
                return {key: db[key] for key in keys} == content and dict(db.items()) == content

            with ThreadPoolExecutor(32) as pool:
                assert all(pool.map(work, range(32)))
        with counted.open(f"cold-{flag}", "r", offline=True) as db:
            assert dict(db.items()) == content


FORK = """
import json, os, pickle, sys, threading
import ebooklet
where, path = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2]
options = {"value_serializer": "json"} if sys.argv[3] == "memory" else {}
db = ebooklet.open(where, None if options else path, "c" if options else "w", **options)
db["pending"] = 1
facts = {}
holding = threading.Event()
if sys.argv[4] == "locked":  # another thread is inside the handle at the moment of the fork
    def hold():
        with db._copy.lock:
            holding.set()
            forked.wait()
    forked = threading.Event()
    threading.Thread(target=hold, daemon=True).start()
    holding.wait()
read, write = os.pipe()
child = os.fork()
if not child:
    for name, call in {
        "get": lambda: db["pending"],
        "set": lambda: db.__setitem__("child", 1),
        "set2": lambda: db.set("child", 1),
        "del": lambda: db.__delitem__("pending"),
        "in": lambda: "pending" in db,
        "len": lambda: len(db),
        "iter": lambda: list(db),
        "items": lambda: list(db.items()),
        "changes": lambda: list(db.changes()),
        "metadata": db.get_metadata,
        "push": db.push,
        "pull": db.pull,
        "sync": db.sync,
        "prune": db.prune,
    }.items():
        try:
            facts[name] = repr(call())
        except BaseException as exc:
            facts[name] = type(exc).__name__
    db.close()
    os.write(write, json.dumps(facts).encode())
    sys.exit(0)  # exit handlers run, as in a careless program
if sys.argv[4] == "locked":
    forked.set()
os.close(write)
with os.fdopen(read) as answers:
    facts = json.loads(answers.read())
status = os.waitpid(child, 0)[1]
db.lock and db.lock.verify()
db["parent"] = 2
pushed = db.push().updated
lock = db.lock is not None
db.close()
print(json.dumps({"child": facts, "status": status, "pushed": pushed, "lock": lock}))
"""


@pytest.mark.parametrize(
    ("place", "local", "moment"),
    [
        ("file", "file", "quiet"),
        ("file", "file", "locked"),
        ("file", "memory", "quiet"),
        ("seaweedfs", "file", "quiet"),
        ("moto", "file", "locked"),
    ],
    indirect=["place"],
)
def test_a_fork_is_refused(place: Place, local: str, moment: str) -> None:
    """Every call in the child raises ForkedProcessError; file, lock and data stay the parent's."""
    if local == "file":
        with place.open() as db:
            db["k"] = 1
            db.push()
    where = pickle.dumps(place.connect("db")).hex()
    # What the child inherits open it closes by ending; forking with threads is what is tested.
    silent = ("-W", "ignore::ResourceWarning", "-W", "ignore::DeprecationWarning")
    argv = [sys.executable, "-W", "error", *silent, "-c", FORK, where]
    found = subprocess.run(
        [*argv, str(place.path("a")), local, moment],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    facts = json.loads(found.stdout)
    assert set(facts["child"].values()) == {"ForkedProcessError"}
    assert facts["status"] == 0
    assert (facts["pushed"], facts["lock"]) == (True, True)
    with place.open(file="cold", flag="r") as cold:
        expected = {"pending": 1, "parent": 2} | ({"k": 1} if local == "file" else {})
        assert dict(cold) == expected
