"""Section 5: timestamps, metadata and prune."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import booklet
import pytest

import ebooklet
from ebooklet.database import EBooklet
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import StoreFault
from tests.contract.conftest import Place
from tests.contract.counted import Counted

LARGE = "x" * 500
MAX = 2**56 - 1
MOMENT = 1_600_000_000_123_456
AS_DATETIME = datetime(2020, 9, 13, 12, 26, 40, 123_456, UTC)


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    """A remote that counts its calls."""
    return Counted(tmp_path)


@pytest.fixture(params=["pending", "pushed", "cold"])
def db(request: pytest.FixtureRequest, counted: Counted) -> Iterator[EBooklet[Any]]:
    """Two values with timestamps of their own: just set, pushed, or not fetched yet."""

    def fill(opened: EBooklet[Any]) -> None:
        opened.set("a", LARGE, timestamp=100)
        opened.set("b", 2, timestamp=MAX)

    if request.param == "cold":
        with counted.open() as other:
            fill(other)
            other.push()
    with counted.open("a") as opened:
        if request.param != "cold":
            fill(opened)
        if request.param == "pushed":
            opened.push()
        yield opened


# Timestamps: what goes in.

MOMENTS: dict[str, tuple[Any, int]] = {
    "an int": (MOMENT, MOMENT),
    "the first": (0, 0),
    "the last": (MAX, MAX),
    "a datetime": (AS_DATETIME, MOMENT),
    "a datetime elsewhere": (AS_DATETIME.astimezone(timezone(timedelta(hours=-7))), MOMENT),
    "ISO": ("2020-09-13T12:26:40.123456+00:00", MOMENT),
    "ISO with Z": ("2020-09-13T12:26:40.123456Z", MOMENT),
    "ISO elsewhere": ("2020-09-13T17:56:40.123456+05:30", MOMENT),
    "ISO, short": ("20200913T122640Z", MOMENT - 123_456),
}
NO_MOMENTS: dict[str, tuple[Any, type[Exception]]] = {
    "a naive datetime": (datetime(2020, 9, 13), ValueError),
    "ISO without a zone": ("2020-09-13T12:26:40", ValueError),
    "a day": ("2020-09-13", ValueError),
    "no ISO": ("yesterday", ValueError),
    "no text": ("", ValueError),
    "below the first": (-1, ValueError),
    "above the last": (MAX + 1, ValueError),
    "before 1970": (datetime(1969, 12, 31, tzinfo=UTC), ValueError),
    "far too late": (datetime(9999, 1, 1, tzinfo=UTC), ValueError),
    "a float": (1.5, TypeError),
    "bytes": (b"2020-09-13T12:26:40Z", TypeError),
    "a date": (date(2020, 9, 13), TypeError),
    "a bool": (True, TypeError),
    "a list": ([1], TypeError),
}
TAKING: dict[str, Callable[[EBooklet[Any], Any], object]] = {
    "set": lambda db, moment: db.set("a", 1, timestamp=moment),
    "set_timestamp": lambda db, moment: db.set_timestamp("a", moment),
    "set_metadata": lambda db, moment: db.set_metadata("new", timestamp=moment),
    "prune": lambda db, moment: db.prune(timestamp=moment),
}


@pytest.mark.parametrize(("given", "expected"), MOMENTS.values(), ids=MOMENTS)
def test_every_way_to_name_a_moment(db: EBooklet[Any], given: Any, expected: int) -> None:
    """int µs, ISO 8601 with a zone, aware datetime: wherever a timestamp goes in."""
    db.set("new", 1, timestamp=given)
    assert db.get_timestamp("new") == expected
    db.set_timestamp("a", given)
    assert db.get_timestamp("a", include_value=True) == (expected, LARGE)
    db.set_metadata("m", timestamp=given)
    assert db.get_metadata(include_timestamp=True) == ("m", expected)
    db.prune(timestamp=given)
    assert dict(db.timestamps()) == {"a": expected, "b": MAX, "new": expected}
    assert type(db.get_timestamp("a")) is int


@pytest.mark.parametrize("call", TAKING)
@pytest.mark.parametrize(("given", "error"), NO_MOMENTS.values(), ids=NO_MOMENTS)
def test_what_names_no_moment(call: str, given: Any, error: type[Exception]) -> None:
    """Naive or out of range is a ValueError, another type a TypeError; nothing is changed."""
    with ebooklet.open(None, None, "c", "json") as db:
        db.set("a", LARGE, timestamp=100)
        with pytest.raises(error):
            TAKING[call](db, given)
        assert db.get_timestamp("a", include_value=True) == (100, LARGE)
        assert db.get_metadata() is None
        assert len(db.changes()) == 1


def test_without_a_timestamp_it_is_now(counted: Counted) -> None:
    """Every write takes the clock's time, of the moment it happens."""
    clock = ManualClock(MOMENT)
    with counted.open("a", clock=clock) as db:
        db["a"] = 1
        clock.advance(1)
        db.set("b", 2)
        db.update(c=3)
        db.setdefault("d", 4)
        db.set_metadata(1)
        clock.step_wall(-3600)
        db["e"] = 5
        later, back = MOMENT + 1_000_000, MOMENT + 1_000_000 - 3_600_000_000
        assert dict(db.timestamps()) == {"a": MOMENT, "b": later, "c": later, "d": later, "e": back}
        assert db.get_metadata(include_timestamp=True) == (1, later)
        db["b"] = 6  # an older time does not keep a newer value away
        assert (db["b"], db.get_timestamp("b")) == (6, back)


