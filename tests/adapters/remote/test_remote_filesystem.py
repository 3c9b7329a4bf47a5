"""The store in a folder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebooklet.adapters.keypaths import decode, encode, set_aside
from ebooklet.adapters.objects import check_key
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore, open_store
from ebooklet.connection import RemoteAddress
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
)
from ebooklet.ports.remote_store import IfAbsent, IfMatch, RemoteStore
from ebooklet.testing.remote_store_contract import RemoteStoreContract

spawn = multiprocessing.get_context("spawn")


@pytest.mark.matrix("contract", "filesystem", "(folder)")
class TestFilesystemRemoteStore(RemoteStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> RemoteStore:
        root = tmp_path / "root folder"
        root.mkdir()
        return FilesystemRemoteStore(root)

    @pytest.fixture
    def neighbour(self, tmp_path: Path) -> RemoteStore:
        root = tmp_path / "other folder"
        root.mkdir()
        return FilesystemRemoteStore(root)


def visible(root: Path) -> set[str]:
    """Paths of all files that are not our own helpers."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and ".ebooklet" not in path.relative_to(root).parts[:1]
    }


# Paths.


def valid(key: str) -> bool:
    try:
        check_key(key, "test")
    except StoreError:
        return False
    return True


letters = st.sampled_from("aZ.%+o~\\/\n é🙂\x7f") | st.characters(exclude_categories=["Cs"])
keys = st.text(letters, min_size=1, max_size=40).filter(valid)
long_keys = st.lists(
    st.tuples(st.text(letters, min_size=1, max_size=3), st.integers(1, 300)), min_size=1, max_size=3
).map(lambda parts: "".join(text * n for text, n in parts)[:256])


@given(keys | long_keys.filter(valid))
def test_paths_are_one_to_one(key: str) -> None:
    """Every key has a path that fits a file system, and the path gives the key back."""
    path = encode(key)
    assert decode(path, folder=False) == key
    assert decode([*path[:-1], set_aside(path[-1])], folder=False) == key
    for name in path:
        assert name not in ("", ".", "..", ".ebooklet")
        assert "/" not in name
        assert "\0" not in name
        assert len(set_aside(name).encode()) <= 255


@given(keys, keys)
def test_paths_are_distinct(one: str, other: str) -> None:
    """Two keys never share a path, not even with the second name of an object."""
    taken = [[*p[:-1], name] for p in (encode(one),) for name in (p[-1], set_aside(p[-1]))]
    assert one == other or encode(other) not in taken


@pytest.mark.parametrize("path", [["50%"], ["%41"], ["a%+"], ["%2e"], ["a\ud8ff"], ["%25%"]])
def test_foreign_files_are_no_objects(path: list[str]) -> None:
    """A path that no key is written to names no key."""
    assert decode(path, folder=False) is None


def test_plain_keys_are_plain_paths(tmp_path: Path) -> None:
    """A folder can be copied to a bucket as it is: the usual key is its own path."""
    store = FilesystemRemoteStore(tmp_path)
    for key in ("data/db", "data/db.d/01arz3ndek", "A b.é"):
        store.put(key, b"body")
    assert visible(tmp_path) == {"data/db", "data/db.d/01arz3ndek", "A b.é"}


def test_an_object_makes_way_for_a_folder(tmp_path: Path) -> None:
    """`a` keeps its body, and its version, when `a/b` comes, and is replaced where it is."""
    store = FilesystemRemoteStore(tmp_path)
    etag = store.put("a", b"body").etag
    store.put("a/b/c", b"below")
    store.put("a/b", b"between")
    assert store.head("a").etag == etag
    store.put("a", b"new", condition=IfMatch(etag))
    with pytest.raises(PreconditionFailed):
        store.put("a", b"newer", condition=IfAbsent())
    store.delete(["a/b/c", "a/b"])
    assert store.get("a").body == b"new"
    store.put("a", b"last")
    assert sorted(meta.key for meta in store.list("")) == ["a"]
    store.delete(["a"])
    assert visible(tmp_path) == set()


# Versions.


def test_equal_bodies_have_etags_of_their_own(tmp_path: Path) -> None:
    """A version is a write, not a content: 200 equal bodies in one tick have 200 ETags."""
    store = FilesystemRemoteStore(tmp_path)
    assert len({store.put("k", b"same").etag for _ in range(200)}) == 200


def test_a_clock_set_back_does_not_repeat_an_etag(tmp_path: Path) -> None:
    """The time of a file only grows from version to version."""
    store = FilesystemRemoteStore(tmp_path)
    store.put("k", b"1")
    ahead = 4_000_000_000_000_000_000
    os.utime(tmp_path / "k", ns=(ahead, ahead))
    store.put("k", b"2")
    assert (tmp_path / "k").stat().st_mtime_ns > ahead


# What lies outside.


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link to a file or folder elsewhere is no object, and writing through it is impossible."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    store = FilesystemRemoteStore(root)
    for key in ("folder/secret", "file"):
        with pytest.raises(ObjectNotFound):
            store.get(key)
    with pytest.raises(StoreError):
        store.put("folder/new", b"body")
    store.delete(["folder/secret", "file"])
    assert list(store.list("")) == []
    store.put("file", b"own")
    assert (outside / "secret").read_text() == "secret"
    assert sorted(p.name for p in outside.iterdir()) == ["secret"]
    assert store.get("file").body == b"own"


def test_things_that_are_no_files(tmp_path: Path) -> None:
    """A FIFO is no object, and opening one does not hang."""
    os.mkfifo(tmp_path / "fifo")
    store = FilesystemRemoteStore(tmp_path)
    with pytest.raises(ObjectNotFound):
        store.get("fifo")
    assert list(store.list("")) == []


