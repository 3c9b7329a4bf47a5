"""SIGKILL between any two steps of any operation: what was synced is there, and the file opens.

A profile function kills the process just before its n-th call of a C function; every write, rename
and lock is such a call, so the points in between are all there are, and each can be run again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import booklet
import pytest

from ebooklet.adapters.local.booklet import BookletLocalStore, open_store
from ebooklet.adapters.local.booklet import store as store_module
from ebooklet.ports.local_store import LocalValue
from ebooklet.testing.children import in_child
from ebooklet.testing.local_store_contract import UUID_GIVEN, everything
from tests.adapters.local.conftest import CLOCK

POINTS: Final = int(os.environ.get("EBK_POINTS", "14"))  # kills of each operation
BASE: Final = {f"k{i}": LocalValue(i + 1, b"base %d" % i) for i in range(30)}
METADATA: Final = (b'{"base": 1}', 7)


def open_at(path: Path) -> BookletLocalStore:
    return open_store(path, clock=CLOCK, n_buckets=40, buffer_size=300, lock_timeout=5)


@dataclass(frozen=True)
class Operation:
    """What is under way when the kill comes, and what it may leave."""

    run: Callable[[BookletLocalStore], object]
    written: dict[str, bytes]  # values that keys may have besides those of BASE
    removed: frozenset[str] = frozenset()  # keys of BASE that may be gone


def _sets(store: BookletLocalStore) -> None:
    for number in range(5):
        store.set(f"new{number}", b"x" * 90, number)


def _appends(store: BookletLocalStore) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "WORTH_IT", 2)
        store.set_many((f"new{number}", b"x" * 90, number) for number in range(8))
        store.set_many((f"k{number}", b"changed", 99) for number in range(8))


def _overwrites(store: BookletLocalStore) -> None:
    for number in range(8):
        store.set(f"k{number}", b"changed", 99)
        store.get(f"k{number}")


def _deletes(store: BookletLocalStore) -> None:
    store.delete([f"k{i}" for i in range(10)])


def _grows(store: BookletLocalStore) -> None:
    for number in range(30):
        store.set(f"new{number}", b"x" * 90, number)


def _compacts(store: BookletLocalStore) -> None:
    store.compact(evict=["k0", "k1"])


def _adopts(store: BookletLocalStore) -> None:
    store.adopt_uuid(UUID_GIVEN)


def _clears(store: BookletLocalStore) -> None:
    store.clear()
    store.set("new0", b"x" * 90, 1)
    store.sync()


def _syncs(store: BookletLocalStore) -> None:
    store.set("k0", b"changed", 99)
    store.sync()
    store.set("k1", b"changed", 99)
    store.close()


def _notes(store: BookletLocalStore) -> None:
    store.set_metadata(METADATA[0], METADATA[1])
    store.write_slot("slot", b"changed")
    store.replace_log("log", b"base changed")
    store.append_log("log", b" more")


NEW: Final = {f"new{i}": b"x" * 90 for i in range(30)}
CHANGED: Final = {f"k{i}": b"changed" for i in range(8)}
OPERATIONS: Final = {
    "sets": Operation(_sets, NEW),
    "appends": Operation(_appends, NEW | CHANGED),
    "overwrites": Operation(_overwrites, CHANGED),
    "deletes": Operation(_deletes, {}, frozenset(f"k{i}" for i in range(10))),
    "grows": Operation(_grows, NEW),
    "compacts": Operation(_compacts, {}, frozenset(["k0", "k1"])),
    "adopts": Operation(_adopts, {}),
    "clears": Operation(_clears, NEW, frozenset(BASE)),
    "syncs": Operation(_syncs, CHANGED),
    "notes": Operation(_notes, {}),
}


def kill_before(call: int) -> None:
    """SIGKILL this process before its `call`-th call of a C function from now on."""
    left = call

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal left
        if event == "c_call":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def number_of_calls(action: Callable[[], object]) -> int:
    """How many C functions `action` calls."""
    made = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal made
        made += event == "c_call"

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a synced store in it."""
    folder = tmp_path_factory.mktemp("base")
    store = open_at(folder / "db.blt")
    store.set_many((key, b"old", 1) for key in BASE)
    store.set_many((key, entry.value, entry.timestamp) for key, entry in BASE.items())
    store.set_metadata(*METADATA)
    store.write_slot("slot", b"base")
    store.append_log("log", b"base")
    store.sync()
    store.close()
    return folder


