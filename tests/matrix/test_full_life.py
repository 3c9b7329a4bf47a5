"""A full life of a database through every adapter on every server."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pytest

import ebooklet
from ebooklet.core.names import alternate_key, lock_key
from ebooklet.errors import (
    LockTimeout,
    ReadOnlyError,
    RemoteMissingError,
    UnsupportedOperation,
)
from ebooklet.services.departing import await_departures
from ebooklet.testing.servers import S3Server
from tests.matrix import homes
from tests.matrix.homes import DRIVERS, Home
from tests.matrix.writers import WAIT_S, count, race

pytestmark = pytest.mark.usefixtures("lean_processes")

SERVERS: Final = ("seaweedfs", "moto", "ministack", "juicefs", "rclone")


class Cell(NamedTuple):
    """One adapter on one server, or on what it keeps objects in otherwise."""

    adapter: str
    server: str


# What `make test` runs: each adapter once and each server once, where that takes least.
LIVES: Final = {
    Cell("boto3", "juicefs"),
    Cell("minio", "rclone"),
    Cell("obstore", "ministack"),
    Cell("obstore", "seaweedfs"),
    Cell("fsspec", "moto"),
    Cell("filesystem", "(folder)"),
    Cell("memory", "(memory)"),
    Cell("http", "moto"),
}
# And where writers meet each other: a server of mode lock, and what costs nothing. On one of mode
# cas they meet in tests/torture and tests/concurrency.
MEETINGS: Final = {
    Cell("minio", "rclone"),
    Cell("filesystem", "(folder)"),
    Cell("memory", "(memory)"),
}
# Exclusive writers meet on servers in tests/contract/test_s09_locking.py, in processes too.
NEARBY: Final = {cell for cell in MEETINGS if cell.server.startswith("(")}
# Where those writers are processes of their own; they are threads elsewhere.
IN_PROCESSES: Final = {Cell("minio", "rclone"), Cell("obstore", "seaweedfs")}

OTHERS: Final = (
    Cell("fsspec", "(folder)"),
    Cell("fsspec", "(memory)"),
    Cell("fsspec", "(sftp)"),
    Cell("filesystem", "(folder)"),
    Cell("memory", "(memory)"),
)


def cells(of: Sequence[Cell], representative: Container[Cell]) -> pytest.MarkDecorator:
    """A test's parameters: each a cell of the table "life"."""
    return pytest.mark.parametrize(
        "cell",
        [
            pytest.param(
                cell,
                marks=pytest.mark.matrix("life", *cell, representative=cell in representative),
                id="-".join(cell),
            )
            for cell in of
        ],
    )


WRITABLE: Final = (*(Cell(driver, server) for driver in DRIVERS for server in SERVERS), *OTHERS)


@pytest.fixture
def home(
    cell: Cell,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    environment: Callable[[S3Server], None],
) -> Home:
    """Two places of the cell that nobody else uses."""
    match cell:
        case ("fsspec", "(memory)"):
            return homes.in_memory_of_fsspec()
        case ("memory", _):
            return homes.in_memory()
        case (_, "(sftp)"):
            return homes.over_sftp(request)
        case (adapter, "(folder)"):
            root = tmp_path / "served"
            root.mkdir()
            if adapter == "filesystem":
                return homes.in_folders("file", "cas", root)
            return homes.in_folders("fsspec+file", "lock", root)
    server: S3Server = request.getfixturevalue(cell.server)
    environment(server)
    return homes.on_server(cell.adapter, server)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[S3Server], None]:
    """Puts a server's credentials where URLs, which hold none, have them looked for."""

    def put(server: S3Server) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.access_key)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    return put


# Small ones that stand in the index, some to be coalesced, one that takes a segment of its own.
FIRST: Final[Mapping[str, Any]] = {
    **{f"k{n:03}": {"n": n, "text": "x" * 9 * n} for n in range(120)},
    "": "no name",
    "odd/../%2F é": None,
    "large": "y" * 300_000,
}
SECOND: Final[Mapping[str, Any]] = {
    **{key: value for key, value in FIRST.items() if key not in ("k002", "large")},
    "k001": "modified",
    "large": "z" * 310_000,
    "new": [1, 2.5, None],
}


def grow_up(home: Home, file: Path, key: str) -> None:
    """Create, push, change, and push again in a second session."""
    with home.open(file, "c", key, value_serializer="json") as db:
        db.update(FIRST)
        db.set_metadata({"title": "first"})
        result = db.push()
        assert result
        assert result.n_set == len(FIRST)
    with home.open(file, "w", key) as db:
        db["k001"], db["large"], db["new"] = (SECOND[key] for key in ("k001", "large", "new"))
        del db["k002"]
        db.set_metadata({"title": "second"})
        assert {change["key"]: change["kind"] for change in db.changes()} == {
            "k001": "modified",
            "k002": "deleted",
            "large": "modified",
            "new": "added",
        }
        assert db.push("second")
        assert not list(db.changes())


