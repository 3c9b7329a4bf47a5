"""Several processes at one file, and processes that end in every way but the proper one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Final

import pytest

from ebooklet.adapters.local.booklet import BookletLocalStore, open_store, session
from ebooklet.adapters.local.booklet.finding import examine
from ebooklet.adapters.local.booklet.layout import Header
from ebooklet.adapters.localfiles.finding import Finding
from ebooklet.adapters.localfiles.sidecar import Sidecar
from ebooklet.errors import LockTimeout
from ebooklet.testing.children import in_child
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.local_store_contract import everything
from tests.adapters.local.conftest import CLOCK, OpenBooklet

pytestmark = pytest.mark.usefixtures("lean_processes")

PRELUDE: Final = """
import os, sys
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import open_store
def opened(**options):
    return open_store(sys.argv[1], clock=SystemClock(), lock_timeout=5, **options)
"""


def run_program(path: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program of its own, warnings being errors, on the file."""
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-X",
            "dev",
            "-c",
            PRELUDE + textwrap.dedent(program),
            path,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ENDINGS: Final = {
    "falls off the end": "store = opened(); store.set('k', b'v', 1)",
    "grew before": """
        store = opened(n_buckets=10)
        for i in range(100): store.set(f'k{i}', b'v', 1)
        store.set('k', b'v', 1)
        """,
    "in a cycle": """
        store = opened(); store.set('k', b'v', 1)
        ring = [store]; ring.append(ring)
        del store
        """,
    "an exception": "store = opened(); store.set('k', b'v', 1); raise SystemExit(3)",
    "a child that exits": """
        store = opened(); store.set('k', b'v', 1)
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        store.set('k2', b'v', 1)
        """,
    "multiprocessing": """
        import multiprocessing
        def work(number):
            return number + 1
        store = opened(); store.set('k', b'v', 1)
        with multiprocessing.get_context('fork').Pool(2) as pool:
            assert pool.map(work, [1, 2]) == [2, 3]
        store.set('k2', b'v', 1)
        """,
    "a child while another thread holds the lock": """
        import threading
        store = opened(); store.set('k', b'v', 1)
        with store._lock:
            held = threading.Event()
        def fork():
            child = os.fork()
            if child == 0:
                try:
                    store.get('k')
                except RuntimeError:
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        with store._lock:
            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_ending_without_close(tmp_path: Path, ending: str) -> None:
    """However a program ends short of a kill, its writes are there and the file is in order."""
    path = tmp_path / "db.blt"
    ended = run_program(path, ENDINGS[ending])
    assert ended.stderr == ""
    assert ended.returncode in (0, 3)
    store = open_store(path, clock=CLOCK, lock_timeout=0.1)
    assert store.condition == "clean"
    assert everything(store)["k"].value == b"v"
    store.close()


def test_a_reader_may_be_forked(tmp_path: Path) -> None:
    """A child that exits with a reader's copy leaves the parent reading."""
    path = tmp_path / "db.blt"
    open_store(path, clock=CLOCK).close()
    ended = run_program(
        path,
        """
        store = opened(); store.set('k', b'v', 1); store.close()
        store = opened(mode='read'); assert store.get('k') == b'v'
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        assert store.get('k') == b'v'
        store.close()
        """,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_readers_and_a_writer_in_processes(open_booklet: OpenBooklet) -> None:
    """Readers in other processes see whole values while a writer comes and goes."""
    store = open_booklet()
    store.set_many((f"k{i}", b"0" * 300, 0) for i in range(50))
    store.close()

    def read() -> None:
        reader = open_booklet(mode="read", lock_timeout=300)  # no load makes it as long as that
        chance = random.Random(os.getpid())
        last = 0
        while last < 4:
            key = f"k{chance.randrange(50)}"
            entry = reader.get_entry(key)
            assert entry is not None
            assert entry.value == b"%d" % entry.timestamp * 300
            last = entry.timestamp
            if chance.random() < 0.01:
                reader.set("fetched", b"x", 1)
        assert {len(e.value) for k, e in reader.get_many([f"k{i}" for i in range(50)])} == {300}
        reader.close()

    codes: list[int] = []
    readers = [threading.Thread(target=lambda: codes.append(in_child(read))) for _ in range(3)]
    for thread in readers:
        thread.start()
    for round_ in range(1, 5):
        store = open_booklet(lock_timeout=300)
        store.set_many((f"k{i}", b"%d" % round_ * 300, round_) for i in range(50))
        if round_ == 2:
            store.compact()
        store.close()
    for thread in readers:
        thread.join()
    assert codes == [0, 0, 0]


def test_a_reader_that_writes_waits_like_any_other(tmp_path: Path) -> None:
    """For a writer that stays for a minute too: the only limit is the `lock_timeout` it was given."""
    path = tmp_path / "db.blt"
    open_store(path, clock=CLOCK).close()
    clock = ManualClock()
    reader = open_store(path, mode="read", clock=clock, lock_timeout=100)
    for step in (lambda: reader.set("k", b"v", 1), lambda: reader.write_slot("s", b"1")):
        writer = open_store(path, clock=CLOCK, lock_timeout=20)
        began = clock.monotonic()

        def leave(_: float, writer: BookletLocalStore = writer, until: float = began + 60) -> None:
            if clock.monotonic() > until:
                writer.close()

        clock.on_sleep = leave
        step()
        assert clock.monotonic() - began > 60
    clock.on_sleep = None
    writer = open_store(path, clock=CLOCK, lock_timeout=20)
    assert (writer.get("k"), writer.read_slot("s")) == (b"v", b"1")
    with pytest.raises(LockTimeout, match=f"process {os.getpid()}"):
        reader.set("k", b"w", 2)
    writer.close()
    reader.close()


def test_a_reader_that_waits_to_write_lets_go_of_the_file(tmp_path: Path) -> None:
    """Two readers that have to write at once: the one behind does not keep the first from the file."""
    path = tmp_path / "db.blt"
    open_store(path, clock=CLOCK).close()
    clock = ManualClock()
    first = open_store(path, mode="read", clock=clock, lock_timeout=100)
    second = open_store(path, mode="read", clock=CLOCK, lock_timeout=0)

    waits: list[float] = []

    def follow(seconds: float) -> None:
        waits.append(seconds)
        clock.on_sleep = None
        with pytest.raises(LockTimeout):  # the first has the gate, and waits for the file
            second.write_slot("s", b"1")

    clock.on_sleep = follow
    first.set("k", b"v", 1)
    assert len(waits) == 1
    second.write_slot("s", b"2")
    assert (second.get("k"), first.read_slot("s")) == (b"v", b"2")
    first.close()
    second.close()


def test_a_child_forked_during_an_open_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that shares the very file being looked at does not lock its parent out."""
    path = tmp_path / "db.blt"
    open_store(path, clock=CLOCK).close()
    reading, writing = os.pipe()
    children: list[int] = []

    def look(fd: int, location: Path, sidecar: Sidecar) -> Finding[Header]:
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        children.append(child)
        return examine(fd, location, sidecar)

    monkeypatch.setattr(session, "examine", look)
    try:
        open_store(path, clock=CLOCK, lock_timeout=0.2).close()
    finally:
        os.close(writing)
        for child in children:
            os.waitpid(child, 0)
        os.close(reading)
    assert children


def test_writers_queue(open_booklet: OpenBooklet) -> None:
    """Writers in several processes wait for one another, and none loses a write."""

    def write() -> None:
        for number in range(5):
            store = open_booklet(lock_timeout=30)
            store.set(f"{os.getpid()}-{number}", b"v", 1)
            store.close()

    codes: list[int] = []
    writers = [threading.Thread(target=lambda: codes.append(in_child(write))) for _ in range(3)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert codes == [0, 0, 0]
    assert open_booklet().count() == 15


def test_a_dead_writer_is_no_holder(open_booklet: OpenBooklet) -> None:
    """The lock dies with its holder, even if a child of it lives on."""
    reading, writing = os.pipe()

    def writer() -> None:
        store = open_booklet()
        store.set("k", b"v", 1)
        store.sync()
        if os.fork() == 0:
            os.close(writing)
            os.read(reading, 1)  # until the test ends
        os._exit(0)

    assert in_child(writer) == 0
    store = open_booklet(lock_timeout=0.5)
    assert store.get("k") == b"v"
    os.close(writing)
    os.close(reading)


def test_messages_name_the_holder(open_booklet: OpenBooklet) -> None:
    """Who waits in vain learns which process on which machine has the file."""
    open_booklet().set("k", b"v", 1)
    store = open_booklet()
    with pytest.raises(LockTimeout) as refused:
        open_booklet(lock_timeout=0)
    assert f"process {os.getpid()} on {os.uname().nodename}" in str(refused.value)
    assert store.location in str(refused.value)
