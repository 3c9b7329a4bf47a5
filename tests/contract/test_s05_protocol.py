"""Section 5: other people's checks of what a mapping is, called from their own packages.

CPython's run where the interpreter ships its `test` package. Some distributions take it out; CI's
must have it, and elsewhere the run says aloud that they are missing. The life beside a dict, and
zict's checks, run everywhere.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from zict.tests import utils_test as zict_checks

import ebooklet
from ebooklet.database import EBooklet

try:
    from test import mapping_tests  # type: ignore[import-not-found]  # typeshed leaves it out
except ImportError:
    mapping_tests = None

_names = itertools.count()


def new(serializer: str, path: Path | None = None) -> EBooklet[Any]:
    """An empty database with a remote of its own."""
    return ebooklet.open(f"memory://protocol-{next(_names)}", path, "c", serializer)


# CPython's checks.

NO_TEST_PACKAGE = (
    "this interpreter was built without its `test` package: CPython's checks did not run"
)


def test_the_interpreter_ships_its_mapping_tests() -> None:
    """CI runs CPython's checks; another interpreter may lack them, and says so."""
    if mapping_tests is None:
        if os.environ.get("CI"):
            pytest.fail(NO_TEST_PACKAGE)
        pytest.skip(NO_TEST_PACKAGE)
    assert {"test_read", "test_write"} <= set(dir(mapping_tests.BasicTestMappingProtocol))


if mapping_tests is not None:
    # What CPython's stricter class asks of a dict that ours is not; each must really fail.
    RANGES = "items() and values() take a prefix, so None is no error"
    STRINGS = "it uses int keys; ours are strings"
    COPIES = "a value read is a copy, as of every database; it also asks for copy()"
    BASIC = {"test_items": RANGES, "test_values": RANGES}
    FULL = {
        "test_clear": STRINGS,
        "test_constructor": "databases are opened, not constructed from keywords",
        "test_copy": STRINGS,
        "test_fromkeys": "databases are opened, not constructed from keys",
        "test_items": RANGES,
        "test_popitem": COPIES,
        "test_setdefault": COPIES,
        "test_update": STRINGS,
        "test_values": RANGES,
    }

    def deviating(deviations: dict[str, str]) -> Callable[[type], type]:
        """Mark the tests that must fail, with the reason."""

        def mark(cls: type) -> type:
            for name, reason in deviations.items():
                inherited = getattr(cls, name)

                def test(self: Any, inherited: Callable[[Any], None] = inherited) -> None:
                    inherited(self)

                setattr(cls, name, pytest.mark.xfail(strict=True, reason=reason)(test))
            return cls

        return mark

    @deviating(BASIC)
    class TestCPythonBasicInMemory(mapping_tests.BasicTestMappingProtocol):
        """`BasicTestMappingProtocol`, which CPython itself uses for os.environ and shelve."""

        def _empty_mapping(self) -> EBooklet[Any]:
            db = new("pickle")
            self.addCleanup(db.close)
            return db

    @deviating(BASIC)
    class TestCPythonBasicInAFile(mapping_tests.BasicTestMappingProtocol):
        """The same with a Booklet file."""

        def _empty_mapping(self) -> EBooklet[Any]:
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            db = new("pickle", Path(folder.name) / "a.blt")
            self.addCleanup(db.close)
            return db

    @deviating(FULL)
    class TestCPythonFull(mapping_tests.TestMappingProtocol):
        """`TestMappingProtocol`, which is made for dict and UserDict."""

        def _empty_mapping(self) -> EBooklet[Any]:
            db = new("pickle")
            self.addCleanup(db.close)
            return db


# zict's checks.


@pytest.fixture(params=["memory", "file"])
def mapping(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EBooklet[Any]]:
    """An empty database of bytes, its local half in memory or in a file."""
    with new("bytes", tmp_path / "a.blt" if request.param == "file" else None) as db:
        yield db


