"""Plain Booklet reads and edits our files; files that cannot be used are refused untouched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

import booklet
import pytest

from ebooklet.adapters.local.booklet import handles, open_store
from ebooklet.adapters.local.booklet import store as store_module
from ebooklet.errors import LocalFileError, LockTimeout, ReadOnlyError, UnsupportedOperation
from ebooklet.ports.local_store import LocalValue
from ebooklet.testing.children import in_child
from ebooklet.testing.local_store_contract import everything
from tests.adapters.local.conftest import CLOCK, OpenBooklet


@pytest.mark.parametrize("name", ["bytes", "str", "pickle", "json", "orjson", "zstd"])
def test_booklet_reads_our_files(open_booklet: OpenBooklet, name: str) -> None:
    """`booklet.open(path)` knows the serializer, the metadata and the keys."""
    store = open_booklet(value_serializer=name, uuid=UUID(int=77))
    raw = booklet.serializers.serial_dict[None if name == "bytes" else name]
    value = b"v" if name in ("bytes", "zstd") else "v"
    store.set("k", raw.dumps(value), 17)
    store.set_metadata(b'{"a" : [1]}', 18)
    store.close()
    with booklet.open(store.location) as plain:
        assert dict(plain.items()) == {"k": value}
        assert plain.get_timestamp("k") == 17
        assert plain.get_metadata(include_timestamp=True) == ({"a": [1]}, 18)
        assert plain.uuid == UUID(int=77)
        assert len(plain) == 1


def test_booklet_reads_a_file_that_grew(open_booklet: OpenBooklet) -> None:
    """After growth far beyond the first index, header and chains are Booklet's own."""
    store = open_booklet(n_buckets=10)
    store.set_many((f"k{i}", b"v", i) for i in range(13_000))
    store.delete(["k1"])
    store.close()
    with booklet.open(store.location, "w") as plain:
        assert len(plain) == 12_999
        plain["another"] = b"x"
    assert open_booklet().count() == 13_000


NOBODY: Final = 65534