# Timestamps: what comes out.


def test_timestamps_yields_pairs_and_triples(db: EBooklet[Any]) -> None:
    """Sorted by key, with values on request."""
    assert list(db.timestamps()) == [("a", 100), ("b", MAX)]
    assert list(db.timestamps(include_value=True)) == [("a", 100, LARGE), ("b", MAX, 2)]
    db.set("aa", 3, timestamp=5)
    del db["a"]
    assert list(db.timestamps()) == [("aa", 5), ("b", MAX)]


def test_timestamps_fetch_no_value(counted: Counted) -> None:
    """The index has them: no request once it is here."""
    counted.create({f"{n:04}": LARGE for n in range(500)})
    with counted.open("a", "w") as db:
        list(db)
        counted.fail()
        assert len(list(db.timestamps())) == 500
        assert db.get_timestamp("0007") > 0
        with pytest.raises(ebooklet.RemoteUnavailable):
            list(db.timestamps(include_value=True))


def test_get_timestamp(db: EBooklet[Any]) -> None:
    """The time; with the value, or its raw bytes; the default for what is absent."""
    assert db.get_timestamp("a") == 100
    assert db.get_timestamp("a", include_value=True) == (100, LARGE)
    raw = f'"{LARGE}"'.encode()
    assert db.get_timestamp("a", include_value=True, decode_value=False) == (100, raw)
    assert db.get_timestamp("a", True, False) == (100, raw)
    assert db.get_timestamp("missing") is None
    assert db.get_timestamp("missing", default=7) == 7
    assert db.get_timestamp("missing", include_value=True, default=7) == 7
    del db["a"]
    assert db.get_timestamp("a", default=7) == 7


def test_set_timestamp_is_a_change(db: EBooklet[Any], counted: Counted) -> None:
    """Also of a key that was never synced; the value stays; a missing key is a KeyError."""
    db["unsynced"] = "value"
    db.set_timestamp("unsynced", 5)
    db.set_timestamp("a", 6)
    for call in (lambda: db.set_timestamp("missing", 5), lambda: db.set_timestamp("", 5)):
        with pytest.raises(KeyError):
            call()
    assert {change["key"] for change in db.changes()} >= {"a", "unsynced"}
    assert db.get_timestamp("unsynced", include_value=True) == (5, "value")
    assert db.push()
    assert not db.push().updated
    with counted.open() as cold:
        assert dict(cold.timestamps()) == {"a": 6, "b": MAX, "unsynced": 5}
        assert dict(cold) == {"a": LARGE, "b": 2, "unsynced": "value"}


def test_timestamps_reach_everybody(place: Place) -> None:
    """Cold readers, copies that were here before, and plain Booklet on the same file."""
    with place.open() as db:
        db.set("k", LARGE, timestamp=100)
        db.push()
    with place.open(file="b", flag="r") as reader:
        assert reader.get_timestamp("k", include_value=True) == (100, LARGE)
    with place.open() as db:
        db.set_timestamp("k", MAX)
        db.push()
    with place.open(file="b", flag="r") as reader, place.open(file=None, flag="r") as cold:
        assert reader.get_timestamp("k", include_value=True) == (MAX, LARGE)
        assert list(cold.timestamps()) == [("k", MAX)]
    for name in "ab":
        with booklet.open(place.path(name)) as plain:
            assert plain.get_timestamp("k") == MAX


