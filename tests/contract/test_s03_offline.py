"""CONTRACT §3, offline: serving what is stored, working on without the remote, and meeting it again.

Where nothing needs a server, the remote is one in memory whose every request can be made to fail;
then a port where nobody listens, and a server that is killed and comes back.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import booklet
import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag
from ebooklet.testing import servers
from ebooklet.testing.children import in_child
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule

pytestmark = pytest.mark.usefixtures("lean_processes")

N_KEYS: Final = 2000  # more than a head carries the index of
CONTENT: Final = {f"k{n:04}": n for n in range(N_KEYS)}


def kinds(db: EBooklet[Any]) -> dict[str, str]:
    """What is pending: "added", "modified" or "deleted", by key."""
    return {change["key"]: change["kind"] for change in db.changes()}


class Network(FaultyRemoteStore):
    """A remote that can be cut off."""

    def cut(self) -> None:
        """From here on every request fails for want of a network."""
        self.add(StoreRule(StoreFault.REFUSE, times=None))

    def mend(self) -> None:
        """Let requests through again."""
        self.clear()


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """A remote with a database, of which `a.blt` has three values."""
    network = Network(MemoryRemoteStore())
    with ebooklet.open(network, tmp_path / "b.blt", "c", value_serializer="json") as db:
        db.update(CONTENT)
        db.set_metadata({"m": 1})
        db.push()
    with ebooklet.open(network, tmp_path / "a.blt") as db:
        assert [db[key] for key in ("k0001", "k0002", "k0003")] == [1, 2, 3]
    network.calls.clear()
    return network


# offline=True


def test_offline_makes_no_request(network: Network, tmp_path: Path) -> None:
    """What is stored is served, anything else is an `OfflineError`, and the remote is never asked."""
    with ebooklet.open(network, tmp_path / "a.blt", offline=True) as db:
        assert db.offline
        assert not db.writable
        assert db.lock is None
        assert (db["k0001"], db.get("k0002")) == (1, 2)
        assert db.get_metadata() == {"m": 1}
        assert len(db) == N_KEYS
        assert "k0003" in db
        for use in (
            lambda: db["k1999"],
            lambda: db.get("k1999"),
            lambda: list(db.values()),
            lambda: list(db.items()),
            db.pull,
        ):
            with pytest.raises(ebooklet.OfflineError, match="open it again"):
                use()
        for key, ask in (
            ("k1999", lambda: db["k1999"]),
            (None, lambda: list(db.items())),
            (None, lambda: list(db.get_items(["k1999"]))),
        ):
            with pytest.raises(ebooklet.OfflineError) as failure:
                ask()
            assert failure.value.key == key  # and not the segment's
        with pytest.raises(ebooklet.ReadOnlyError):
            db.push()
        with pytest.raises(ebooklet.ReadOnlyError):
            db["k0001"] = 5
        with pytest.raises(ValueError, match="offline=True"):
            db.reopen("w")
        db.reopen("r")
        with pytest.raises(ebooklet.OfflineError):
            db.load_items(["k0001", "k1999"])
    assert network.calls == []


def test_offline_after_everything_was_loaded(network: Network, tmp_path: Path) -> None:
    """`load_items()` before leaving: then nothing is missing."""
    with ebooklet.open(network, tmp_path / "a.blt") as db:
        assert db.load_items() == {}
    network.calls.clear()
    with ebooklet.open(network, tmp_path / "a.blt", offline=True) as db:
        assert dict(db.items()) == CONTENT
        assert list(db) == list(CONTENT)
        with pytest.raises(KeyError):
            db["no such key"]
        assert "no such key" not in db
    assert network.calls == []


def test_offline_needs_a_file(network: Network, tmp_path: Path) -> None:
    """Without one there is nothing to serve; neither with an empty one."""
    (tmp_path / "empty.blt").touch()
    for path in (tmp_path / "missing.blt", tmp_path / "empty.blt", None):
        with pytest.raises(ebooklet.OfflineError, match="no local file"):
            ebooklet.open(network, path, offline=True)
    assert network.calls == []
    assert not (tmp_path / "missing.blt").exists()


def test_offline_by_dead_endpoint(tmp_path: Path) -> None:
    """A client of a real kind, made for a port where nobody listens, is never used."""
    with ebooklet.open("memory://", tmp_path / "a.blt", "c", value_serializer="json") as db:
        db["a"] = 1
    with dead_endpoint() as url:
        connection = ebooklet.S3Connection("AKID", "secret", "db", "bucket", endpoint_url=url)
        with ebooklet.open(connection, tmp_path / "a.blt", offline=True) as db:
            assert dict(db) == {"a": 1}
            assert db.offline


@contextmanager
def dead_endpoint() -> Iterator[str]:
    """An endpoint where nobody listens: the port is held, so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


