"""Opening a version: what it shows, for how long, what it refuses, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet import Database, Encryption, LocalHalf
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.memory import open_store
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap.arguments import Offline
from ebooklet.core.names import segment_key
from ebooklet.errors import (
    LocalFileError,
    ReadOnlyError,
    RemoteIntegrityError,
    RemoteMissingError,
    SnapshotExpired,
    UnknownVersionError,
)
from ebooklet.serializers.json import JSON
from ebooklet.services import heads
from ebooklet.services.commits import read_record
from ebooklet.services.request import Flag
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore
from tests.services.test_history import expire
from tests.services.test_versions import tag

KEYS = Encryption({"a": b"k" * 32}, "a")
LONG = "long " * 40


def make(store: Any, n_commits: int = 3, **options: Any) -> dict[int, str]:
    """Commit n states, the n-th with keys k0 to kn, each of which says n; ids by seq."""
    with ebooklet.open(store, None, "c", "json", **options) as db:
        for n in range(1, n_commits + 1):
            db.update({f"k{m}": [n, LONG] for m in range(min(n, 5))})
            assert db.push(f"number {n}")
        return {commit.seq: commit.id for commit in db.log()}


def state(n: int) -> dict[str, Any]:
    """What the n-th commit of `make` holds."""
    return {f"k{m}": [n, LONG] for m in range(min(n, 5))}


@pytest.mark.parametrize("encryption", [None, KEYS], ids=["plain", "encrypted"])
def test_every_version_as_it_was(encryption: Encryption | None) -> None:
    """Each commit, of the head's rows or the log's, shows its own content and history."""
    store = MemoryRemoteStore()
    ids = make(store, 100, encryption=encryption)
    moment = datetime.now(UTC)
    for version, n in (
        (1, 1),
        (2, 2),
        (ids[30], 30),
        (ids[99][:16], 99),
        (100, 100),
        (moment, 100),
    ):
        with ebooklet.open(store, version=version, encryption=encryption) as db:
            assert dict(db.items()) == state(n)
            assert len(db) == min(n, 5)
            assert next(db.log()).message == f"number {n}"
            assert len(list(db.log())) == n
            assert list(db.diff(n)) == []
    tag(store, "old", 90)
    with (
        ebooklet.open(store, version="old", encryption=encryption) as db,
        ebooklet.open(store, None, "w", encryption=encryption) as writer,
    ):
        writer["k0"] = "other"
        assert writer.push()
        assert db["k0"] == [90, LONG]
        assert repr(db).endswith("(read-only, commit 90)>")
        for refused in (db.pull, lambda: db.reopen("w"), lambda: db.set("k0", 1)):
            with pytest.raises(ReadOnlyError):
                refused()
        assert dict(db.items()) == state(90)


def test_what_does_not_go_together(tmp_path: Path) -> None:
    """Writers, offline readers and names of nothing are refused, and leave no file behind."""
    store = MemoryRemoteStore()
    with pytest.raises(RemoteMissingError):
        ebooklet.open(store, version=1)
    with pytest.raises(RemoteMissingError):
        ebooklet.open(None, version=1)
    make(store)
    file = tmp_path / "a.blt"
    writers: tuple[Flag, ...] = ("w", "c", "n")
    for flag in writers:
        with pytest.raises(ValueError, match="flag 'r' only"):
            ebooklet.open(store, file, flag, version=1)
    offlines: tuple[Offline, ...] = (True, "auto")
    for offline in offlines:
        with pytest.raises(ValueError, match="offline"):
            ebooklet.open(store, file, version=1, offline=offline)
    with pytest.raises(TypeError, match="a version is"):
        ebooklet.open(store, file, version=1.5)  # type: ignore[call-overload]
    with pytest.raises(UnknownVersionError, match="from 1 to 3"):
        ebooklet.open(store, file, version="nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_its_own(tmp_path: Path) -> None:
    """Keeps what was fetched of a version; a file in step with another commit is not moved back."""
    store = FaultyRemoteStore(MemoryRemoteStore(), sleep=lambda _: None)
    make(store)
    old, mine = tmp_path / "old.blt", tmp_path / "mine.blt"
    with ebooklet.open(store, old, version=2) as db:
        assert dict(db.items()) == state(2)
    with ebooklet.open(store, old, version=2) as db:
        store.calls.clear()
        assert dict(db.items()) == state(2)
        assert not store.calls
    with ebooklet.open(store, mine) as db:
        assert dict(db.items()) == state(3)
    for file, version in ((mine, 2), (old, 1)):
        with pytest.raises(LocalFileError, match="in step with another commit"):
            ebooklet.open(store, file, version=version)
    with ebooklet.open(store, mine) as db:
        assert dict(db.items()) == state(3)
    # Opened as any other, it goes forward from where it is; what is pending there is not hidden.
    with ebooklet.open(store, mine, "w") as db:
        db["pending"] = 1
    with pytest.raises(LocalFileError, match="not pushed"):
        ebooklet.open(store, mine, version=3)
    with ebooklet.open(store, old, "w") as db:
        assert dict(db.items()) == state(3)
        db["k0"] = "new"
        assert db.push()
    with ebooklet.open(store, mine, "w") as db:
        assert db["pending"] == 1


def test_another_process_moves_its_file(tmp_path: Path) -> None:
    """A handle that finds its file moved on says so, and shows nothing else than its version."""
    store = MemoryRemoteStore()
    make(store)
    file = tmp_path / "a.blt"
    with ebooklet.open(store, file, version=2) as db:
        assert db["k0"] == [2, LONG]
        with ebooklet.open(store, file) as other:
            assert other["k0"] == [3, LONG]
        for look in (lambda: db["k0"], lambda: db.get("k0"), lambda: list(db), lambda: db["k0"]):
            with pytest.raises(LocalFileError, match="another process"):
                look()


def test_expired_while_it_is_open() -> None:
    """What is no longer retained says so when it is opened, or when it is read; a tag keeps it."""
    store = MemoryRemoteStore()
    make(store, 6)
    tag(store, "kept", 2)
    with ebooklet.open(store, version=3) as db, ebooklet.open(store, version=2) as kept:
        expire(store, below=5)
        with pytest.raises(SnapshotExpired, match="commit 3"):
            list(db.values())
        assert dict(kept.items()) == state(2)
    with pytest.raises(SnapshotExpired, match="commit 3"):
        ebooklet.open(store, version=3)
    with ebooklet.open(store, version="kept") as db:
        assert dict(db.items()) == state(2)


def test_with_tags_branches_and_collections() -> None:
    """What a tag keeps outlives a collection and can be reverted to, on any branch; the rest expires."""
    store, clock = MemoryRemoteStore(), ManualClock()
    options: dict[str, Any] = {"clock": clock, "lock": "optimistic"}
    with ebooklet.open(store, None, "c", "json", history=3, **options) as db:
        for n in range(1, 11):
            db.update({"n": [n, LONG], f"k{n}": n})
            assert db.push(f"number {n}")
            if n == 4:
                db.tag("four")
            clock.advance(3600)
        with pytest.raises(UnknownVersionError, match="whose number a tag, a branch or gc"):
            db.diff(5)
        with ebooklet.open(store, version=6) as gone, ebooklet.open(store, version="four") as kept:
            assert db.gc(grace=timedelta(0)).n_expired == 6
            with pytest.raises(SnapshotExpired, match="open one that is"):
                print(gone["n"])
            assert kept["n"] == [4, LONG]
        assert [commit.seq for commit in db.log()] == [11, 10, 9]
        db.branch("side")
        assert db.revert("four")
        assert sorted(db) == ["k1", "k2", "k3", "k4", "n"]
        assert db.fsck(check_objects=True).ok
    with ebooklet.open(store, None, "w", branch="side", **options) as side:
        assert len(side) == 11
        assert len(list(side.diff("main"))) == 7
        assert side.revert("four", "here as well")
        assert list(side.diff("main")) == []
        assert [commit.seq for commit in side.log()][1:] == [11, 10, 9]
        assert side.fsck(check_objects=True).ok
    with ebooklet.open(store, version="side") as then, ebooklet.open(store) as db:
        assert (then.on_branch, db.on_branch) == ("side", "main")
        assert dict(then) == dict(db)
        assert then.fingerprint() == db.fingerprint()
        assert next(then.log()).message == "here as well"


def test_what_only_a_deleted_branch_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collected with its branch, a commit has expired, though no branch is past it; one that a branch
    still leads to and that is gone is damage.

    Fails without: the look at what the branches lead to.
    """
    store, now = MemoryRemoteStore(), timedelta(0)
    options: dict[str, Any] = {"lock": "optimistic"}
    long = [LONG * 100]
    with ebooklet.open(store, None, "c", "json", **options) as db:
        db["common"] = long
        db.push()
        db.branch("side")
        with ebooklet.open(store, None, "w", branch="side", **options) as side:
            pushed = []
            for key in ("s", "t"):
                side[key] = [key, *long]
                pushed.append(side.push())
        db["more"] = long
        db.push()
        read, collected = read_record, False

        def late(*args: Any) -> Any:
            nonlocal collected
            if not collected:
                collected = True
                db.delete_branch("side")
                assert len(db.gc(grace=now).deleted) == 2
            return read(*args)

        with (
            ebooklet.open(store, version=pushed[0].seq) as first,
            ebooklet.open(store, version="side") as last,
        ):
            monkeypatch.setattr(heads, "read_record", late)
            asked: list[Callable[[], object]] = [
                lambda: ebooklet.open(store, branch="side"),
                lambda: ebooklet.open(store, version=pushed[0].seq),
                lambda: ebooklet.open(store, version=pushed[1].commit),
                lambda: first["s"],
                lambda: last["t"],
                lambda: list(db.diff(pushed[0].commit)),
                lambda: db.revert(pushed[1].commit),
            ]
            for ask in asked:
                with pytest.raises(SnapshotExpired):
                    ask()
        assert db.push(force_push=True)
        tip = next(db.log())
        db["last"] = long
        db.push()
        with ebooklet.open(store, version=tip.id) as then:
            store.delete([segment_key("db", then._copy.base.ref.block.sid)])  # type: ignore[union-attr]
        with pytest.raises(RemoteIntegrityError, match="run fsck"):
            ebooklet.open(store, version=tip.id)


