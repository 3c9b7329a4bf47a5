"""LMDB files: growth, kills, strangers' and damaged ones, and a database in one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ebooklet
from ebooklet.adapters.local.lmdb import LmdbLocalStore, environments, open_store
from ebooklet.errors import LocalFileError
from ebooklet.testing.children import in_child
from ebooklet.testing.local_store_contract import everything
from tests.adapters.local.conftest import CLOCK
from tests.adapters.local.test_kills import (
    BASE,
    METADATA,
    OPERATIONS,
    copy_of,
    kill_before,
    number_of_calls,
)
from tests.small_disks import room_for

POINTS = 3


def opened(path: Path, **options: Any) -> LmdbLocalStore:
    return open_store(path, clock=CLOCK, lock_timeout=5, buffer_size=300, **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a synced store in it."""
    folder = tmp_path_factory.mktemp("lmdb")
    store = opened(folder / "db.blt")  # the name that `copy_of` gives it
    store.set_many((key, entry.value, entry.timestamp) for key, entry in BASE.items())
    store.set_metadata(*METADATA)
    store.write_slot("slot", b"base")
    store.append_log("log", b"base")
    store.close()
    return folder


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that needs more address space than there is gets it, and loses nothing."""
    monkeypatch.setattr(environments, "LEAST_MAP", 1 << 16)
    store = opened(tmp_path / "a")
    store.set("small", b"v", 1)
    store.set_many((f"k{i}", bytes([i]) * 100_000, i) for i in range(8))
    store.set("large", b"x" * 3_000_000, 9)
    store.delete(["k0"])
    assert store.get("small") == b"v"
    store.close()
    again = opened(tmp_path / "a", mode="read")
    found = everything(again)
    assert found["large"].value == b"x" * 3_000_000
    assert found["k7"].value == bytes([7]) * 100_000
    assert len(found) == 9
    again.close()


@pytest.mark.parametrize("odd", ["short", "", "x" * 600])
def test_many_at_once(tmp_path: Path, odd: str) -> None:
    """Of one key the last write counts, waiting ones and those of one batch, whatever other keys."""
    store = opened(tmp_path / "a")
    store.set("k", b"waiting", 1)
    values = [b"z" * 200, b"a" * 200]
    store.set_many([(odd, b"odd", 2), *(("k", value, 3 + n) for n, value in enumerate(values))])
    store.set("k2", b"after", 9)
    for _ in range(2):
        assert store.get("k") == values[-1]
        assert dict(store.timestamps()) == {odd: 2, "k": 4, "k2": 9}
        assert store.get(odd) == b"odd"
        store.sync()
    store.close()


@pytest.mark.parametrize("name", ["overwrites", "deletes", "compacts", "adopts", "clears", "notes"])
def test_killed_in_the_middle(name: str, base: Path, tmp_path: Path) -> None:
    """Killed at points spread over an operation, a store keeps all that was synced."""
    operation = OPERATIONS[name]
    store = opened(copy_of(base, tmp_path / "dry"))
    total = number_of_calls(lambda: operation.run(store))  # type: ignore[arg-type]  # any store
    store.close()
    for point in range(POINTS):
        path = copy_of(base, tmp_path / "killed")

        def work(path: Path = path, point: int = point) -> None:
            store = opened(path)
            assert store.condition == "clean"
            kill_before(1 + total * point // POINTS)
            operation.run(store)  # type: ignore[arg-type]

        assert in_child(work) == -signal.SIGKILL
        store = opened(path)
        found = everything(store)
        for key, entry in BASE.items():
            if key not in operation.removed or key in found:
                assert found[key] == entry or found[key].value == operation.written[key]
        assert store.get_metadata() == METADATA
        assert store.read_log("log").startswith(b"base")
        store.sync()
        store.close()
        store = opened(path)
        assert (store.condition, everything(store)) == ("clean", found)
        store.close()


def test_compacting_gives_space_back(base: Path, tmp_path: Path) -> None:
    """What was deleted takes no room after `compact`, and the permissions stay."""
    path = copy_of(base, tmp_path / "copy")
    store = opened(path)
    store.set_many((f"large{i}", b"x" * 50_000, 1) for i in range(40))
    store.sync()
    path.chmod(0o640)
    assert store.compact(evict=[f"large{i}" for i in range(40)]) == 40
    assert path.stat().st_size < 500_000
    assert path.stat().st_mode & 0o777 == 0o640
    assert everything(store) == BASE
    store.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """What does not fit waits, with an error that says so, until there is room."""
    path = tmp_path / "a"
    store = opened(path)
    store.set("before", bytes(200), 1)
    store.sync()
    with room_for(path, 10_000), pytest.raises(LocalFileError, match="room"):
        store.set("large", bytes(100_000), 1)
    assert store.get("before") == bytes(200)
    store.close()
    assert {key: len(entry.value) for key, entry in everything(opened(path)).items()} == {
        "before": 200,
        "large": 100_000,
    }


@pytest.mark.parametrize("content", [b"text", b"\0" * 9000, "booklet", "stranger"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | str) -> None:
    """A file that is none of ours is refused, also to be replaced, and stays what it was."""
    path = tmp_path / "a"
    if content == "booklet":
        ebooklet.open(None, path, "n").close()
        (tmp_path / "a.ebk").rename(tmp_path / "b.ebk")
    elif content == "stranger":
        lmdb.open(str(path), subdir=False, lock=False).close()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    before = path.read_bytes()
    for mode in ("read", "write"):
        with pytest.raises(LocalFileError, match="LMDB file"):
            opened(path, mode=mode)
    if content != "stranger":
        with pytest.raises(LocalFileError, match="not be replaced"):
            open_store(path, clock=CLOCK, replace=True)
    assert path.read_bytes() == before


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    at=st.floats(0, 1, exclude_max=True),
    with_=st.binary(min_size=1, max_size=64),
    cut=st.booleans(),
)
def test_damaged_files(base: Path, tmp_path: Path, at: float, with_: bytes, cut: bool) -> None:
    """A damaged file is refused with an error of ours, or can be read to its end."""
    path = copy_of(base, tmp_path / "damaged")
    data = bytearray(path.read_bytes())
    start = int(at * len(data))
    data[start : start + len(with_)] = with_
    path.write_bytes(data[:start] if cut else data)
    for mode in ("read", "write"):
        try:
            store = opened(path, mode=mode, create=False)
        except (LocalFileError, FileNotFoundError):
            continue
        everything(store)
        store.close()


def test_a_key_that_is_no_text(tmp_path: Path) -> None:
    """Another program's key that is no UTF-8 is named in an error of ours."""
    path = tmp_path / "a"
    opened(path).close()
    plain = lmdb.open(str(path), subdir=False, lock=False, max_dbs=4)
    with plain.begin(write=True, db=plain.open_db(b"values")) as transaction:
        transaction.put(b"\xff\xfe", b"")
    plain.close()
    store = opened(path)
    for listed in (store.keys, store.timestamps):
        with pytest.raises(LocalFileError, match="no text"):
            listed()
    store.close()


def test_a_database_in_one(tmp_path: Path) -> None:
    """What is pending stays so over a close, edits by LMDB itself are offered, and all is pushed."""
    path = tmp_path / "db.lmdb"
    long = "k" * 600
    with ebooklet.open("memory://lmdb-store", path, "c", "json", local="lmdb") as db:
        db.update({"a": 1, "b": [2], "": "empty", long: "long"})
    plain = lmdb.open(str(path), subdir=False, lock=False, max_dbs=4)
    with plain.begin(write=True, db=plain.open_db(b"values")) as transaction:
        transaction.put(b"edited", bytes(7) + b"3")
    plain.close()
    with ebooklet.open("memory://lmdb-store", path, "w", local="lmdb") as db:
        assert {change["key"] for change in db.changes().iter_changes()} == {
            *("a", "b", "edited", "", long)
        }
        assert db.push().updated
        del db["a"]
    with ebooklet.open("memory://lmdb-store", path, local="lmdb") as db:
        assert dict(db) == {"": "empty", "b": [2], "edited": 3, long: "long"}
    with ebooklet.open("memory://lmdb-store", None) as db:
        assert dict(db) == {"": "empty", "a": 1, "b": [2], "edited": 3, long: "long"}
