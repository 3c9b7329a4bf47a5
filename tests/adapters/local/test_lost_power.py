"""The system went down: what was flushed is as it was, and what was not is not believed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ebooklet.adapters.local.booklet import BookletLocalStore, open_store
from ebooklet.adapters.localfiles import sidecar
from ebooklet.adapters.localfiles.flushed import Flushed, decode_states, encode_states
from ebooklet.errors import LocalFileError
from ebooklet.testing.children import in_child
from ebooklet.testing.local_store_contract import everything
from tests.adapters.local.conftest import CLOCK

KEYS = [f"k{n}" for n in range(20)]


def open_at(path: Path) -> BookletLocalStore:
    return open_store(path, clock=CLOCK, n_buckets=8, lock_timeout=5)


def lived_in(path: Path) -> int:
    """A file with dead blocks from before its last sync, and kills since; its size at that sync."""
    size = 0

    def live() -> None:
        nonlocal size
        store = open_at(path)
        store.set_many((key, b"first", 1) for key in KEYS)
        store.sync()
        store.set_many((key, b"synced", 2) for key in KEYS[:15])
        store.delete(["k19"])
        store.sync()
        (path.parent / "size").write_text(str(path.stat().st_size))
        store.set_many((key, b"n" * 5000, 3) for key in KEYS[10:])
        store.delete(["k0"])
        store.count()
        os._exit(0)  # nothing is closed

    assert in_child(live) == 0
    return int((path.parent / "size").read_text())


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def blank(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(size + 200)
        file.write(bytes(path.stat().st_size - size - 200))


@pytest.mark.parametrize("lose", [cut, blank], ids=["cut", "zeros"])
def test_what_was_flushed_is_there_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Path, int], None]
) -> None:
    """Neither is a value missing that was killed for one that never came, nor a deleted one back."""
    path = tmp_path / "a.blt"
    lose(path, lived_in(path))
    monkeypatch.setattr(sidecar, "boot_id", lambda: "a later start")
    store = open_at(path)
    assert store.condition == "crashed"
    found = {key: entry.value for key, entry in everything(store).items()}
    expected = dict.fromkeys(KEYS[:15], b"synced") | dict.fromkeys(KEYS[15:19], b"first")
    assert found == expected | {key: found[key] for key in found.keys() & {"k0"}}
    store.sync()
    store.close()
    assert open_at(path).condition == "clean"


def test_a_killed_process_keeps_all_that_reached_the_file(tmp_path: Path) -> None:
    """While the system stays up, what was written is there, flushed or not."""
    path = tmp_path / "a.blt"
    lived_in(path)
    store = open_at(path)
    found = everything(store)
    assert {key for key in found if found[key].timestamp == 3} == set(KEYS[10:])
    assert "k0" not in found
    store.close()


@pytest.mark.parametrize("in_one", [False, True], ids=["by booklet", "appended"])
def test_a_change_in_place_that_fails_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_one: bool
) -> None:
    """All raises until the file is opened again, and then every value is there, old or new."""
    path = tmp_path / "a.blt"
    store = open_at(path) if not in_one else open_store(path, clock=CLOCK, n_buckets=1000)
    store.set_many((key, b"synced", 2) for key in KEYS)
    store.sync()
    left = 3
    write = os.pwrite

    def failing(fd: int, data: bytes, at: int) -> int:
        nonlocal left
        if len(data) == 6:
            left -= 1
            if left <= 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(fd, data, at)

    more = [f"n{n}" for n in range(980)] if in_one else []
    monkeypatch.setattr(os, "pwrite", failing)

    def change() -> None:
        store.set_many([(key, b"newer", 3) for key in (more or KEYS)])
        store.sync()

    with pytest.raises(OSError, match="Input/output error"):
        change()
    monkeypatch.setattr(os, "pwrite", write)
    for use in (store.sync, lambda: store.get("k3"), lambda: store.set("k3", b"late", 4)):
        with pytest.raises(LocalFileError, match="open it again"):
            use()
    with pytest.raises(LocalFileError, match="open it again"):
        store.close()
    store = open_at(path)
    assert store.condition == "crashed"
    found = everything(store)
    assert set(found) == {*KEYS, *more}
    assert {entry.value for entry in found.values()} <= {b"synced", b"newer"}
    store.close()


def test_states_are_read_as_they_were_written() -> None:
    """Anything else tells of none."""
    states = [Flushed(1, 2, 3, 4, 5), Flushed(6, 7, 8, 9, 10, (11, 12))]
    assert decode_states(encode_states(states)) == states
    for wrong in (
        b"",
        b"{",
        b"[1]",
        b"[[1, 2, 3, 4, 5]]",
        b"[[1, 2, 3, 4, -5, []]]",
        b"[[1, 2, 3, 9223372036854775808, 5, []]]",
        b"{}",
        b"[{}]",
    ):
        assert decode_states(wrong) == []