def test_a_cold_open_costs_few_requests() -> None:
    """From nothing to the first key of 20,000: the head, the record with the root, a leaf, a value."""
    store = FaultyRemoteStore(MemoryRemoteStore(), sleep=lambda _: None)
    with ebooklet.open(store, None, "c", "json") as db:
        db.update({f"key/{n:05}": [n, LONG] for n in range(20_000)})
        assert db.push()
        for n in range(70):
            db["key/00000"] = [n, LONG]
            assert db.push()
    for version, most in ((60, 4), (3, 5)):  # the older one is looked up in the log
        store.calls.clear()
        with ebooklet.open(store, version=version) as db:
            assert db["key/10000"] == [10_000, LONG]
        assert 0 < len(store.calls) <= most


def test_in_a_folder(tmp_path: Path) -> None:
    """By a URL, of a folder; docs/history.md does the same on a real server."""
    url = f"file://{tmp_path}/db"
    ids = make(url, lock="optimistic")
    for version, n in ((1, 1), (ids[2], 2), ("main", 3)):
        with ebooklet.open(url, version=version) as db:
            assert dict(db.items()) == state(n)


def test_embedded() -> None:
    """A `Database` opens versions as `open` does."""
    store = MemoryRemoteStore()
    make(store)
    clock = SystemClock()
    half = LocalHalf(open_store=open_store, path=None, clock=clock)
    db: Database[Any] = Database(
        local=half, remote=store, serializer=JSON, clock=clock, flag="r", version=1
    )
    with db:
        assert dict(db.items()) == state(1)
    with pytest.raises(ValueError, match="flag 'r' only"):
        Database(local=half, remote=store, serializer=JSON, clock=clock, version=1)