# offline="auto"


@pytest.mark.parametrize("flag", ["r", "w", "c"])
def test_auto_asks_the_remote_where_it_can(network: Network, tmp_path: Path, flag: Flag) -> None:
    """With a network it is an ordinary open, and says so."""
    with ebooklet.open(network, tmp_path / "a.blt", flag, offline="auto") as db:
        assert not db.offline
        assert db["k1999"] == 1999
        assert (db.lock is not None) == (flag != "r")


@pytest.mark.parametrize("flag", ["r", "w", "c"])
def test_auto_falls_back_without_a_network(network: Network, tmp_path: Path, flag: Flag) -> None:
    """With a warning that names the cause; what follows asks nobody."""
    network.cut()
    with pytest.warns(UserWarning, match="opened offline.*refused, as scheduled") as warned:
        db = ebooklet.open(network, tmp_path / "a.blt", flag, offline="auto")
    assert warned[0].filename == __file__
    network.calls.clear()
    with db:
        assert (db.offline, db.writable, db.lock) == (True, flag != "r", None)
        assert ", offline)" in repr(db)
        assert db["k0001"] == 1
        with pytest.raises(ebooklet.OfflineError):
            db["k1999"]
        with pytest.raises(ebooklet.OfflineError, match="open it again"):
            db.pull()
        if flag != "r":
            db["k0001"] = 10
            db["new"] = 1
            del db["k0002"]
            for push in (db.push, db.changes().push):
                with pytest.raises(ebooklet.OfflineError, match="stays pending"):
                    push()
            assert (db["k0001"], db["new"], "k0002" in db) == (10, 1, False)
            assert bool(db.changes())
        assert network.calls == []
    assert network.calls == []
    network.mend()


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_auto_without_a_file(network: Network, tmp_path: Path, flag: Flag) -> None:
    """There is nothing to fall back to: the failure itself is raised, and nothing is made."""
    network.cut()
    with pytest.raises(ebooklet.RemoteUnavailable):
        ebooklet.open(network, tmp_path / "missing.blt", flag, offline="auto")
    assert not list(tmp_path.glob("missing*"))
    with pytest.raises(ebooklet.RemoteUnavailable):
        ebooklet.open(network, None, flag, offline="auto")
    network.mend()


def test_auto_never_starts_anew_unseen(network: Network, tmp_path: Path) -> None:
    """Flag n replaces what the remote holds, so it has to be looked at: no fallback."""
    before = (tmp_path / "a.blt").read_bytes()
    network.cut()
    with pytest.raises(ebooklet.RemoteUnavailable):
        ebooklet.open(network, tmp_path / "a.blt", "n", offline="auto")
    assert (tmp_path / "a.blt").read_bytes() == before
    network.mend()


def other_database(network: Network) -> None:
    network.inner.delete(["db"])
    with ebooklet.open(network.inner, None, "c", value_serializer="json") as db:
        db.push()


SPOILED: Final[dict[str, tuple[Callable[[Network], object], type[Exception]]]] = {
    "wrong credentials": (
        lambda network: network.add(StoreRule(StoreFault.DENY, times=None)),
        ebooklet.AccessDenied,
    ),
    "not ours": (
        lambda network: network.inner.put("db", b"something else"),
        ebooklet.UnsupportedFormatError,
    ),
    "damaged": (
        lambda network: network.inner.put("db", network.inner.get("db").body[:-1]),
        ebooklet.RemoteIntegrityError,
    ),
    "another database": (other_database, ebooklet.UUIDMismatchError),
}