EDITS: dict[str, Callable[[booklet.VariableLengthValue], object]] = {
    "set": lambda file: file.set("k1", b"edited"),
    "add": lambda file: file.set("added", b"edited"),
    "delete": lambda file: file.__delitem__("k1"),
    "timestamp": lambda file: file.set_timestamp("k1", 5),
    "metadata": lambda file: file.set_metadata({"edited": True}),
    "prune": lambda file: file.prune(),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_are_seen(open_booklet: OpenBooklet, edit: str) -> None:
    """An edit right after a close is seen, even one in place that leaves the size as it was."""
    store = open_booklet()
    store.set_many((f"k{i}", b"v", i) for i in range(10))
    store.set("k2", b"again", 5)
    store.close()
    with booklet.open(store.location, "w") as plain:
        EDITS[edit](plain)
        plain.sync()
        expected = {key: LocalValue(ts, value) for key, ts, value in plain.timestamps(True)}
    for mode in ("read", "write"):
        again = open_booklet(mode=mode)
        assert again.condition == "edited"
        assert everything(again) == expected
        again.close()
    again = open_booklet()
    again.sync()
    again.close()
    assert open_booklet().condition == "clean"


def test_opening_with_booklet_is_no_edit(open_booklet: OpenBooklet) -> None:
    """A program that only reads leaves the file clean."""
    store = open_booklet()
    store.set("k", b"v", 1)
    store.close()
    with booklet.open(store.location) as plain:
        assert plain["k"] == b"v"
    assert open_booklet().condition == "clean"


def test_a_reader_sees_edits_made_while_it_is_open(open_booklet: OpenBooklet) -> None:
    """A reader gives way to plain Booklet, notices the edit, and leaves it to the next writer."""
    store = open_booklet()
    store.set("k", b"v", 1)
    store.close()
    reader = open_booklet(mode="read")
    assert reader.get("k") == b"v"
    with booklet.open(store.location, "w", timeout=5) as plain:
        plain["k"] = b"edited"
    assert reader.get("k") == b"edited"
    assert reader.changed_elsewhere
    with reader.exclusive(5):
        reader.set("fetched", b"x", 1)
        reader.sync()  # of an edit that this reader was never told of
    reader.close()
    assert open_booklet().condition == "edited"


def test_a_file_never_seen_before_is_edited(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """All content of a Booklet from elsewhere is news, for readers and writers."""
    with booklet.open(tmp_path / "one.blt", "n", "str", "pickle") as plain:
        plain["k"] = [1]
        uuid = plain.uuid
    for mode in ("read", "write"):
        store = open_booklet(mode=mode, uuid=UUID(int=1))
        assert (store.condition, store.uuid, store.value_serializer) == ("edited", uuid, "pickle")
        assert list(store.keys()) == ["k"]
        store.close()


def test_another_database_in_the_place_of_ours(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """State beside the file is that of one database: another file there starts without it."""
    store = open_booklet()
    store.set("k", b"v", 1)
    store.write_slot("s", b"of the old one")
    store.append_log("l", b"of the old one")
    store.close()
    with booklet.open(tmp_path / "other", "n", "str") as plain:
        plain["other"] = b"x"
    (tmp_path / "other").replace(store.location)
    for mode in ("read", "write"):
        again = open_booklet(mode=mode)
        assert again.condition == "edited"
        assert again.read_slot("s") is None
        assert again.read_log("l") == b""
        assert set(everything(again)) == {"other"}
        again.close()


def test_a_new_file_starts_without_old_state(open_booklet: OpenBooklet) -> None:
    """Deleting the local file cancels what was noted beside it."""
    store = open_booklet()
    store.write_slot("s", b"of the old one")
    store.append_log("l", b"of the old one")
    store.close()
    Path(store.location).unlink()
    again = open_booklet()
    assert again.condition == "new"
    assert again.read_slot("s") is None
    assert again.read_log("l") == b""


def test_replacing(open_booklet: OpenBooklet) -> None:
    """`replace` gives an empty file, and keeps readers of the old one from harm."""
    store = open_booklet()
    store.set("k", b"v", 1)
    store.close()
    reader = open_booklet(mode="read")
    assert reader.get("k") == b"v"
    again = open_booklet(replace=True, uuid=UUID(int=5), value_serializer="str")
    assert (again.condition, again.count(), again.uuid) == ("new", 0, UUID(int=5))
    again.close()
    assert reader.get("k") is None
    assert reader.changed_elsewhere


def test_zero_bytes_are_absent(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """An empty file, as tempfile makes them, is taken for none."""
    (tmp_path / "one.blt").touch()
    with pytest.raises(FileNotFoundError):
        open_booklet(create=False)
    assert open_booklet().condition == "new"


def test_absent(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """Without `create`, or without a folder for the file, there is nothing, and nothing is left."""
    for mode in ("read", "write"):
        with pytest.raises(FileNotFoundError):
            open_booklet(mode=mode, create=False)
        with pytest.raises(FileNotFoundError):
            open_booklet("missing/one", mode=mode)
    assert list(tmp_path.iterdir()) == []


def _bytes_keys(path: Path) -> None:
    with booklet.open(path, "n") as file:
        file[b"k"] = b"v"


def _no_timestamps(path: Path) -> None:
    with booklet.open(path, "n", "str", init_timestamps=False) as file:
        file["k"] = b"v"


def _fixed_length(path: Path) -> None:
    with booklet.FixedLengthValue(path, "n", "str", value_len=1) as file:
        file["k"] = b"v"


FOREIGN = {
    "text": (lambda path: path.write_text("some notes\n" * 100), "not a Booklet"),
    "magic only": (
        lambda path: path.write_bytes(booklet.utils.uuid_variable_blt),
        "ends within its header",
    ),
    "bytes keys": (_bytes_keys, "key_serializer='str'"),
    "no timestamps": (_no_timestamps, "init_timestamps"),
    "fixed length": (_fixed_length, "fixed length"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("mode", ["read", "write"])
def test_foreign_files_are_refused(
    open_booklet: OpenBooklet, tmp_path: Path, kind: str, mode: str
) -> None:
    """What cannot be used is refused with the remedy, and keeps every byte."""
    make, message = FOREIGN[kind]
    path = tmp_path / "one.blt"
    make(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(LocalFileError, match=message):
            open_booklet(mode=mode)
    assert path.read_bytes() == before
    assert [path] == list(tmp_path.iterdir())


def test_replacing_spares_what_is_no_booklet(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """`replace` is not a way to destroy a file of another kind."""
    path = tmp_path / "one.blt"
    path.write_text("some notes")
    with pytest.raises(LocalFileError, match="will not be replaced"):
        open_booklet(replace=True)
    assert path.read_text() == "some notes"


def test_a_folder_is_refused(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """A folder in the file's place is named."""
    (tmp_path / "one.blt").mkdir()
    with pytest.raises(LocalFileError, match="not a file"):
        open_booklet()


def test_symbolic_links(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """A link to the file is followed, and stays one; a link in the folder's place is refused."""
    (tmp_path / "one.blt").symlink_to(tmp_path / "real.blt")
    store = open_booklet()
    store.set("k", b"v", 1)
    store.compact()
    store.clear()
    store.close()
    assert (tmp_path / "one.blt").is_symlink()
    assert open_booklet("real").condition == "clean"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "two.blt.ebk").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalFileError, match="symbolic link"):
        open_booklet("two")


def test_booklet_in_our_way_is_waited_for(open_booklet: OpenBooklet) -> None:
    """A file that plain Booklet has open for writing is waited for, then named."""
    open_booklet().close()
    with booklet.open(open_booklet(mode="read").location, "w", timeout=5):
        for mode in ("read", "write"):
            with pytest.raises(LockTimeout, match="in use"):
                open_booklet(mode=mode, lock_timeout=0.05)


def test_our_writer_keeps_booklet_out(open_booklet: OpenBooklet) -> None:
    """Plain Booklet waits while a writer is open, also after the file was written anew."""
    store = open_booklet()
    for action in (store.sync, store.compact, store.clear):
        action()
        with pytest.raises(booklet.LockTimeoutError):
            booklet.open(store.location, timeout=0)


def test_a_folder_that_may_not_be_written() -> None:
    """Reading needs no right to write; writing without it is refused by name."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "db.blt"
        store = open_store(path, clock=CLOCK)
        store.set("k", b"v", 1)
        store.close()
        for entry in (folder, folder / "db.blt.ebk"):
            entry.chmod(0o555)
        bare = folder / "bare"
        bare.mkdir()
        with booklet.open(bare / "db.blt", "n", "str") as plain:
            plain["k"] = b"v"
        bare.chmod(0o555)
        fixed = folder.parent / f"{folder.name}-fixed"
        fixed.mkdir()
        fixed.chmod(0o777)
        (fixed / "db.blt").write_bytes(path.read_bytes())
        (fixed / "db.blt").chmod(0o444)

        def as_nobody() -> None:
            if os.getuid() == 0:
                os.setuid(NOBODY)
            for place in (path, bare / "db.blt"):
                reader = open_store(place, clock=CLOCK, mode="read", create=False)
                assert reader.get("k") == b"v"
                assert reader.read_slot("s") is None
                reader.cache_nodes({b"n": b"data"})
                with pytest.raises(ReadOnlyError, match="may not be written"):
                    reader.set("k2", b"v", 1)
            for place in (path, bare / "db.blt", fixed / "db.blt"):
                with pytest.raises(ReadOnlyError, match="may not be written"):
                    open_store(place, clock=CLOCK)

        try:
            assert in_child(as_nobody) == 0
        finally:
            shutil.rmtree(fixed)
            for entry in (folder, folder / "db.blt.ebk", bare):
                entry.chmod(0o755)


@pytest.mark.parametrize("buffered", ["_buffer_index_set", "_nowhere"], ids=["ours", "booklet's"])
def test_single_values_of_any_size(
    open_booklet: OpenBooklet, monkeypatch: pytest.MonkeyPatch, buffered: str
) -> None:
    """Read before and after it is written, and by readers, a value is what was set, whatever its size."""
    monkeypatch.setattr(handles, "_BUFFERED", buffered)
    sizes = [0, 1, *range(2000, 2060), 5000]
    names = {f"{'k' * width}{size}": size for size in sizes for width in (1, 1900, 3000)}
    store = open_booklet(value_serializer="pickle", n_buckets=7)
    for round_ in range(2):
        for name, size in names.items():
            store.set(name, bytes([round_]) * size, 1)
            assert store.get(name) == bytes([round_]) * size
        assert store.get("absent") is None
    store.delete(["k1"])
    assert store.get("k1") is None
    store.close()
    reader = open_booklet(mode="read")
    for name, size in names.items():
        assert reader.get(name) == (None if name == "k1" else b"\1" * size)


def test_more_keys_than_are_planned_at_once(
    open_booklet: OpenBooklet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one plan of reading ends and the next begins, no key is left out."""
    monkeypatch.setattr(store_module, "_PLANNED_KEYS", 300)
    store = open_booklet()
    names = [f"k{i:04}" for i in range(1000)]
    store.set_many((name, name.encode(), 1) for name in names)
    assert [(key, entry.value) for key, entry in store.get_many(names)] == [
        (name, name.encode()) for name in names
    ]


def test_expected_keys_size_the_index(tmp_path: Path) -> None:
    """A file made for many keys does not have to grow for them."""
    store = open_store(tmp_path / "a", clock=CLOCK, expected_keys=50_000)
    before = Path(store.location).stat().st_ino
    store.set_many((f"k{i}", b"", 1) for i in range(50_000))
    store.close()
    assert Path(store.location).stat().st_ino == before


def test_a_value_that_booklet_would_tear_is_refused(open_booklet: OpenBooklet) -> None:
    """One write moves less than 2 GiB; a longer value is refused before anything is written."""
    store = open_booklet()
    store.set("k", b"v", 1)
    with pytest.raises(UnsupportedOperation, match="2147483648 bytes"):
        store.set("k", bytes(1 << 31), 2)
    assert store.get_entry("k") == LocalValue(1, b"v")


def test_links_in_the_place_of_state_are_refused(open_booklet: OpenBooklet, tmp_path: Path) -> None:
    """Neither slots nor logs are read or written through links that somebody put there."""
    store = open_booklet()
    target = tmp_path / "target"
    target.write_bytes(b"of somebody else")
    for name in ("slot.s", "log.l"):
        Path(f"{store.location}.ebk", name).symlink_to(target)
    with pytest.raises(LocalFileError, match="symbolic link"):
        store.read_slot("s")
    with pytest.raises(OSError, match="symbolic links"):
        store.append_log("l", b"x")
    store.write_slot("s", b"ours")
    store.replace_log("l", b"ours")
    assert (store.read_slot("s"), store.read_log("l")) == (b"ours", b"ours")
    assert target.read_bytes() == b"of somebody else"


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "é", "x" * 200])
def test_names_that_are_no_file_names(open_booklet: OpenBooklet, name: str) -> None:
    """Names of slots and logs cannot reach out of the folder."""
    store = open_booklet()
    with pytest.raises(LocalFileError, match="cannot name"):
        store.write_slot(name, b"")
    with pytest.raises(LocalFileError, match="cannot name"):
        store.append_log(name, b"")