@pytest.mark.parametrize(
    "check",
    [
        zict_checks.check_empty_mapping,
        zict_checks.check_mapping,
        zict_checks.check_bad_key_types,
        zict_checks.check_bad_value_types,
        zict_checks.check_different_keys_threadsafe,
        zict_checks.check_same_key_threadsafe,
    ],
    ids=lambda check: check.__name__,
)
def test_zict_takes_it_for_a_mapping(mapping: EBooklet[Any], check: Any) -> None:
    """zict, which spills Dask's memory through mappings, finds nothing to complain about."""
    check(mapping)


# A life beside a dict.

KEYS = st.sampled_from(["", "a", "a/", "a/1", "a/2", "b", "ü", "\x00", "z" * 300])
VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.just("x" * 200))
ABSENT = object()


class BesideADict(RuleBasedStateMachine):
    """Every mapping method, pending, pushed and evicted in turn, does what a dict's does."""

    def __init__(self) -> None:
        super().__init__()
        self.db = new("json")
        self.dict: dict[str, Any] = {}

    @rule(key=KEYS, value=VALUES)
    def setitem(self, key: str, value: Any) -> None:
        self.db[key] = value
        self.dict[key] = value

    @rule(key=KEYS)
    def delitem(self, key: str) -> None:
        if self.dict.pop(key, ABSENT) is ABSENT:
            with pytest.raises(KeyError):
                del self.db[key]
        else:
            del self.db[key]

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.db.get(key, ABSENT) == self.dict.get(key, ABSENT)
        assert (key in self.db) == (key in self.dict)
        if key not in self.dict:
            with pytest.raises(KeyError) as error:
                self.db[key]
            assert error.value.args == (key,)

    @rule(key=KEYS, default=VALUES)
    def pop(self, key: str, default: Any) -> None:
        assert self.db.pop(key, default) == self.dict.pop(key, default)

    @rule()
    def popitem(self) -> None:
        if not self.dict:
            with pytest.raises(KeyError):
                self.db.popitem()
        else:
            key, value = self.db.popitem()
            assert self.dict.pop(key) == value

    @rule(key=KEYS, default=VALUES)
    def setdefault(self, key: str, default: Any) -> None:
        assert self.db.setdefault(key, default) == self.dict.setdefault(key, default)

    @rule(other=st.dictionaries(KEYS, VALUES, max_size=4), way=st.sampled_from(["map", "pairs"]))
    def update(self, other: dict[str, Any], way: str) -> None:
        self.db.update(other if way == "map" else iter(other.items()), kw=1)
        self.dict.update(other, kw=1)

    @rule()
    def clear(self) -> None:
        self.db.clear()
        self.dict.clear()

    @rule(message=st.sampled_from(["", "said"]))
    def push(self, message: str) -> None:
        self.db.push(message)

    @rule()
    def evict(self) -> None:
        """What is pushed leaves the local half, and is fetched again."""
        self.db.prune(timestamp=2**55)

    @rule(prefix=KEYS, start=KEYS, stop=KEYS)
    def ranges(self, prefix: str, start: str, stop: str) -> None:
        expected = [
            key for key in sorted(self.dict) if key.startswith(prefix) and start <= key < stop
        ]
        view = self.db.keys(prefix, start=start, stop=stop)
        assert list(view) == expected
        assert len(view) == len(expected)
        items = self.db.items(prefix, start=start, stop=stop)
        assert list(items) == [(key, self.dict[key]) for key in expected]

    @rule(keys=st.lists(KEYS, max_size=6))
    def get_items(self, keys: list[str]) -> None:
        found = list(self.db.get_items(keys, ABSENT))
        assert found == [(key, self.dict.get(key, ABSENT)) for key in keys]

    @invariant()
    def same(self) -> None:
        assert len(self.db) == len(self.dict)
        assert bool(self.db) == bool(self.dict)
        assert list(self.db) == list(self.db.keys()) == sorted(self.dict)
        assert list(self.db.items()) == sorted(self.dict.items())
        assert list(self.db.values()) == [self.dict[key] for key in sorted(self.dict)]
        assert self.db == self.dict
        assert self.db.keys() == self.dict.keys()
        assert [key for key, _ in self.db.timestamps()] == sorted(self.dict)

    def teardown(self) -> None:
        self.db.close()


TestBesideADict = BesideADict.TestCase
TestBesideADict.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
