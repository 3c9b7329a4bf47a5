"""Many keys written at once beside Booklet: Booklet must find nothing odd about the file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import booklet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import handles, open_store
from ebooklet.adapters.local.booklet.append import WORTH_IT, append_new
from ebooklet.adapters.local.booklet.handles import new_header, open_handle
from ebooklet.adapters.local.booklet.inspection import is_sound
from ebooklet.adapters.local.booklet.layout import (
    HEADER_BYTES,
    MAX_BUCKETS,
    edited_header,
    parse_header,
)
from ebooklet.adapters.local.booklet.lookup import mapped_reads

keys = st.text("abé🙂", max_size=3) | st.text(max_size=40).filter(
    lambda text: text.isprintable() and text.encode(errors="ignore").decode() == text
)
items = st.tuples(keys, st.binary(max_size=300), st.integers(0, (1 << 56) - 1))


@settings(max_examples=60, deadline=None)
@given(
    rounds=st.lists(st.tuples(st.booleans(), st.lists(items, max_size=60)), max_size=6),
    n_buckets=st.sampled_from([1, 7, 5000]),
)
def test_booklet_reads_what_was_appended(
    tmp_path_factory: pytest.TempPathFactory,
    rounds: list[tuple[bool, list[tuple[str, bytes, int]]]],
    n_buckets: int,
) -> None:
    """Whatever was set by Booklet or appended, in long chains and short: a dict's content.

    So do readers of many keys at once, in whatever order these are.
    """
    path = tmp_path_factory.mktemp("append") / "a.blt"
    handle = open_handle(
        path, "n", buffer_size=1 << 16, header=edited_header(new_header(1), n_buckets=n_buckets)
    )
    assert handle is not None
    handle.file._defer_reindex = True  # type: ignore[attr-defined] # few buckets, many keys
    expected: dict[str, tuple[int, bytes]] = {}
    for appended, batch in rounds:
        left = batch
        if appended:
            header = parse_header(os.pread(handle.fd, HEADER_BYTES, 0), "a")
            left = append_new(handle, header, batch)
            new = {key for key, _, _ in batch} - expected.keys()
            assert len(batch) - len(left) == len(new)
        for key, value, timestamp in left:
            handle.file.set(key, value, timestamp, False)
        expected |= {key: (timestamp, value) for key, value, timestamp in batch}
        handle.file.sync()
        assert len(handle.file) == len(expected)
    handle.close()
    with path.open("rb") as file:
        header = parse_header(file.read(HEADER_BYTES), "a")
        assert is_sound(file.fileno(), header, path.stat().st_size)
        assert header.n_keys == len(expected)
        _, read_many = mapped_reads(file.fileno(), header)
    with booklet.open(path, "r") as book:
        assert {key: (t, v) for key, t, v in book.timestamps(True)} == expected
        for asked in ([*book.keys(), "absent"], sorted(expected), ["", "absent", *expected][::-1]):
            assert read_many(asked, 1 << 20) == [expected.get(key) for key in asked]
        assert {key: book.get(key) for key in expected} == {k: v for k, (_, v) in expected.items()}


def test_the_file_is_what_booklet_would_have_written(tmp_path: Path) -> None:
    """Byte for byte, with chains that are long, that the file had before, and that are new."""
    files = []
    for appended in (False, True):
        path = tmp_path / f"{appended}.blt"
        header = edited_header(new_header(1), n_buckets=70)
        handle = open_handle(path, "n", buffer_size=1 << 16, header=header)
        assert handle is not None
        handle.file._defer_reindex = True  # type: ignore[attr-defined] # few buckets, many keys
        for batch in (range(90), range(90, 250)):
            left = [(f"key {n}", b"%d" % n, n) for n in batch]
            if appended and batch[0]:
                left = append_new(handle, parse_header(header, "a"), left)
                assert not left
            for key, value, timestamp in left:
                handle.file.set(key, value, timestamp, False)
            handle.file.sync()
        handle.close()
        raw = path.read_bytes()  # whose header has the time of the last change
        files.append((parse_header(raw, "a").n_keys, raw[HEADER_BYTES:]))
    assert files[0] == files[1]


def test_booklet_edits_what_was_appended(tmp_path: Path) -> None:
    """Overwriting, deleting, growing and pruning by plain Booklet keep the file whole."""
    path = tmp_path / "a.blt"
    store = open_store(path, clock=SystemClock(), mode="write", create=True, n_buckets=500)
    values = {f"key {n}": b"%d" % n for n in range(400)}
    store.set_many((key, value, 7) for key, value in values.items())
    assert store.count() == 400
    store.set_many((key, value, 7) for key, value in values.items())
    assert store.count() == 400
    store.close()
    with booklet.open(path, "w") as book:
        for n in range(0, 400, 3):
            book[f"key {n}"] = b"new"
            values[f"key {n}"] = b"new"
        for n in range(1, 400, 3):
            del book[f"key {n}"]
            del values[f"key {n}"]
        for n in range(1000):
            book[f"more {n}"] = b"more"
            values[f"more {n}"] = b"more"
        book.sync()
        book.prune()
        assert dict(book.items()) == values
    with booklet.open(path, "r") as book:
        assert dict(book.items()) == values
        assert len(book) == len(values)


def test_the_index_grows_in_time(tmp_path: Path) -> None:
    """Appending never fills the index beyond what Booklet allows."""
    path = tmp_path / "a.blt"
    store = open_store(path, clock=SystemClock(), mode="write", create=True, n_buckets=100)
    wanted = {f"{n}": b"v" for n in range(5000)}
    pairs = list(wanted.items())
    for at in range(0, 5000, 250):
        store.set_many((key, value, 1) for key, value in pairs[at : at + 250])
        header = parse_header(path.read_bytes()[:HEADER_BYTES], "a")
        assert store.count() <= header.n_buckets < MAX_BUCKETS
    assert {key: found.value for key, found in store.get_many(list(wanted))} == wanted
    store.close()


def test_odd_items_are_left_to_booklet(tmp_path: Path) -> None:
    """What only Booklet can judge comes back, in order; the rest is written."""
    handle = open_handle(
        tmp_path / "a.blt",
        "n",
        buffer_size=1 << 16,
        header=edited_header(new_header(1), n_buckets=1000),
    )
    assert handle is not None
    header = parse_header(os.pread(handle.fd, HEADER_BYTES, 0), "a")
    odd = [
        ("\ud800", b"", 1),
        ("k" * 65536, b"", 1),
        ("late", b"", 1 << 56),
        ("early", b"", -1),
        ("large", bytes((1 << 20) + 1), 1),
        ("twice", b"2", 2),
        ("large", b"or not", 2),  # written now, it would be overwritten by what came before it
    ]
    plain = [(f"{n}", b"v", 1) for n in range(WORTH_IT)]
    assert append_new(handle, header, [("twice", b"1", 1), *plain, *odd]) == odd
    assert len(handle.file) == WORTH_IT + 1
    assert handle.file.get("twice") == b"1"
    handle.close()


def test_no_fork_happens_while_the_file_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child would have the map's own descriptor, and keep the file locked as long as it lives."""
    handle = open_handle(
        tmp_path / "a.blt",
        "n",
        buffer_size=1 << 16,
        header=edited_header(new_header(1), n_buckets=10),
    )
    assert handle is not None
    may_fork: list[bool] = []

    def try_the_lock() -> None:
        may_fork.append(handles._FORKING.acquire(blocking=False))
        if may_fork[-1]:
            handles._FORKING.release()

    looking = threading.Thread(target=try_the_lock)

    def look(_: object) -> None:
        looking.start()
        looking.join()

    monkeypatch.setattr("ebooklet.adapters.local.booklet.append._Chains.link", look)
    append_new(
        handle, parse_header(os.pread(handle.fd, HEADER_BYTES, 0), "a"), [("key", b"value", 1)]
    )
    handle.close()
    assert may_fork == [False]


def test_another_booklet_is_written_key_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Booklet that keeps its count elsewhere is left to do all itself."""
    monkeypatch.setattr("ebooklet.adapters.local.booklet.handles._COUNT", "_moved_elsewhere")
    store = open_store(
        tmp_path / "a.blt", clock=SystemClock(), mode="write", create=True, n_buckets=1000
    )
    store.set_many((f"{n}", b"v", 1) for n in range(500))
    assert store.count() == 500
    store.close()
    with booklet.open(tmp_path / "a.blt", "r") as book:
        assert len(book) == len(dict(book.items())) == 500