@pytest.mark.parametrize("flag", ["r", "w"])
@pytest.mark.parametrize("how", SPOILED)
def test_auto_falls_back_from_no_other_failure(
    network: Network, tmp_path: Path, flag: Flag, how: str
) -> None:
    """A remote that answers is not out of reach, whatever it answers."""
    spoil, error = SPOILED[how]
    spoil(network)
    with pytest.raises(error):
        ebooklet.open(network, tmp_path / "a.blt", flag, offline="auto")
    network.clear()


def test_auto_falls_back_amid_an_open(network: Network, tmp_path: Path) -> None:
    """A network lost at any request of the open is a network lost; the lock is given back."""
    with ebooklet.open(network, tmp_path / "b.blt", "w") as other:
        other.update({f"k{n:04}": -n for n in range(0, N_KEYS, 7)})
        other.push()
    n_offline = 0
    for skip in range(20):
        rule = network.add(StoreRule(StoreFault.REFUSE, skip=skip))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            db = ebooklet.open(network, tmp_path / "a.blt", "w", offline="auto")
        network.clear()
        with db:
            assert db.offline == bool(told)
            assert db["k0001"] == 1
            n_offline += db.offline
        ebooklet.open(network, tmp_path / "b.blt", "w", lock_timeout=0).close()
        if not rule.struck:
            assert n_offline >= 3
            return
    pytest.fail("an open has no end of requests")


