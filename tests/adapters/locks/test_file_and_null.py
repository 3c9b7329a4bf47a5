"""What only the file service and the null service do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.file import FileLockService, open_service
from ebooklet.adapters.locks.null import open_service as open_null
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import LocalFileError, LockLostError
from ebooklet.testing.clock import ManualClock


def test_a_folder_remote_keeps_its_locks_out_of_sight(tmp_path: Path) -> None:
    """The lock files of a `file://` remote are in its hidden folder, not among its objects."""
    remote = FilesystemRemoteStore(tmp_path)
    lease = open_service(remote, SystemClock()).acquire("a/db", timeout=0)
    assert [meta.key for meta in remote.list("")] == []
    assert [path.name for path in tmp_path.rglob("*.lock")] == ["a%2Fdb.lock"]
    lease.verify()
    lease.release()


def test_another_remote_needs_a_folder(tmp_path: Path) -> None:
    """Lock files in a place of our own choosing would lock out nobody."""
    with pytest.raises(ValueError, match="need a folder"):
        open_service(MemoryRemoteStore(), SystemClock())
    lock = open_service(MemoryRemoteStore(), SystemClock(), folder=tmp_path / "locks")
    lock.acquire("db", timeout=0).release()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"token": -1}', b"\xff" * 5000], ids=range(5)
)
def test_a_damaged_file_locks_as_well(tmp_path: Path, content: bytes) -> None:
    """What the file says matters for the name of the holder only; the fence still counts."""
    (tmp_path / "db.lock").write_bytes(content)
    lock = FileLockService(tmp_path, SystemClock())
    assert lock.inspect("db") is None
    lease = lock.acquire("db", timeout=0, fence=5)
    assert lease.token == 6
    lease.release()


def test_tokens_outlive_the_holder(tmp_path: Path) -> None:
    """The file counts on across handles."""
    tokens = []
    for _ in range(3):
        lease = FileLockService(tmp_path, SystemClock()).acquire("db", timeout=0)
        tokens.append(lease.token)
        lease.release()
    assert tokens == [1, 2, 3]


def test_a_lock_that_was_waited_for_says_so(tmp_path: Path) -> None:
    """What was read before another held it is to be read again."""
    clock = ManualClock()
    first = FileLockService(tmp_path, clock).acquire("db", timeout=0)
    assert not first.waited
    clock.on_sleep = lambda _: first.release()
    second = FileLockService(tmp_path, clock).acquire("db", timeout=10)
    assert second.waited
    second.release()


def test_a_long_name_has_a_short_file(tmp_path: Path) -> None:
    """Names beyond what a file system holds are hashed."""
    lock = FileLockService(tmp_path, SystemClock())
    lease = lock.acquire("d/" * 400 + "db", timeout=0)
    other = lock.acquire("d/" * 400 + "db2", timeout=0)
    lease.release()
    other.release()
    assert len(list(tmp_path.glob("*.lock"))) == 2


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """The error names the file, and is one of ours."""
    (tmp_path / "file").touch()
    lock = FileLockService(tmp_path / "file" / "locks", SystemClock())
    with pytest.raises(LocalFileError, match=r"db\.lock"):
        lock.acquire("db", timeout=0)


def test_null_locks_nobody_out() -> None:
    """Two hold at once, with tokens above the fence."""
    lock = open_null(MemoryRemoteStore(), SystemClock())
    first = lock.acquire("db", timeout=0, fence=7)
    second = lock.acquire("db", timeout=0)
    assert (first.token, second.token) == (8, 9)
    first.verify()
    first.release()
    with pytest.raises(LockLostError):
        first.verify()
    second.verify()
    assert lock.inspect("db") is None
    assert lock.break_lock("db") == []
    assert not second.waited