def test_a_missing_root(tmp_path: Path) -> None:
    """A folder that does not exist, or is a file, is a missing bucket, and is not created."""
    with pytest.raises(BucketMissingError):
        FilesystemRemoteStore(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(BucketMissingError):
        FilesystemRemoteStore(tmp_path / "file")
    gone = tmp_path / "gone"
    gone.mkdir()
    store = FilesystemRemoteStore(gone)
    gone.rmdir()
    with pytest.raises(BucketMissingError):
        store.get("k")
    with pytest.raises(BucketMissingError):
        store.put("k", b"body")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    """Reading needs no permission to write; writing is refused by name."""
    FilesystemRemoteStore(tmp_path).put("k", b"body")
    for path in (tmp_path, tmp_path / ".ebooklet", tmp_path / ".ebooklet/tmp"):
        path.chmod(0o555)
    try:
        store = FilesystemRemoteStore(tmp_path)
        assert not store.capabilities.writable
        assert store.get("k").body == b"body"
        assert [meta.key for meta in store.list("")] == ["k"]
        with pytest.raises(AccessDenied):
            store.put("k", b"new")
    finally:
        for path in (tmp_path, tmp_path / ".ebooklet", tmp_path / ".ebooklet/tmp"):
            path.chmod(0o755)


def test_a_full_disk_is_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that the system refuses halfway leaves the old object and no rubbish."""
    store = FilesystemRemoteStore(tmp_path)
    store.put("k", b"old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StoreError, match="No space left"):
        store.put("k", b"new")
    monkeypatch.undo()
    assert store.get("k").body == b"old"
    assert list((tmp_path / ".ebooklet/tmp").iterdir()) == []


def test_old_rubbish_is_swept(tmp_path: Path) -> None:
    """What a killed writer left is removed a day later, and not before."""
    temporary = tmp_path / ".ebooklet/tmp"
    temporary.mkdir(parents=True)
    (temporary / "old").write_text("half")
    (temporary / "new").write_text("half")
    os.utime(temporary / "old", (1, 1))
    FilesystemRemoteStore(tmp_path).put("k", b"body")
    assert [p.name for p in temporary.iterdir()] == ["new"]


# Processes.


def count(root: str, times: int) -> None:
    store = FilesystemRemoteStore(root)
    for _ in range(times):
        while True:
            found = store.get("counter")
            try:
                store.put(
                    "counter", b"%d" % (int(found.body) + 1), condition=IfMatch(found.meta.etag)
                )
            except PreconditionFailed:
                continue
            break


def test_conditions_hold_between_processes(tmp_path: Path) -> None:
    """Three processes that count by compare-and-swap lose no step."""
    store = FilesystemRemoteStore(tmp_path)
    store.put("counter", b"0", condition=IfAbsent())
    workers = [spawn.Process(target=count, args=(str(tmp_path), 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert store.get("counter").body == b"60"


def rewrite_for_ever(root: str) -> None:
    store = FilesystemRemoteStore(root)
    for i in range(1_000_000):
        store.put("k", bytes([65 + i % 26]) * 1_000_000)
        store.put("deep/er/k", b"body")
        store.delete(["deep/er/k"])


def test_a_killed_writer_leaves_whole_objects(tmp_path: Path) -> None:
    """A process killed in the middle of its puts leaves one whole body and no stuck lock."""
    store = FilesystemRemoteStore(tmp_path)
    for _ in range(3):
        worker = spawn.Process(target=rewrite_for_ever, args=(str(tmp_path),))
        worker.start()
        seen: set[bytes] = set()
        while len(seen) < 4:
            try:
                body = store.get("k").body
            except ObjectNotFound:
                assert worker.exitcode is None
                continue
            seen.add(body[:1])
            assert len(body) == 1_000_000
            assert body.count(body[:1]) == 1_000_000
        assert worker.pid
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(60)
        body = store.get("k").body
        assert body.count(body[:1]) == len(body) == 1_000_000
        store.put("k", b"!" * 1_000_000, condition=IfMatch(store.head("k").etag))
        store.delete(["k"])


def test_a_forked_child_can_write(tmp_path: Path) -> None:
    """A lock that another thread held at the moment of a fork does not stop the child."""
    store = FilesystemRemoteStore(tmp_path)
    with store._lock():
        child = os.fork()
        if child == 0:
            try:
                other = FilesystemRemoteStore(tmp_path)
                turn_is_free = not [t for t in _turns_of(other) if t]
                os._exit(0 if turn_is_free else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.put("k", b"body")
    assert store.get("k").body == b"body"


def _turns_of(_: FilesystemRemoteStore) -> list[bool]:
    from ebooklet.adapters import files

    return [turn.locked() for turn in files._turns.values()]


# URLs.


def test_urls(tmp_path: Path) -> None:
    """The folder is the store, the last component the database, whatever it is spelt like."""
    folder = tmp_path / "with space"
    folder.mkdir()
    store, key = open_store(RemoteAddress.parse(f"file://{quote(str(folder))}/my%20db"))
    assert (store.location, key) == (folder.as_uri(), "my db")
    with pytest.raises(BucketMissingError):
        open_store(RemoteAddress.parse(f"file://{quote(str(folder))}/none/db"))
    with pytest.raises(ValueError, match="three slashes"):
        open_store(RemoteAddress.parse("file://folder/db"))
    with pytest.raises(ValueError, match="database's name"):
        open_store(RemoteAddress.parse("file:///"))
