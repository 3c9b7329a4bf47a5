"""Which lock writers take: by the probe's verdict, by name, or one that was built elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import fsspec
import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.lease import LeaseLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head
from ebooklet.errors import LockLostError, LockTimeout, UnknownNameError
from ebooklet.ports.lock_service import Lease, LockInfo
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.request import Flag


class ElsewhereLocks:
    """Leases in a store that no database is in; notes who asked for what."""

    kind: Final = "elsewhere"

    def __init__(self) -> None:
        self.store = MemoryRemoteStore()
        self.asked: list[tuple[str, str]] = []
        self._inner = LeaseLockService(self.store, SystemClock())

    @property
    def takeover_s(self) -> float:
        return self._inner.takeover_s

    def acquire(
        self,
        name: str,
        *,
        timeout: float,
        purpose: str = "write",
        fence: int = 0,
        force: bool = False,
    ) -> Lease:
        self.asked.append((name, purpose))
        return self._inner.acquire(name, timeout=timeout, purpose=purpose, fence=fence, force=force)

    def inspect(self, name: str) -> LockInfo | None:
        return self._inner.inspect(name)

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        return self._inner.break_lock(name, older_than_s=older_than_s)

    def other(self) -> LeaseLockService:
        """Another client of the same locks."""
        return LeaseLockService(self.store, SystemClock())


@pytest.fixture
def locks() -> ElsewhereLocks:
    return ElsewhereLocks()


@pytest.fixture
def store() -> MemoryRemoteStore:
    return MemoryRemoteStore()


def names(store: RemoteStore) -> set[str]:
    return {meta.key for meta in store.list("")}


def test_a_built_one_is_held_while_open(store: MemoryRemoteStore, locks: ElsewhereLocks) -> None:
    """From open to close, in place of the one that the store would have been given."""
    with ebooklet.open(store, flag="c", value_serializer="json", lock=locks) as db:
        db["a"] = 1
        assert db.push()
        assert "db.lock" not in names(store)
        with pytest.raises(LockTimeout, match=socket.gethostname()):
            ebooklet.open(store, flag="w", lock=locks.other(), lock_timeout=0)
        held = locks.inspect("db")
        assert held is not None
        assert decode_head(store.get("db").body, key="db").fence == held.token
        db.reopen("r")
        ebooklet.open(store, flag="w", lock=locks.other(), lock_timeout=0).close()
        db.reopen("w")
    assert locks.asked == [("db", "write")] * 2
    free = locks.inspect("db")
    assert free is not None
    assert free.state == "free"


@pytest.fixture
def without_conditions() -> Iterator[str]:
    """A remote whose heads are moved under a lock, as it knows no conditional writes."""
    yield f"fsspec+memory://locks-{uuid4().hex}/db"
    fsspec.filesystem("memory").store.clear()


def test_a_push_asks_the_built_one(without_conditions: str, locks: ElsewhereLocks) -> None:
    """In mode lock a writer whose lock was broken there commits nothing more."""
    with ebooklet.open(without_conditions, flag="c", value_serializer="json", lock=locks) as db:
        db["a"] = 1
        assert db.push()
        assert len(locks.other().break_lock("db")) == 1
        db["b"] = 2
        with pytest.raises(LockLostError):
            db.push()
        assert [change["key"] for change in db.changes()] == ["b"]
    with ebooklet.open(without_conditions) as db:
        assert dict(db.items()) == {"a": 1}


def test_work_on_the_whole_takes_the_built_one(
    store: MemoryRemoteStore, locks: ElsewhereLocks
) -> None:
    """Sweeping, locking by hand and deleting hold it; a copy's target is locked in its own way."""
    with ebooklet.open(store, flag="c", value_serializer="json", lock=locks) as db:
        db["a"] = 1
        assert db.push()
        target = MemoryRemoteStore()
        db.copy_remote(target)
        assert "db.lock" in names(target)
        db.delete_remote()
        assert db.push()
    assert locks.asked == [("db", "write")]
    locks.asked.clear()
    ebooklet.fsck(store, delete_orphans=True, lock=locks)
    with ebooklet.open_session(store, "w", lock=locks) as session:
        lock = session.create_lock()
        with lock, pytest.raises(LockTimeout):
            ebooklet.open(store, flag="w", lock=locks.other(), lock_timeout=0)
        session.delete_remote()
    assert [purpose for _, purpose in locks.asked[:1]] == ["fsck"]
    assert [purpose for _, purpose in locks.asked[-1:]] == ["delete"]
    assert names(store) == set()


