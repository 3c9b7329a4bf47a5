"""A disk without room: what was written stays whole, and so does what follows once there is room."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import booklet
import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local import lmdb
from ebooklet.adapters.local.booklet import open_store
from ebooklet.adapters.localfiles.sidecar import Sidecar
from ebooklet.errors import DiskFullError, LocalFileError
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


KINDS = pytest.mark.parametrize("make", [open_store, lmdb.open_store], ids=["booklet", "lmdb"])


@KINDS
def test_it_says_which_disk_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    """The error names the file and the way out, and is the system's too; with room `sync` keeps all."""
    # LMDB says of a write that was cut short no more than EIO, and the disk itself has room.
    full = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    path = tmp_path / "a"
    store = make(path, clock=SystemClock(), mode="write", create=True, buffer_size=1)
    written = []

    def write() -> None:
        for n in range(100):
            store.set(f"{n}", bytes(10_000), 1)
            written.append(f"{n}")

    with room_for(path, 100_000), pytest.raises(DiskFullError, match="call sync") as failure:
        write()
    assert failure.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert failure.value.filename == str(path)
    assert isinstance(failure.value, OSError)
    store.sync()
    assert set(written) == {*store.keys()} - {f"{len(written)}"}
    store.close()


@KINDS
def test_the_folder_was_removed(tmp_path: Path, make: Any) -> None:
    """What has to be noted there says so, and what to do; the file keeps what was set."""
    path = tmp_path / "a"
    store = make(path, clock=SystemClock(), mode="write", create=True)
    store.set("k", b"v", 1)
    shutil.rmtree(tmp_path / "a.ebk")
    for use in (lambda: store.append_log("l", b"x"), store.sync, store.close):
        with pytest.raises(LocalFileError, match="was removed while"):
            use()
    again = make(path, clock=SystemClock(), mode="write", lock_timeout=0)
    assert (again.condition, again.get("k")) == ("edited", b"v")
    again.close()


@KINDS
def test_a_file_that_nobody_closed_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Any
) -> None:
    """Collected on a full disk: no traceback, a warning with the path, and the file is free."""
    path = tmp_path / "a"
    store = make(path, clock=SystemClock(), mode="write", create=True)
    store.set("k", bytes(100_000), 1)
    with room_for(path, 10), caplog.at_level(logging.WARNING, "ebooklet.local"):
        del store
        gc.collect()
    assert [record.getMessage().split(" was ")[0] for record in caplog.records] == [str(path)]
    make(path, clock=SystemClock(), mode="write", lock_timeout=0).close()