# Metadata.

METADATA: dict[str, tuple[Any, Any]] = {
    "a dict": ({"a": [1, 2.5, None, True, {"b": "ü"}]}, {"a": [1, 2.5, None, True, {"b": "ü"}]}),
    "a list": ([1, "two"], [1, "two"]),
    "a text": ("text", "text"),
    "a number": (5, 5),
    "zero": (0, 0),
    "an empty dict": ({}, {}),
    "int keys": ({1: "a", 2.5: "b"}, {"1": "a", "2.5": "b"}),
    "NaN": ({"nan": math.nan, "inf": [math.inf]}, {"nan": None, "inf": [None]}),
    "a tuple": ({"t": (1, 2)}, {"t": [1, 2]}),
    "large": ({"text": "x" * 200_000}, {"text": "x" * 200_000}),
}


@pytest.mark.parametrize(("given", "expected"), METADATA.values(), ids=METADATA)
def test_metadata_hold_what_json_holds(counted: Counted, given: Any, expected: Any) -> None:
    """Other keys come back as strings and NaN as None; the same before and after a push."""
    with counted.open("a") as db:
        assert db.get_metadata() is None
        assert db.get_metadata(include_timestamp=True) is None
        db.set_metadata(given, timestamp=77)
        assert db.get_metadata() == expected
        db.push()
        assert db.get_metadata(include_timestamp=True) == (expected, 77)
    with counted.open("a", "r") as again, counted.open(flag="r") as cold:
        assert again.get_metadata() == cold.get_metadata() == expected
        assert cold.get_metadata(include_timestamp=True) == (expected, 77)


@pytest.mark.parametrize(
    "given",
    [object(), {1, 2}, b"bytes", {"a": object()}, {(1, 2): 3}, 2**80, "\ud800"],
    ids=["object", "set", "bytes", "inner object", "tuple key", "huge int", "surrogate"],
)
def test_metadata_that_json_cannot_hold(counted: Counted, given: Any) -> None:
    """A TypeError; what was there before stays, and so does what is pending."""
    with counted.open("a") as db:
        db.set_metadata("before")
        db.push()
        with pytest.raises(TypeError):
            db.set_metadata(given)
        assert db.get_metadata() == "before"
        assert not db.push().updated


def test_metadata_are_no_key(counted: Counted) -> None:
    """Invisible to keys, len and changes; pushed with the next push, alone too; kept by close."""
    with counted.open("a") as db:
        db.push()
        db.set_metadata({"v": 1})
        assert (len(db), list(db), list(db.items()), list(db.timestamps())) == (0, [], [], [])
        assert list(db.changes()) == []
        assert db.changes().pending_deletes == frozenset()
        assert bool(db.changes())  # there is something to push all the same
    with counted.open(flag="r") as other:
        assert other.get_metadata() is None
    with counted.open("a", "w") as db:
        assert db.get_metadata() == {"v": 1}
        assert db.push().updated
        assert not db.push()
        db.set_metadata({"v": 2})
        db["k"] = 1
        assert db.push().n_set == 1
    with counted.open("b") as other:
        assert other.get_metadata() == {"v": 2}
        other.set_metadata({"v": 3})
        other.discard(["k"])
        assert other.get_metadata() == {"v": 3}
        other.discard()
        assert other.get_metadata() == {"v": 2}
        assert not other.push().updated


def test_metadata_of_others_are_taken_in(counted: Counted) -> None:
    """By a pull, unless mine are pending: then mine are read, and I am told."""
    counted.create({})
    with counted.open("a") as db, counted.open("b") as other:
        db.set_metadata("first")
        db.push()
        other.pull()
        assert other.get_metadata() == "first"
        db.set_metadata("second")
        db.push()
        other.pull()
        assert other.get_metadata() == "second"
        db.set_metadata("theirs")
        db.push()
        other.set_metadata("mine")
        with pytest.warns(UserWarning, match="metadata changed both"):
            other.pull()
        assert other.get_metadata() == "mine"
        other.pull()
        assert other.push().updated
        db.pull()
        assert db.get_metadata() == "mine"
        for one in (db, other):
            one.set_metadata("equal")
        assert db.push().updated
        assert not other.push().updated