def read_cold(remote: homes.Remote, file: Path | None) -> dict[str, Any]:
    """Everything there is, in a local file that knows nothing; with the metadata."""
    with ebooklet.open(remote, file) as db:
        assert db.load_items() == {}
        found = dict(db.items())
        assert len(db) == len(found)
        return {**found, "metadata": db.get_metadata()}


WHOLE: Final[Mapping[str, Any]] = {**SECOND, "metadata": {"title": "second"}}


@cells(WRITABLE, LIVES)
def test_a_full_life(home: Home, tmp_path: Path) -> None:
    """Created, changed, read by a stranger, checked, copied twice, and deleted without a trace."""
    key = "db 1+é"
    grow_up(home, tmp_path / "writer.blt", key)
    # Only in mode lock are there two copies of the head: the probe found out what is kept here.
    assert (alternate_key(key) in home.objects(home.place)) == (home.mode == "lock")
    assert read_cold(home.url(home.place, key), tmp_path / "cold.blt") == WHOLE
    report = ebooklet.fsck(home.connect(home.place, key), check_objects=True)
    assert (report.ok, report.orphans, report.strangers, report.seq) == (True, (), (), 2)

    copies = [(home.place, "a copy"), (home.other, "a copy elsewhere")]
    with home.open(tmp_path / "writer.blt", "w", key) as db:
        for copy in copies:
            db.copy_remote(home.connect(*copy))
        db.delete_remote()
    assert not segments_and_heads(home, home.place, key)
    with pytest.raises(RemoteMissingError):
        ebooklet.open(home.url(home.place, key), tmp_path / "late.blt")

    for copy in copies:
        assert read_cold(home.url(*copy), None) == WHOLE
        assert ebooklet.fsck(home.connect(*copy), check_objects=True).ok
        with ebooklet.open_session(home.connect(*copy), "w") as session:
            session.delete_remote()
    leases = {lock_key(name) for name in (key, "a copy", "a copy elsewhere")}
    for place in (home.place, home.other):
        # A lease outlives its database, so that its tokens go on; tickets leave nothing.
        assert home.objects(place) <= (leases if home.mode == "cas" else set())


def segments_and_heads(home: Home, place: str, key: str) -> set[str]:
    """What is there of one database, once nobody here is on the way out of it."""
    await_departures()
    found = {name for name in home.objects(place) if name.startswith(key)}
    return found - {lock_key(key)}


@contextmanager
def writers(cell: Cell, n: int) -> Iterator[tuple[Executor, threading.Barrier]]:
    """Some that work at once, and what they wait at for each other."""
    if cell in IN_PROCESSES:
        spawn = multiprocessing.get_context("spawn")
        with spawn.Manager() as manager, ProcessPoolExecutor(n, mp_context=spawn) as pool:
            yield pool, manager.Barrier(n)
    else:
        with ThreadPoolExecutor(n) as pool:
            yield pool, threading.Barrier(n)


@cells(WRITABLE, NEARBY)
def test_exclusive_writers_wait_for_each_other(cell: Cell, home: Home, tmp_path: Path) -> None:
    """The second is told who has it; of two that wait, each goes on from what the other pushed."""
    with home.open(tmp_path / "a.blt", "c", value_serializer="json") as db:
        db["count"] = 0
        assert db.push()
        with pytest.raises(LockTimeout, match=socket.gethostname()):
            home.open(tmp_path / "b.blt", lock_timeout=0)
    remote = home.connect(home.place, "db")
    with writers(cell, 2) as (pool, _):
        for done in [pool.submit(count, remote, tmp_path / f"{n}.blt", n, 2) for n in "ab"]:
            done.result(WAIT_S)
    with home.open(tmp_path / "cold.blt", "r") as db:
        found = dict(db.items())
    assert found.pop("count") == 4
    assert sorted(found) == ["a/0", "a/1", "b/0", "b/1"]
    assert sorted(found.values()) == [1, 2, 3, 4]


@cells(WRITABLE, MEETINGS)
def test_optimistic_writers_are_merged(cell: Cell, home: Home, tmp_path: Path) -> None:
    """Who lost a race takes in the others' commits, in mode lock in the order of the queue.

    So does who was to create the database as well, and comes second.

    Every acknowledged push is one commit of the history, and what it did is there once.
    """
    creates: dict[str, Any] = {"value_serializer": "json", "lock": "optimistic"}
    with (
        home.open(tmp_path / "a.blt", "c", **creates) as first,
        home.open(tmp_path / "b.blt", "c", **creates) as second,
    ):
        first["all"] = []
        assert first.push()
        first["a"], second["b"] = 1, 2
        assert first.push().seq == 2
        assert second.push().seq == 3  # and is a half of what the first has created
        assert dict(second.items()) == {"a": 1, "b": 2, "all": []}
        assert first.pull()
    remote = home.connect(home.place, "db")
    # In mode lock a push waits for seconds to be sure of its ticket.
    names, rounds = "abc", 1 if home.mode == "lock" else 3
    with writers(cell, len(names)) as (pool, together):
        running = [
            pool.submit(race, remote, tmp_path / f"{name}.blt", name, rounds, together)
            for name in names
        ]
        commits = [commit for done in running for commit in done.result(WAIT_S)]
    with home.open(tmp_path / "cold.blt", "r") as db:
        found = dict(db.items())
        history = [commit.id for commit in db.log()]
    assert len(commits) == len(set(commits)) == len(names) * rounds
    assert sorted(history[: len(commits)]) == sorted(commits)
    assert len(history) == len(commits) + 3
    raced = {f"{name}/{number}": number for name in names for number in range(rounds)}
    assert sorted(found.pop("all")) == sorted(raced)
    assert found == {"a": 1, "b": 2, **raced}