def copy_of(base: Path, folder: Path) -> Path:
    """The same store, marks included, in another folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    return folder / "db.blt"


def check(path: Path, operation: Operation) -> None:
    """The store opens with everything that it must have and nothing that it cannot have."""
    store = open_at(path)
    found = everything(store)
    for key, entry in BASE.items():
        if key in operation.removed and key not in found:
            continue
        assert found[key] == entry or found[key].value == operation.written[key]
    for key in found.keys() - BASE.keys():
        assert found[key].value == operation.written[key]
    assert store.get_metadata() == METADATA
    assert store.read_slot("slot") in (b"base", b"changed")
    assert store.read_log("log") in (b"base", b"base changed", b"base changed more")
    store.sync()
    store.close()
    with booklet.open(path) as plain:
        assert len(plain) == len(found)
        assert {key: plain[key] for key in plain} == {k: v.value for k, v in found.items()}
    store = open_at(path)
    assert store.condition == "clean"
    assert everything(store) == found
    store.close()
    assert not list(path.parent.glob("db.blt.ebk/tmp-*"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_in_the_middle(name: str, base: Path, tmp_path: Path) -> None:
    """Killed at points spread over an operation, a store keeps all that was synced."""
    operation = OPERATIONS[name]
    path = copy_of(base, tmp_path / "dry")
    store = open_at(path)
    total = number_of_calls(lambda: operation.run(store))
    store.close()
    chance = random.Random(name)
    for point in range(POINTS):
        call = 1 + int(total * (point + chance.random()) / POINTS)
        path = copy_of(base, tmp_path / "killed")

        def work(path: Path = path, call: int = call) -> None:
            store = open_at(path)
            assert store.condition == "clean"
            kill_before(call)
            operation.run(store)

        assert in_child(work) in (-signal.SIGKILL, 0), f"call {call} of {total}"
        check(path, operation)


def test_killed_while_repairing(base: Path, tmp_path: Path) -> None:
    """Killed again and again while it repairs what a kill left, a store loses nothing."""
    operation = OPERATIONS["grows"]
    broken = copy_of(base, tmp_path / "broken")

    def breaks() -> None:
        store = open_at(broken)
        store.set_many((key, value, 1) for key, value in list(NEW.items())[:4])
        store.delete(["absent"])
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(breaks) == -signal.SIGKILL
    dry = copy_of(tmp_path / "broken", tmp_path / "dry")
    total = number_of_calls(lambda: open_at(dry).close())
    chance = random.Random(1)
    for point in range(POINTS):
        path = copy_of(tmp_path / "broken", tmp_path / "killed")
        for _ in range(2):

            def work(path: Path = path, point: int = point) -> None:
                kill_before(1 + int(total * (point + chance.random()) / POINTS))
                open_at(path).close()

            assert in_child(work) in (-signal.SIGKILL, 0)
        check(path, operation)


def test_killed_while_it_is_made(tmp_path: Path) -> None:
    """Killed while a new file is made, a store opens as a new, empty or absent one."""
    total = number_of_calls(lambda: open_at(tmp_path / "dry.blt").close())
    for point in range(POINTS):
        path = tmp_path / f"db{point}.blt"

        def work(path: Path = path, point: int = point) -> None:
            kill_before(1 + total * point // POINTS)
            open_at(path)

        assert in_child(work) in (-signal.SIGKILL, 0)
        store = open_at(path)
        assert store.condition in ("new", "crashed", "clean")
        assert everything(store) == {}
        store.close()