def test_a_failed_push_of_metadata_is_repeated(counted: Counted) -> None:
    """They stay pending until a commit carries them."""
    with counted.open("a") as db:
        db.push()
        db.set_metadata("x" * 100_000)
        for fault in (StoreFault.REFUSE, StoreFault.DENY):
            counted.fail(fault, op="put")
            with pytest.raises(ebooklet.Error):
                db.push()
            counted.heal()
        assert db.push().updated
    with counted.open(flag="r") as cold:
        assert cold.get_metadata() == "x" * 100_000


# Prune.


def test_prune_reclaims_space(counted: Counted) -> None:
    """It returns what it removed; the file shrinks, and nothing that can be read changes."""
    with counted.open("a", value_serializer="bytes") as db:
        for _ in range(20):
            db["k"] = bytes(50_000)
            db["gone"] = bytes(50_000)
            db.sync()
        del db["gone"]
        db["kept"] = b"kept"
        db.set_metadata("kept")
        db.sync()
        path = counted.folder / "a.blt"
        before = path.stat().st_size
        counted.calls()
        removed = db.prune()
        assert removed >= 39
        assert path.stat().st_size < before - 38 * 50_000
        assert dict(db) == {"k": bytes(50_000), "kept": b"kept"}
        assert db.get_metadata() == "kept"
        assert db.prune() == 0
        assert db.prune(reindex=True) == 0
        assert counted.calls() == []
        db["after"] = b"1"
        assert db.push().n_set == 3
    with counted.open("a", "w") as db:
        assert len(db) == 3


def test_prune_evicts_what_can_be_fetched_again(counted: Counted) -> None:
    """With a timestamp: cached values older than it, never a pending one; len stays the same."""
    with counted.open("a") as db:
        for n in range(10):
            db.set(f"{n}", f"{n}" * 300, timestamp=n)
        db.push()
        db.set("3", "mine", timestamp=3)
        db.set("new", "mine", timestamp=0)
        del db["4"]
        expected = dict(db.items())
        times = dict(db.timestamps())
        assert db.prune() == 2  # what was overwritten and deleted
        counted.calls()
        assert db.prune(timestamp=6) == 4  # 0, 1, 2, 5
        assert not any(call.writes for call in counted.calls())
        assert len(db) == 10
        assert list(db) == sorted(expected)
        assert dict(db.timestamps()) == times
        assert [change["key"] for change in db.changes()] == ["3", "4", "new"]
        counted.calls()
        assert {key: db[key] for key in ("3", "new", "6", "9")} == {
            key: expected[key] for key in ("3", "new", "6", "9")
        }
        assert counted.calls() == []
        assert dict(db.items()) == expected
        assert counted.calls()
        assert db.get_timestamp("0", include_value=True) == (0, "0" * 300)
        assert db.prune(timestamp=MAX) == 8
        assert db.push().updated
        assert db.prune(timestamp=MAX) > 0
        assert dict(db.items()) == expected
        assert dict(db.timestamps()) == times


@pytest.mark.parametrize("remote", ["none", "nothing pushed", "to be replaced"])
def test_prune_evicts_nothing_that_is_here_alone(counted: Counted, remote: str) -> None:
    """No remote, or none that has it: every value stays."""
    if remote == "to be replaced":
        counted.create({"old": 1})
    flag: Any = "n" if remote == "to be replaced" else "c"
    opened = (
        ebooklet.open(None, counted.folder / "a.blt", "c", "json")
        if remote == "none"
        else counted.open("a", flag)
    )
    with opened as db:
        db.update({"k": LARGE, "l": 1})
        db.sync()
        assert db.prune(timestamp=MAX) == 0
        assert dict(db) == {"k": LARGE, "l": 1}


def test_what_was_evicted_is_no_deletion(counted: Counted) -> None:
    """Not by the next open, not after a crash of the mark, and not by a push."""
    counted.create({"k": LARGE, "l": LARGE})
    with counted.open("a", "w") as db:
        db.load_items()
        assert db.prune(timestamp=MAX) == 2
    with booklet.open(counted.folder / "a.blt", "w") as plain:
        assert list(plain.keys()) == []
        plain["m"] = 1
    with counted.open("a", "w") as db:
        assert {c["key"]: c["kind"] for c in db.changes()} == {"m": "added"}
        assert db.push().n_deleted == 0
        assert len(db) == 3
