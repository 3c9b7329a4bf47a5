"""Torn, flipped and hostile files: what is whole is kept, nothing else comes out, nothing hangs."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Final

import booklet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebooklet.adapters.local.booklet import BookletLocalStore, inspection, open_store
from ebooklet.adapters.local.booklet.bulk import keys_and_stamps
from ebooklet.adapters.local.booklet.inspection import Salvage, is_sound
from ebooklet.adapters.local.booklet.layout import (
    BLOCK_BYTES,
    BLOCK_HEADER,
    HASH_BYTES,
    HEADER_BYTES,
    STAMP_AT,
    key_hash,
    live_blocks,
    parse_header,
)
from ebooklet.errors import LocalFileError
from ebooklet.testing.children import in_child
from ebooklet.testing.local_store_contract import everything
from tests.adapters.local.conftest import CLOCK, OpenBooklet

KEYS: Final = [f"key{i:02}" for i in range(40)]


def value_of(key: str) -> bytes:
    return key.encode() * 20


def plain_file(path: Path, *, n_buckets: int = 61) -> Path:
    """A file with forty keys, some of them overwritten, some deleted, made by Booklet alone."""
    with booklet.open(path, "n", key_serializer="str", n_buckets=n_buckets) as file:
        for key in [*KEYS, "gone0", "gone1"]:
            file[key] = b"old" * 10
        file.sync()
        for key in KEYS:
            file[key] = value_of(key)
        file.set_metadata({"a": 1}, 5)
        file.set_reserved(1, b"slot one", 6)
        del file["gone0"], file["gone1"]
    return path


def opened(path: Path) -> BookletLocalStore:
    return open_store(path, clock=CLOCK, lock_timeout=5)


def soundness(path: Path) -> bool:
    with path.open("rb") as file:
        header = parse_header(file.read(HEADER_BYTES), str(path))
        return is_sound(file.fileno(), header, path.stat().st_size)


@pytest.mark.parametrize("change", ["none", "pruned", "reindexed", "cleared", "empty"])
def test_sound_files_are_found_sound(tmp_path: Path, change: str) -> None:
    """Whatever Booklet itself does to a file in order, it stays trusted."""
    path = plain_file(tmp_path / "a", n_buckets=5 if change == "reindexed" else 61)
    with booklet.open(path, "w") as file:
        if change == "pruned":
            file.prune()
            file["after"] = b"x"
        elif change == "cleared":
            file.clear()
            file["after"] = b"x"
        elif change == "empty":
            for key in KEYS:
                del file[key]
    assert soundness(path)


@pytest.mark.parametrize("cut", [1, 50, 150, 4000])
def test_torn_tail(tmp_path: Path, cut: int) -> None:
    """A file that lost its end keeps every key whose block is whole."""
    path = plain_file(tmp_path / "a")
    os.truncate(path, path.stat().st_size - cut)
    store = opened(path)
    found = everything(store)
    assert store.condition == "edited"
    assert all(entry.value == value_of(key) for key, entry in found.items())
    assert len(found) >= len(KEYS) - 1 - cut // 100
    store.set("after", b"x", 1)
    store.close()
    with booklet.open(path) as file:
        assert len(file) == len(found) + 1


def test_appended_after_a_torn_tail(tmp_path: Path) -> None:
    """Blocks that Booklet wrote behind a torn one are found, and the torn one is not believed."""
    path = plain_file(tmp_path / "a")
    with booklet.open(path, "w") as file:
        file["torn"] = b"t" * 5000
    os.truncate(path, path.stat().st_size - 4000)
    with booklet.open(path, "w") as file:
        file["later1"] = b"1" * 100
        file["later2"] = b"2" * 100
    store = opened(path)
    found = everything(store)
    assert set(found) == {*KEYS, "later1", "later2"}
    assert found["later2"].value == b"2" * 100
    store.close()


def test_blocks_inside_values_are_not_taken_for_keys(tmp_path: Path) -> None:
    """A Booklet stored as a value, torn at that, gives none of its own keys away."""
    inner = plain_file(tmp_path / "inner").read_bytes()
    path = plain_file(tmp_path / "a")
    with booklet.open(path, "w") as file:
        file["whole"] = inner
        file["torn"] = inner
    os.truncate(path, path.stat().st_size - 100)
    store = opened(path)
    found = everything(store)
    assert set(found) == {*KEYS, "whole"}
    assert found["whole"].value == inner
    assert found["key00"].value == value_of("key00")
    store.close()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), length=st.integers(1, 40))
def test_flipped_bytes(tmp_path: Path, at: float, bit: int, length: int) -> None:
    """Damage anywhere costs the keys it hits, and leaves a file that opens and agrees."""
    path = plain_file(tmp_path / "a")
    shutil.rmtree(tmp_path / "a.ebk", ignore_errors=True)
    data = bytearray(path.read_bytes())
    start = int(at * len(data))
    for position in range(start, min(start + length, len(data))):
        data[position] ^= 1 << bit
    path.write_bytes(data)
    try:
        store = opened(path)
    except LocalFileError:
        assert start < HEADER_BYTES
        assert path.read_bytes() == data
        return
    found = everything(store)
    # Values have no checksums in a Booklet; of keys, at most those under the damage may go.
    assert len(found.keys() & set(KEYS)) >= len(KEYS) - 1 - length // 30 or start < HEADER_BYTES
    store.set("after", b"x", 1)
    store.sync()
    store.close()
    again = opened(path)
    assert again.condition == "clean"
    assert everything(again).keys() == {*found, "after"}
    again.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=3000), header=st.binary(max_size=60), at=st.integers(18, 80))
def test_hostile_files(tmp_path: Path, body: bytes, header: bytes, at: int) -> None:
    """Any bytes behind a Booklet's magic are opened or refused, in bounded time and memory."""
    path = tmp_path / "a"
    shutil.rmtree(tmp_path / "a.ebk", ignore_errors=True)
    data = bytearray(plain_file(path).read_bytes()[:HEADER_BYTES])
    data[at : at + len(header)] = header
    path.write_bytes(data[:HEADER_BYTES] + body)
    try:
        store = opened(path)
    except LocalFileError:
        return
    everything(store)
    store.close()