@cells([Cell("http", server) for server in SERVERS], LIVES)
def test_a_public_life(
    cell: Cell,
    request: pytest.FixtureRequest,
    publish: Callable[[S3Server, str], str],
    tmp_path: Path,
) -> None:
    """Whoever has but a URL reads all that is pushed, follows it, and changes nothing."""
    server: S3Server = request.getfixturevalue(cell.server)
    home = homes.on_server("boto3", server)
    url = f"{publish(server, home.place)}/folder/db"
    with pytest.raises(RemoteMissingError):
        ebooklet.open(url, tmp_path / "early.blt")
    with home.open(tmp_path / "writer.blt", "c", "folder/db", value_serializer="json") as db:
        db.update(FIRST)
        assert db.push()
        with ebooklet.open(url, tmp_path / "reader.blt") as reader:
            assert dict(reader.items()) == FIRST
        db.update({**SECOND, "later": "pushed"})
        del db["k002"]
        db.set_metadata({"title": "second"})
        assert db.push()
        with ebooklet.open(url, tmp_path / "reader.blt") as reader:  # warm by now
            assert dict(reader.items()) == {**SECOND, "later": "pushed"}
            del db["later"]
            assert db.push()
            assert reader.pull()
            assert dict(reader.items()) == SECOND
    assert read_cold(url, tmp_path / "cold.blt") == WHOLE

    before = home.objects(home.place)
    with ebooklet.open(url, None) as reader:
        for change in (reader.push, reader.delete_remote, lambda: reader.set("k", 1)):
            with pytest.raises(ReadOnlyError):
                change()
        with pytest.raises(ReadOnlyError):
            reader.copy_remote(home.connect(home.other, "copy"))
    for flag in ("w", "c", "n"):
        with pytest.raises(ReadOnlyError):
            ebooklet.open(url, tmp_path / "writes.blt", cast("Any", flag))
    with pytest.raises(UnsupportedOperation):
        ebooklet.fsck(url)  # objects behind a URL cannot be listed
    assert home.objects(home.place) == before
    with ebooklet.open_session(home.connect(home.place, "folder/db"), "w") as session:
        session.delete_remote()
    with pytest.raises(RemoteMissingError):
        ebooklet.open(url, tmp_path / "late.blt")


class Move(NamedTuple):
    """From one server to another, through one driver each."""

    adapter: str
    source: str
    into: str
    target: str


# Into either mode from either, and through every driver both ways.
MOVES: Final = (
    Move("boto3", "moto", "minio", "rclone"),
    Move("minio", "juicefs", "obstore", "moto"),
    Move("obstore", "rclone", "fsspec", "seaweedfs"),
    Move("fsspec", "ministack", "boto3", "juicefs"),
)


@pytest.mark.parametrize(
    "move",
    [
        pytest.param(
            move,
            marks=pytest.mark.matrix(
                "copies",
                f"{move.adapter} on {move.source}",
                f"{move.into} on {move.target}",
                representative=move is MOVES[0],
            ),
            id="-".join(move),
        )
        for move in MOVES
    ],
)
def test_a_copy_on_another_server(
    move: Move, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What is copied lives on in the way of its new server, and the old one stays as it is."""
    source = homes.on_server(move.adapter, request.getfixturevalue(move.source))
    target = homes.on_server(move.into, request.getfixturevalue(move.target))
    grow_up(source, tmp_path / "writer.blt", "db")
    before = source.objects(source.place)
    with source.open(tmp_path / "writer.blt") as db:
        db.copy_remote(target.connect(target.place, "moved"))
    assert segments(source, "db") == {name for name in before if name.startswith("db.d/")}
    assert (alternate_key("moved") in target.objects(target.place)) == (target.mode == "lock")
    assert ebooklet.fsck(target.connect(target.place, "moved"), check_objects=True).ok
    with target.open(tmp_path / "moved.blt", "w", "moved") as db:
        assert dict(db.items()) == SECOND
        db["later"] = 1
        assert db.push().seq == 3
    assert "later" not in read_cold(source.connect(source.place, "db"), None)


def segments(home: Home, key: str) -> set[str]:
    """The names of a database's segments in the first place."""
    return {name for name in home.objects(home.place) if name.startswith(f"{key}.d/")}