def test_held_by_another_the_whole_is_left_alone(
    store: MemoryRemoteStore, locks: ElsewhereLocks
) -> None:
    """Who opened it with a lock of their own is safe from those who name the same lock."""
    with ebooklet.open(store, flag="c", value_serializer="json", lock=locks) as db:
        db["a"] = 1
        assert db.push()
        before = names(store)
        with pytest.raises(LockTimeout):
            ebooklet.fsck(store, delete_orphans=True, lock=locks.other(), lock_timeout=0)
        with (
            ebooklet.open_session(store, "w", lock=locks.other(), lock_timeout=0) as session,
            pytest.raises(LockTimeout),
        ):
            session.delete_remote()
        assert names(store) == before


@pytest.mark.parametrize(
    ("lock", "taken", "by_copy"),
    [
        ("exclusive", "file", "file"),
        ("optimistic", None, "file"),
        ("file", "file", "file"),
        ("lease", "lease", "lease"),
        ("none", None, None),
    ],
)
def test_a_registered_one_is_taken_by_name(
    tmp_path: Path, lock: str, taken: str | None, by_copy: str | None
) -> None:
    """What it leaves says which it was; the target of a copy is locked with the same."""
    with ebooklet.open(f"file://{tmp_path}/db", flag="c", value_serializer="json", lock=lock) as db:
        db["a"] = 1
        assert db.push()
        db.copy_remote(f"file://{tmp_path}/copy")
    assert left_by(tmp_path / "db.lock") == taken
    assert left_by(tmp_path / "copy.lock") == by_copy


def test_the_mode_of_commits_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """In an attribute, the repr and the log; where commits queue, who waits in vain is told so."""
    url = f"fsspec+memory://{uuid4().hex}/db"
    caplog.set_level("INFO", "ebooklet.open")
    with ebooklet.open(url, flag="c", value_serializer="json", lock="optimistic") as db:
        assert db.commit_mode == "lock"
        assert "writable, mode lock" in repr(db)
        assert "one at a time" in caplog.text
        db["k"] = 1
        assert db.push()
    with (
        ebooklet.open(url, flag="w") as holder,
        ebooklet.open(url, flag="w", lock="optimistic", lock_timeout=0) as waiter,
    ):
        waiter["k"] = 2
        with pytest.raises(LockTimeout, match="with lock='optimistic' too"):
            waiter.push()
        with pytest.raises(LockTimeout, match="force_lock") as refused:
            ebooklet.open(url, flag="c", lock_timeout=0)
        assert "optimistic" not in str(refused.value)
        holder.close()
        assert len(waiter.changes()) == 1
    with ebooklet.open(MemoryRemoteStore(), flag="c") as db:
        assert db.commit_mode == "cas"
        assert "mode cas" in caplog.text
    with ebooklet.open(None, flag="c") as db:
        assert db.commit_mode is None
        assert "mode" not in repr(db)


def left_by(path: Path) -> str | None:
    """Which service wrote this: one writes JSON, the other CBOR."""
    if not path.exists():
        return None
    return "file" if path.read_bytes().startswith(b"{") else "lease"


@pytest.mark.parametrize("flag", ["r", "c"])
def test_no_such_lock_is_said_first(tmp_path: Path, flag: Flag) -> None:
    """Before any file or request, with the names that are known."""
    with pytest.raises(UnknownNameError, match="lease"):
        ebooklet.open("memory://nowhere", tmp_path / "a.blt", flag, lock="nosuch")
    with pytest.raises(UnknownNameError, match="lease"):
        ebooklet.open_session("memory://nowhere", lock="nosuch")
    with pytest.raises(ValueError, match="lock must be"):
        ebooklet.open("memory://nowhere", tmp_path / "a.blt", flag, lock=5)  # type: ignore[call-overload]  # wrong on purpose
    with pytest.raises(ValueError, match="lock must be"):
        ebooklet.fsck("memory://nowhere", lock="optimistic")
    assert list(tmp_path.iterdir()) == []