def test_a_cycle_of_pointers_is_noticed(tmp_path: Path) -> None:
    """A chain that leads back into itself, in which Booklet would go round for ever, is unsound."""
    path = tmp_path / "a"
    with booklet.open(path, "n", key_serializer="str", n_buckets=1) as file:
        file["a"] = b"1"
        file.sync()
    data = bytearray(path.read_bytes())
    block = HEADER_BYTES + 6
    data[block + 13 : block + 19] = block.to_bytes(6, "little")
    path.write_bytes(data)
    assert not soundness(path)
    store = opened(path)
    assert store.get("absent") is None
    assert store.get("a") == b"1"
    store.close()


def test_reserved_data_survive_repair(tmp_path: Path) -> None:
    """Metadata, and what other libraries keep in Booklet's slots, are kept by a repair."""
    path = plain_file(tmp_path / "a")
    with path.open("r+b") as file:
        file.seek(33)
        file.write(b"\xff" * 4)  # Booklet's mark of a file that was not closed
    store = opened(path)
    assert store.get_metadata() == (b'{"a":1}', 5)
    assert set(everything(store)) == set(KEYS)
    store.close()
    with booklet.open(path) as plain:
        assert plain.get_reserved(1, include_timestamp=True) == (b"slot one", 6)
        assert plain.get_metadata() == {"a": 1}


def test_salvage_reports_what_it_skipped(tmp_path: Path) -> None:
    """Bytes that belong to no block are counted."""
    path = plain_file(tmp_path / "a")
    with path.open("ab") as file:
        file.write(b"garbage" * 100)
    with path.open("rb") as file:
        header = parse_header(file.read(HEADER_BYTES), str(path))
        search = Salvage(file.fileno(), header, path.stat().st_size)
        assert {block[0].decode() for block in search.blocks()} >= set(KEYS)
        assert search.skipped == 700


def test_salvage_gives_up_on_what_only_looks_like_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hostile file has it hash is bounded; what was found before is kept."""
    path = plain_file(tmp_path / "a")
    looks_like_one = BLOCK_HEADER.pack(b"x" * HASH_BYTES, bytes(6), 60_000, 0, bytes(7))
    with path.open("ab") as file:
        file.write(b"\xff" * 7 + looks_like_one * 4000)
    monkeypatch.setattr(inspection, "_HASH_LIMIT", 600_000)
    hashed: list[int] = []

    def counting(key: bytes) -> bytes:
        hashed.append(len(key))
        return key_hash(key)

    monkeypatch.setattr(inspection, "key_hash", counting)
    with path.open("rb") as damaged:
        header = parse_header(damaged.read(HEADER_BYTES), str(path))
        search = Salvage(damaged.fileno(), header, path.stat().st_size)
        assert {block[0].decode() for block in search.blocks()} >= set(KEYS)
    assert hashed.count(60_000) <= 600_000 // 60_000 + 2


@pytest.mark.parametrize("work", ["prune", "reindex", "set"])
def test_a_program_killed_within_booklet(tmp_path: Path, work: str) -> None:
    """Files that plain Booklet left half done are opened, with every value whole."""
    path = plain_file(tmp_path / "a", n_buckets=61)

    def dies() -> None:
        file = booklet.open(path, "w")
        for number in range(100):
            file.set(f"new{number}", b"n" * 50)
        if work == "set":
            file.sync = lambda: None
        hits = 0
        original = file._file

        class Dying:
            def __getattr__(self, name: str) -> object:
                return getattr(original, name)

            def write(self, data: bytes) -> int:
                nonlocal hits
                hits += 1
                if hits == 40:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original.write(data)

        file._file = Dying()
        if work == "prune":
            file.prune()
        else:
            file.sync()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(dies) == -signal.SIGKILL
    store = opened(path)
    found = everything(store)
    assert all(
        entry.value == (b"n" * 50 if key.startswith("new") else value_of(key))
        for key, entry in found.items()
    )
    if work != "prune":  # which moves blocks over one another
        assert set(KEYS) <= set(found)
    store.close()


def test_reading_a_damaged_file_repairs_it_first(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """A reader repairs a file as a writer would, and leaves the finding for the next writer."""
    path = plain_file(tmp_path / "one.blt")
    os.truncate(path, path.stat().st_size - 10)
    reader = open_booklet(mode="read")
    assert reader.condition == "edited"
    assert set(everything(reader)) <= set(KEYS)
    reader.close()
    for _ in range(2):
        store = open_booklet()
        assert store.condition == "edited"
        store.close()
    store = open_booklet()
    store.sync()
    store.close()
    assert open_booklet().condition == "clean"


def test_a_key_that_is_no_text_is_an_error_of_ours(tmp_path: Path) -> None:
    """Where blocks do not fit together any more after they were found sound, it is said so.

    Found by `make torture`: the decoder's own error came out.
    """
    path = plain_file(tmp_path / "a")
    key = b"\x89key"
    with path.open("r+b") as file:
        header = parse_header(file.read(HEADER_BYTES), str(path))
        (first, *_) = live_blocks(file.fileno(), header)
        file.seek(first[2] - STAMP_AT + BLOCK_BYTES)
        file.write(key[: len(first[0])])
        file.flush()
        with pytest.raises(LocalFileError, match="no text"):
            keys_and_stamps(file.fileno(), header)
