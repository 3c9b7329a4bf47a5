"""A disk without room: what was written stays whole, and so does what follows once there is room."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import booklet
import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import open_store
from ebooklet.adapters.localfiles.sidecar import Sidecar
from tests.small_disks import room_for


@pytest.mark.parametrize("at_once", [True, False], ids=["appended", "by booklet"])
def test_no_torn_value_is_left_for_others_to_follow(tmp_path: Path, *, at_once: bool) -> None:
    """A write that does not fit raises; all that was and all that comes is there, and only that."""
    path = tmp_path / "a.blt"
    store = open_store(path, clock=SystemClock(), mode="write", create=True, n_buckets=1000)
    values = {f"before {n}": bytes(100) for n in range(80)}
    store.set_many((key, value, 1) for key, value in values.items())
    store.sync()
    refused = [(f"refused {n}", bytes(100), 1) for n in range(80)]

    def write() -> None:
        if at_once:
            store.set_many(refused)
        for item in refused:
            store.set(*item)
        store.sync()

    with room_for(path, 1000), pytest.raises(OSError, match="File too large"):
        write()
    after = {f"after {n}": bytes(100) for n in range(80)}
    store.set_many((key, value, 1) for key, value in after.items())
    store.close()
    if not at_once:  # they were in Booklet's buffer, and are written once there is room
        values |= {key: value for key, value, _ in refused}
    with booklet.open(path, "r") as book:
        assert dict(book.items()) == values | after


def test_a_file_that_cannot_be_written_is_closed(tmp_path: Path) -> None:
    """`close` raises, and frees the file; what was synced is there, found as after a crash."""
    path = tmp_path / "a.blt"
    store = open_store(path, clock=SystemClock(), mode="write", create=True, n_buckets=1000)
    store.set("kept", bytes(100), 1)
    store.sync()
    store.set("lost", bytes(100), 1)
    with room_for(path, 10), pytest.raises(OSError, match="File too large") as failure:
        store.close()
    again = open_store(path, clock=SystemClock(), mode="write", lock_timeout=0)
    assert (again.condition, list(again.keys())) == ("crashed", ["kept"])
    again.close()
    del failure


def test_a_file_that_took_the_place_of_another_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room left once the pruned file is in place, what follows goes there.

    Found beside `make torture`: it went to the file that was no longer there, and was lost.
    """
    path = tmp_path / "a.blt"
    store = open_store(path, clock=SystemClock(), mode="write", create=True, n_buckets=1000)
    for value in (b"old", b"new"):
        store.set("before", value, 1)
        store.sync()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Sidecar, "replace_dead", refuse)
        assert store.compact() == 1
    store.set("after", b"it", 1)
    store.delete(["before"])
    store.sync()
    shutil.copy2(path, tmp_path / "killed.blt")
    store.close()
    with booklet.open(tmp_path / "killed.blt", "r") as book:
        assert dict(book.items()) == {"after": b"it"}