def open_quietly(network: Network, path: Path, flag: Flag = "w") -> EBooklet[Any]:
    """Open with offline="auto" where it is known what will be said of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ebooklet.open(network, path, flag, offline="auto")


# The work done offline


def test_work_done_offline_is_pushed_later(network: Network, tmp_path: Path) -> None:
    """Sets, deletions and metadata of several sessions offline reach the remote in one push."""
    network.cut()
    for session in range(2):
        db = open_quietly(network, tmp_path / "a.blt", "w")
        with db:
            db[f"field{session}"] = session
            db["k0001"] = f"session {session}"
            db["k1500"] = "never seen"
            if session:
                del db["k0002"]
                db.set_metadata({"m": 2})
    network.mend()
    with ebooklet.open(network, tmp_path / "a.blt", "w") as db:
        assert kinds(db) == {
            "field0": "added",
            "field1": "added",
            "k0001": "modified",
            "k0002": "deleted",
            "k1500": "modified",
        }
        assert db.push()
    with ebooklet.open(network, None) as db:
        expected: dict[str, Any] = CONTENT | {"field0": 0, "field1": 1, "k0001": "session 1"}
        expected["k1500"] = "never seen"
        del expected["k0002"]
        assert dict(db) == expected
        assert db.get_metadata() == {"m": 2}


@pytest.mark.parametrize("settled", ["ours", "theirs", "discard"])
def test_work_done_offline_meets_other_work(network: Network, tmp_path: Path, settled: str) -> None:
    """What changed on both sides is named and stays pending; everything else is taken in."""
    network.cut()
    db = open_quietly(network, tmp_path / "a.blt", "w")
    with db:
        db["k0001"] = "mine"  # theirs changes it
        db["k0002"] = "mine"  # theirs deletes it
        db["k0004"] = "mine"  # theirs leaves it; its value was never here
        del db["k0003"]  # theirs changes it
        db["both"] = "mine"  # theirs adds it too
        db["alike"] = "alike"  # theirs adds the same
    network.mend()
    with ebooklet.open(network, tmp_path / "b.blt", "w") as other:
        other.update({"k0001": "theirs", "k0003": "theirs", "both": "theirs", "alike": "alike"})
        other["k0009"] = "theirs"
        del other["k0002"]
        other.push()
        theirs = dict(other)
    with pytest.warns(UserWarning, match="changed both here and in the remote") as warned:
        db = ebooklet.open(network, tmp_path / "a.blt", "w")
    conflicts = {"k0001", "k0002", "k0003", "both"}
    with db:
        assert all(repr(key) in str(warned[0].message) for key in conflicts)
        assert "'k0004'" not in str(warned[0].message)
        assert (db["k0001"], db["k0002"], db["both"]) == ("mine", "mine", "mine")
        assert "k0003" not in db
        assert db["k0009"] == "theirs"
        with pytest.raises(ebooklet.ConflictError) as caught:
            db.push()
        assert set(caught.value.keys) == conflicts
        assert conflicts <= set(kinds(db))
        expected = theirs | {"k0004": "mine"}
        if settled == "ours":
            expected |= {"k0001": "mine", "k0002": "mine", "both": "mine"}
            del expected["k0003"]
        if settled == "discard":
            db.discard(conflicts)
            assert db.push()
        else:
            assert db.push(conflict=settled)  # type: ignore[arg-type]  # of the table's values
        assert dict(db) == expected
        assert not kinds(db)
    with ebooklet.open(network, None) as db:
        assert dict(db) == expected


def test_coming_back_online_in_place(network: Network, tmp_path: Path) -> None:
    """`reopen("w")` of a handle that fell back tries the remote again, with all that belongs to it."""
    network.cut()
    with pytest.warns(UserWarning, match="opened offline"):
        db = ebooklet.open(network, tmp_path / "a.blt", "w", offline="auto")
    with db:
        db["field"] = 1
        with pytest.warns(UserWarning, match="opened offline"):
            db.reopen("w")
        assert (db.offline, db.writable, db.lock) == (True, True, None)
        db["field"] = 2
        network.mend()
        with ebooklet.open(network, tmp_path / "b.blt", "w") as other:
            other["theirs"] = 1
            other.push()
        db.reopen("w")
        assert (db.offline, db.writable) == (False, True)
        assert db.lock is not None
        assert (db["theirs"], db["k1999"], db["field"]) == (1, 1999, 2)
        assert kinds(db) == {"field": "added"}
        assert db.push()
    with ebooklet.open(network, None) as db:
        assert db["field"] == 2


def test_a_reader_that_fell_back(network: Network, tmp_path: Path) -> None:
    """It may become an offline writer, or come back online as a reader or a writer."""
    network.cut()
    db = open_quietly(network, tmp_path / "a.blt", "r")
    with pytest.warns(UserWarning, match="opened offline"):
        db.reopen("w")
    with db:
        assert (db.offline, db.writable) == (True, True)
        db["field"] = 1
        network.calls.clear()
        db.reopen("r")
        assert network.calls == []
        assert (db.offline, db.writable, db["field"]) == (True, False, 1)
        network.mend()
        db.reopen("r")
        assert (db.offline, db.writable, db["k1999"]) == (False, False, 1999)
        db.reopen("w")
        assert db.push()


def test_a_handle_that_loses_the_network(network: Network, tmp_path: Path) -> None:
    """A push fails without losing anything; a reader may go on as an offline writer."""
    with ebooklet.open(network, tmp_path / "a.blt", "w", offline="auto") as db:
        network.cut()
        db["field"] = 1
        with pytest.raises(ebooklet.RemoteUnavailable):
            db.push()
        assert kinds(db) == {"field": "added"}
        network.mend()
        assert db.push()
        db.reopen("r")
        network.cut()
        with pytest.warns(UserWarning, match="opened offline"):
            db.reopen("w")
        assert (db.offline, db.lock) == (True, None)
        db["field"] = 2
        network.mend()
        db.reopen("w")
        assert db.push()
    with ebooklet.open(network, None) as db:
        assert db["field"] == 2


# What an open without the remote cannot know


@pytest.mark.parametrize("cached", [True, False], ids=["index cached", "index not cached"])
def test_edits_with_booklet_found_offline(network: Network, tmp_path: Path, cached: bool) -> None:
    """They are served at once, and are exactly what is pending once the remote has been asked."""
    with booklet.open(tmp_path / "a.blt", "w") as file:
        file["k0001"] = "plain"
        file["plain"] = 1
        del file["k0003"]
    if not cached:
        (tmp_path / "a.blt.ebk" / "nodes").unlink()
    network.cut()
    for flag in ("r", "w"):
        db = open_quietly(network, tmp_path / "a.blt", flag)
        with db:
            assert (db["k0001"], db["k0002"], db["plain"]) == ("plain", 2, 1)
            assert "k0003" not in db
            if cached:
                assert kinds(db) == {"k0001": "modified", "k0003": "deleted", "plain": "added"}
    network.mend()
    with ebooklet.open(network, tmp_path / "a.blt", "w") as db:
        assert kinds(db) == {"k0001": "modified", "k0003": "deleted", "plain": "added"}
        assert db["k0002"] == 2
        assert db.push()
        assert len(db) == N_KEYS


@pytest.mark.parametrize("cached", [True, False], ids=["index cached", "index not cached"])
def test_a_crash_offline(network: Network, tmp_path: Path, cached: bool) -> None:
    """The file opens again offline, with what was synced; online, that alone is pending."""
    network.cut()

    def work() -> None:
        db = open_quietly(network, tmp_path / "a.blt", "w")
        db["k0001"] = "synced"
        db["field"] = "synced"
        del db["k0002"]
        db.sync()
        db["k0001"] = "later"
        db["later"] = "later"
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    if not cached:
        (tmp_path / "a.blt.ebk" / "nodes").unlink()
    for flag in ("r", "w", "c"):
        db = open_quietly(network, tmp_path / "a.blt", flag)
        with db:
            assert db["k0001"] in ("synced", "later")
            assert (db["field"], db["k0003"]) == ("synced", 3)
            assert "k0002" not in db
    network.mend()
    with ebooklet.open(network, tmp_path / "a.blt", "w") as db:
        found = kinds(db)
        assert found.pop("later", "added") == "added"
        assert found == {"k0001": "modified", "k0002": "deleted", "field": "added"}
        assert len(db) == len(list(db))
        assert db.push()


def test_a_file_that_never_met_its_remote(network: Network, tmp_path: Path) -> None:
    """Made with plain Booklet or before a first push, it is served and written to as well."""
    with booklet.open(
        tmp_path / "plain.blt", "n", key_serializer="str", value_serializer="json"
    ) as file:
        file["a"] = 1
    network.cut()
    db = open_quietly(network, tmp_path / "plain.blt", "w")
    with db:
        db["b"] = 2
        assert dict(db) == {"a": 1, "b": 2}
        assert kinds(db) == {"a": "added", "b": "added"}


# A server that is killed and comes back


@contextmanager
def rclone_at(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An S3 server at this port until the block ends, with what is in the folder."""
    (folder / "data").mkdir(exist_ok=True)
    keys = f"{servers.ACCESS_KEY_ID},{servers.ACCESS_KEY}"
    command = [servers._binary("rclone"), "serve", "s3", "--config", ""]
    command += ["--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(folder / "data")]
    process = servers._spawn(command, folder / "rclone.log", None)
    try:
        servers._wait_until_up(process, f"http://127.0.0.1:{port}/", folder / "rclone.log", 60)
        yield process
    finally:
        servers._stop(process, signal.SIGKILL)


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """Written with a server, without one, and with one again: nothing is lost on the way."""
    (port,) = servers.free_ports(1)
    server = servers._server("rclone", f"http://127.0.0.1:{port}", "lock")
    connection = server.connection("bucket", "db")
    path = tmp_path / "a.blt"
    with rclone_at(port, tmp_path):
        server.create_bucket("bucket")
        with ebooklet.open(connection, path, "c", value_serializer="json", offline="auto") as db:
            db.update({"a": 1, "b": 2})
            db.push()
        with ebooklet.open(connection, path, offline="auto") as reader:
            assert not reader.offline
    with pytest.raises(ebooklet.RemoteUnavailable):
        ebooklet.open(connection, path)
    with pytest.warns(UserWarning, match="opened offline"):
        db = ebooklet.open(connection, path, "w", offline="auto")
    with db:
        db["field"] = 3
        del db["a"]
        with pytest.raises(ebooklet.OfflineError):
            db.push()
        with rclone_at(port, tmp_path):
            db.reopen("w")
            assert not db.offline
            assert db.push()
            with ebooklet.open(connection, None) as cold:
                assert dict(cold) == {"b": 2, "field": 3}
            wrong = ebooklet.S3Connection(
                "AKIDWRONG0123456789",
                "secret" * 6,
                "db",
                "bucket",
                endpoint_url=server.endpoint_url,
            )
            with pytest.raises(ebooklet.AccessDenied):
                ebooklet.open(wrong, path.with_name("b.blt"), offline="auto")
            db.reopen("r")
