"""CONTRACT §3: opening, under every flag, wherever the two halves are.

Names of the tests' own: *remote* is the database in the store, *local* the file. Offline work is in
test_s03_offline.py; readers and writers of one path are also the matter of
tests/adapters/local/test_processes.py and tests/services/test_readers.py.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import booklet
import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import open_store as open_file
from ebooklet.adapters.local.memory import open_store as open_in_memory
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.services.request import FLAGS, Flag
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.contract.conftest import Place

pytestmark = pytest.mark.usefixtures("lean_processes")

WITHOUT_SERVER: Final = pytest.mark.parametrize("place", ["memory"], indirect=True)
FACTORIES: Final = pytest.mark.parametrize(
    "factory", [ebooklet.open, ebooklet.open_ebooklet, ebooklet.open_rcg]
)
Content = Mapping[str, Any]


def kinds(db: EBooklet[Any]) -> dict[str, str]:
    """What is pending: "added", "modified" or "deleted", by key."""
    return {change["key"]: change["kind"] for change in db.changes()}


def local_files(place: Place) -> dict[str, bytes]:
    """Everything the local half `a` consists of, locks and marks included."""
    return {
        str(path.relative_to(place.folder)): path.read_bytes()
        for path in place.folder.glob("a.blt*/**/*")
        if path.is_file()
    } | {path.name: path.read_bytes() for path in place.folder.glob("a.blt*") if path.is_file()}


def remote_objects(place: Place) -> dict[str, bytes]:
    """Every object of the remote, but for locks: these come and go."""
    return {key: body for key, body in place.objects().items() if ".lock" not in key}


# The flag table


@dataclass
class Halves:
    """What is there before an open."""

    local_uuid: UUID | None = None
    remote_uuid: UUID | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)


REMOTE: Final = {"a": 1, "b": 2}
MOVED: Final = {"a": 1, "b": 20, "c": 3}  # what others made of it, where there is a local half
MINE: Final = {"mine": 9}
OTHER: Final = {"other": 0}


def nothing(place: Place, halves: Halves) -> None:
    """R no, L no."""


def only_local(place: Place, halves: Halves) -> None:
    """R no, L yes: written and never pushed."""
    with place.open() as db:
        db.update(MINE)
        halves.local_uuid = db.uuid


def only_remote(place: Place, halves: Halves) -> None:
    """R yes, L no."""
    with place.open(file="b") as db:
        db.update(REMOTE)
        db.push()
        halves.remote_uuid = db.uuid


def both(place: Place, halves: Halves) -> None:
    """R yes, L same: something pending here, something new there."""
    with place.open() as db:
        db.update(REMOTE)
        db.push()
        db.update(MINE)
        halves.local_uuid = halves.remote_uuid = db.uuid
    with place.open(file="b", flag="w") as db:
        db.update(MOVED)
        db.push()


def strangers(place: Place, halves: Halves) -> None:
    """R yes, L other uuid."""
    with place.open("elsewhere") as db:
        db.update(OTHER)
        db.push()
        halves.local_uuid = db.uuid
    only_remote(place, halves)


COLUMNS: Final[dict[str, Callable[[Place, Halves], None]]] = {
    "R no, L no": nothing,
    "R no, L yes": only_local,
    "R yes, L no": only_remote,
    "R yes, L same": both,
    "R yes, L other": strangers,
}
SEEN: Final[dict[tuple[str, str], Content | type[Exception]]] = {
    ("r", "R no, L no"): ebooklet.RemoteMissingError,
    ("r", "R no, L yes"): MINE,
    ("r", "R yes, L no"): REMOTE,
    ("r", "R yes, L same"): MOVED | MINE,
    ("r", "R yes, L other"): ebooklet.UUIDMismatchError,
    ("w", "R no, L no"): ebooklet.RemoteMissingError,
    ("w", "R no, L yes"): MINE,
    ("w", "R yes, L no"): REMOTE,
    ("w", "R yes, L same"): MOVED | MINE,
    ("w", "R yes, L other"): ebooklet.UUIDMismatchError,
    ("c", "R no, L no"): {},
    ("c", "R no, L yes"): MINE,
    ("c", "R yes, L no"): REMOTE,
    ("c", "R yes, L same"): MOVED | MINE,
    ("c", "R yes, L other"): ebooklet.UUIDMismatchError,
    ("n", "R no, L no"): {},
    ("n", "R no, L yes"): {},
    ("n", "R yes, L no"): {},
    ("n", "R yes, L same"): {},
    ("n", "R yes, L other"): {},
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("flag", FLAGS)
def test_the_flag_table(place: Place, flag: Flag, column: str) -> None:
    """Each cell: what is seen, by whom it may be changed, whose uuid it has, what is left alone."""
    halves = Halves()
    COLUMNS[column](place, halves)
    halves.files, halves.objects = local_files(place), remote_objects(place)
    expected = SEEN[flag, column]
    options: dict[str, Any] = {"value_serializer": None}
    if column == "R no, L no" and flag in "cn":
        options = {"value_serializer": "json"}

    if isinstance(expected, type):
        with pytest.raises(expected) as caught:
            place.open(flag=flag, **options)
        assert isinstance(caught.value, ValueError)
        assert local_files(place) == halves.files
        assert remote_objects(place) == halves.objects
        with place.open("elsewhere", flag="c") as db:  # the file is closed, and opens as before
            assert dict(db) == (OTHER if halves.files else {})
        with place.open(file="c", flag="c", lock_timeout=5):
            pass  # and the lock is free
        return

    with place.open(flag=flag, **options) as db:
        assert len(db) == len(expected)
        assert dict(db) == expected
        assert "a" not in db or "a" in expected
        assert db.writable == (flag != "r")
        assert (db.lock is not None) == (flag != "r")
        if halves.remote_uuid is not None:
            assert db.uuid == halves.remote_uuid
        elif halves.local_uuid is not None:
            assert (db.uuid == halves.local_uuid) == (flag != "n")
        uuid = db.uuid
        assert remote_objects(place) == halves.objects  # whatever the flag, nothing before a push
        if db.writable:
            db["pushed"] = 1
            assert db.push()
    with booklet.open(place.path("a")) as file:  # a genuine Booklet, of the same database
        assert file.uuid == uuid
        if flag != "r":
            assert file["pushed"] == 1
    if flag != "r":
        with place.open(file="cold", flag="r") as db:
            assert dict(db) == {**expected, "pushed": 1}
            assert db.uuid == uuid


@WITHOUT_SERVER
def test_a_cache_has_the_serializer_of_the_remote(place: Place) -> None:
    """Flag r, R yes, L no: plain Booklet reads what was fetched, the serializer unnamed."""
    with place.open(file="b", value_serializer="orjson") as db:
        db["a"] = {"x": [1, 2]}
        db.push()
    with place.open(flag="r") as db:
        assert db["a"] == {"x": [1, 2]}
    with booklet.open(place.path("a")) as file:
        assert file["a"] == {"x": [1, 2]}


# Flag n over an existing remote


def test_n_replaces_in_one_step(place: Place) -> None:
    """Empty at once; the remote stays as it is until a push, and is then the new one as a whole."""
    with place.open() as db:
        db.update({f"old{n}": "x" * 200 for n in range(20)})
        db.set_metadata({"old": True})
        db.push()
        uuid = db.uuid
    before = remote_objects(place)
    with (
        place.open(file="b", flag="r") as reader,
        place.open(flag="n", value_serializer=None) as db,
    ):
        assert (len(db), list(db), bool(db)) == (0, [], False)
        assert "old1" not in db
        assert db.get("old1") is None
        with pytest.raises(KeyError):
            db["old1"]
        assert db.uuid == uuid
        db["new"] = 1
        assert len(db) == 1
        assert remote_objects(place) == before
        reader.pull()
        assert len(reader) == 20
        assert db.push()
        after = remote_objects(place)
        assert before.keys() <= after.keys()  # what readers of the old one still need
        reader.pull()
        assert dict(reader) == {"new": 1}
        db["second"] = 2
        assert db.push()  # an ordinary push: it wipes nothing
        assert not db.push()
    with place.open(file="cold", flag="r") as db:
        assert dict(db) == {"new": 1, "second": 2}


def watched(store: FaultyRemoteStore, look: Callable[[], object]) -> None:
    """Call `look` before each of the store's requests, but for those that it makes itself."""
    looking = False

    def once() -> None:
        nonlocal looking
        if not looking:
            looking = True
            look()
            looking = False

    store.add(StoreRule(StoreFault.DELAY, times=None, amount=0, then=once))


def test_n_shows_readers_the_old_or_the_new() -> None:
    """At every request of the push a cold reader sees one of the two, and the new one only last."""
    inner = MemoryRemoteStore()
    store = FaultyRemoteStore(inner)
    old = {f"old{n}": "x" * 200 for n in range(30)}
    new = {f"new{n}": "y" * 200 for n in range(30)}
    with ebooklet.open(store, None, "c", value_serializer="json") as db:
        db.update(old)
        db.push()
    with ebooklet.open(store, None, "n") as db:
        db.update(new)
        seen: list[dict[str, str]] = []

        def look() -> None:
            with ebooklet.open(inner, None) as reader:
                seen.append(dict(reader))

        watched(store, look)
        assert db.push()
        store.clear()
        look()
    assert len(seen) >= 3
    assert seen[-1] == new
    turned = seen.index(new)
    assert all(content == old for content in seen[:turned])
    assert all(content == new for content in seen[turned:])


def test_n_that_fails_commits_nothing() -> None:
    """Whichever request of the push fails, the old database stands or the new one; repeating works."""
    for skip in range(50):
        store = FaultyRemoteStore(MemoryRemoteStore())
        with ebooklet.open(store, None, "c", value_serializer="json") as db:
            db.update({f"old{n}": "x" * 200 for n in range(30)})
            db.push()
        with ebooklet.open(store, None, "n") as db:
            db["new"] = "y" * 200
            rule = store.add(StoreRule(StoreFault.DENY, skip=skip))
            with suppress(ebooklet.AccessDenied):
                db.push()
            store.clear()
            if not rule.struck:
                assert skip >= 2
                return
            with ebooklet.open(store, None) as reader:
                assert len(reader) == 30
            assert dict(db) == {"new": "y" * 200}
            assert db.push()
            with ebooklet.open(store, None) as reader:
                assert dict(reader) == {"new": "y" * 200}
    pytest.fail("a push has no end of requests")


def test_n_is_remembered(place: Place) -> None:
    """Unpushed, it survives a close: reopening under any flag says so, and a push still replaces."""
    with place.open() as db:
        db.update(REMOTE)
        db.push()
    with place.open(flag="n") as db:
        db["new"] = 1
    for flag in ("r", "w", "c"):
        with pytest.warns(UserWarning, match="flag 'n'"):
            db = place.open(flag=flag)
        assert dict(db) == {"new": 1}
        db.close()
    with pytest.warns(UserWarning, match="flag 'n'"):
        db = place.open(flag="w")
    with place.open(file="cold", flag="r") as reader:
        assert dict(reader) == REMOTE
    assert db.push()
    db.close()
    with place.open(flag="w") as db:
        assert dict(db) == {"new": 1}
    with place.open(file="cold", flag="r") as db:
        assert dict(db) == {"new": 1}


@pytest.mark.parametrize("how", ["the file", "file and folder", "discard"])
@WITHOUT_SERVER
def test_n_can_be_cancelled(place: Place, how: str) -> None:
    """By deleting the local file, and by `discard()`: the old database is there again."""
    with place.open() as db:
        db.update(REMOTE)
        db.push()
    with place.open(flag="n") as db:
        db["new"] = 1
        if how == "discard":
            db.discard()
            assert dict(db) == REMOTE
    path = place.path("a")
    assert path is not None
    if how != "discard":
        path.unlink()
    if how == "file and folder":
        folder = path.with_name("a.blt.ebk")
        for part in folder.iterdir():
            part.unlink()
        folder.rmdir()
    with place.open(flag="w") as db:
        assert dict(db) == REMOTE
        assert not db.push()


@WITHOUT_SERVER
def test_n_never_replaces_what_is_no_booklet(place: Place) -> None:
    """Somebody's notes at the path are left as they are."""
    path = place.path("a")
    assert path is not None
    path.write_bytes(b"notes, not a database" * 100)
    with pytest.raises(ebooklet.LocalFileError):
        place.open(flag="n")
    assert path.read_bytes() == b"notes, not a database" * 100


# A remote that is gone


@pytest.mark.parametrize("flag", ["w", "c"])
def test_a_remote_that_was_deleted_is_created_anew(place: Place, flag: Flag) -> None:
    """R no, L yes, of a database that once was pushed: what is stored here is pushed again."""
    with place.open(file="b") as db:
        db.update({"a": 1, "b": 2, "never fetched": 3})
        db.set_metadata({"m": 1})
        db.push()
        uuid = db.uuid
    with place.open(flag="w") as db:
        assert db.load_items(["a", "b"]) == {}
        db["mine"] = 4
        del db["b"]
    store, key = place.store()
    store.delete([key, f"{key}.alt", *(meta.key for meta in store.list(f"{key}.d/"))])
    store.close()
    with place.open(flag="r") as db:
        assert db["a"] == 1  # reading changes nothing
    with pytest.warns(UserWarning, match="is gone"):
        db = place.open(flag=flag)
    with db:
        assert db.uuid == uuid
        assert dict(db) == {"a": 1, "mine": 4}
        assert kinds(db) == {"a": "added", "mine": "added"}
        assert db.push()
        assert not db.push()
    with place.open(file="cold", flag="r") as db:
        assert dict(db) == {"a": 1, "mine": 4}
        assert db.get_metadata() == {"m": 1}


# Serializers and kinds


@pytest.mark.parametrize("there", ["remote", "local", "both"])
@WITHOUT_SERVER
def test_a_different_serializer_is_refused(place: Place, there: str) -> None:
    """An explicit one that is not the stored one is a `ValueError`; the same one, or none, is fine."""
    with place.open(file="a" if there != "remote" else "b", value_serializer="json") as db:
        db["a"] = 1
        if there != "local":
            db.push()
    for flag in FLAGS if there != "local" else ("r", "w", "c"):
        with pytest.raises(ValueError, match="serialised with 'json'"):
            place.open(flag=flag, value_serializer="orjson")
        if there == "remote":
            assert local_files(place) == {}
    for named in ("json", None):
        with place.open(flag="w", value_serializer=named) as db:
            assert dict(db) == {"a": 1}


@WITHOUT_SERVER
def test_creation_alone_obeys_its_options(place: Place) -> None:
    """`n_buckets` and `buffer_size` make a file; an existing one keeps its own."""
    with place.open(n_buckets=500, buffer_size=1000) as db:
        db["a"] = 1
    path = place.path("a")
    assert path is not None
    assert int.from_bytes(path.read_bytes()[21:25], "little") == 500
    with place.open(flag="w", n_buckets=9000) as db:
        db["b"] = 2
    assert int.from_bytes(path.read_bytes()[21:25], "little") == 500


@pytest.mark.parametrize("there", ["remote", "local", "both"])
@pytest.mark.parametrize("group", [False, True], ids=["database", "group"])
@WITHOUT_SERVER
def test_the_stored_kind_decides(place: Place, there: str, group: bool) -> None:
    """`remote_conn_group` matters where nothing exists yet; a factory refuses the other kind."""
    options: dict[str, Any] = {"remote_conn_group": group, "value_serializer": "json"}
    if group:
        del options["value_serializer"]
    with ebooklet.open(
        place.connect("db"), place.path("a" if there != "remote" else "b"), "c", **options
    ) as db:
        if there != "local":
            db.push()
    right: Callable[..., EBooklet[Any]] = ebooklet.open_rcg
    wrong: Callable[..., EBooklet[Any]] = ebooklet.open_ebooklet
    if not group:
        right, wrong = wrong, right
    files, objects = local_files(place), place.objects()
    for flag in FLAGS if there != "local" else ("r", "w", "c"):
        with pytest.raises(TypeError, match="open it with open_"):
            wrong(place.connect("db"), place.path("a"), flag)
        assert place.objects() == objects or there == "local"  # not even a lock was taken
    assert local_files(place).keys() == files.keys()
    for flag in ("r", "w", "c"):
        for said in (False, True):
            with ebooklet.open(
                place.connect("db"), place.path("a"), flag, remote_conn_group=said
            ) as db:
                assert isinstance(db, ebooklet.RemoteConnGroup) == group
        with right(place.connect("db"), place.path("a"), flag) as db:
            assert isinstance(db, ebooklet.RemoteConnGroup) == group


# Validation comes first


class Touched(FaultyRemoteStore):
    """A store that must not be touched."""


BAD: Final[dict[str, tuple[dict[str, Any], type[Exception]]]] = {
    **{f"flag {flag!r}": ({"flag": flag}, ValueError) for flag in ("x", "", "rw", None, 5, ["r"])},
    "no folder": ({"file_path": "missing/a.blt"}, FileNotFoundError),
    "a path that is none": ({"file_path": 5}, TypeError),
    **{f"offline {one!r}": ({"offline": one}, ValueError) for one in ("yes", 1, 0, None)},
    **{
        f"offline to write {flag}": ({"offline": True, "flag": flag}, ValueError)
        for flag in ("w", "c", "n")
    },
    "lock": ({"lock": "padlock"}, ValueError),
    "lock_timeout": ({"lock_timeout": -1}, ValueError),
    "lock_timeout nan": ({"lock_timeout": float("nan")}, ValueError),
    "lock_timeout text": ({"lock_timeout": "long"}, TypeError),
    "n_buckets": ({"n_buckets": 0}, ValueError),
    "n_buckets text": ({"n_buckets": "many"}, TypeError),
    "buffer_size": ({"buffer_size": -1}, ValueError),
    "conflict": ({"conflict": "mine"}, ValueError),
    "local": ({"local": "papyrus"}, ValueError),
    **{f"group_bytes {one!r}": ({"group_bytes": one}, ValueError) for one in (0, -5, 1 << 32)},
    **{f"group_bytes {one!r}": ({"group_bytes": one}, TypeError) for one in ("32M", 1.5, True)},
    "push_packers": ({"push_packers": 0}, ValueError),
    "push_packers text": ({"push_packers": "two"}, TypeError),
    "num_groups": ({"num_groups": 5}, ValueError),
    "unknown option": ({"colour": "red"}, TypeError),
}


@pytest.mark.parametrize("bad", BAD)
@FACTORIES
def test_validation_comes_first(
    tmp_path: Path, factory: Callable[..., EBooklet[Any]], bad: str
) -> None:
    """A wrong argument is said before any file, lock or request."""
    store = FaultyRemoteStore(MemoryRemoteStore())
    options, error = BAD[bad]
    chosen: dict[str, Any] = {"file_path": "a.blt", "flag": "c", **options}
    if isinstance(chosen["file_path"], str):
        chosen["file_path"] = tmp_path / chosen["file_path"]
    if "offline" in chosen and chosen["offline"] is not True:
        chosen["flag"] = "r"
    with pytest.raises(error):
        factory(store, **chosen)
    assert store.calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("remote_conn", "error"),
    [
        (5, TypeError),
        (object(), TypeError),
        ("not a url", ValueError),
        ("gopher://somewhere/db", ValueError),
        ({"db_key": "db"}, ValueError),
        ({"remote_conn": 5}, TypeError),
        ({"access_key_id": "i", "colour": "red"}, TypeError),
        ("http://127.0.0.1:9/db", ValueError),  # read only: any other flag is refused
    ],
)
def test_a_connection_that_is_none(
    tmp_path: Path, remote_conn: object, error: type[Exception]
) -> None:
    """Anything but a connection, a URL, a dict or a store is refused, before anything is made."""
    with pytest.raises(error):
        ebooklet.open(remote_conn, tmp_path / "a.blt", "c")  # type: ignore[call-overload]  # wrong on purpose
    assert list(tmp_path.iterdir()) == []


def test_a_group_has_no_serializer(tmp_path: Path) -> None:
    """`open_rcg` does not know the parameter: groups hold JSON."""
    with pytest.raises(TypeError, match="value_serializer"):
        ebooklet.open_rcg("memory://g", tmp_path / "a.blt", "c", value_serializer="json")  # type: ignore[call-arg]  # wrong on purpose
    assert list(tmp_path.iterdir()) == []


@FACTORIES
@WITHOUT_SERVER
def test_the_options_of_0_11(place: Place, factory: Callable[..., EBooklet[Any]]) -> None:
    """All of them are accepted, by all three functions."""
    options: dict[str, Any] = {
        "group_bytes": 8 << 20,
        "push_packers": 4,
        "num_groups": None,
        "lock_timeout": 20,
        "force_lock": False,
    }
    with factory(place.connect("db"), place.path("a"), "c", offline=False, **options) as db:
        assert db.group_bytes == 8 << 20
        db.push()
    with factory(place.connect("db"), place.path("a"), "r", offline="auto") as db:
        assert db.group_bytes == ebooklet.DEFAULT_GROUP_BYTES
        assert not db.offline
    with factory(place.connect("db"), place.path("a"), offline=True) as db:
        assert db.offline


@pytest.mark.parametrize("flag", FLAGS)
@WITHOUT_SERVER
def test_a_storage_mode_that_cannot_be(place: Place, flag: Flag) -> None:
    """`group_bytes=None` warns, and with n over an existing remote raises, before anything is done."""
    with place.open() as db:
        db.update(REMOTE)
        db.push()
    objects, files = place.objects(), local_files(place)
    if flag == "n":
        with pytest.raises(ValueError, match="group_bytes"):
            place.open(flag=flag, group_bytes=None)
        assert (remote_objects(place), local_files(place)) == (
            {key: body for key, body in objects.items() if ".lock" not in key},
            files,
        )
        with pytest.warns(UserWarning, match="group_bytes"):
            place.open("new", file="new", flag="n", group_bytes=None).close()
        return
    with pytest.warns(UserWarning, match="group_bytes"):
        db = place.open(flag=flag, group_bytes=None)
    assert db.group_bytes == ebooklet.DEFAULT_GROUP_BYTES
    assert dict(db) == REMOTE
    db.close()


# Failures


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An endpoint where nobody listens: the port is held, so that nobody will."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.timeout(15)
@pytest.mark.parametrize("flag", FLAGS)
def test_an_unreachable_endpoint(dead_url: str, tmp_path: Path, flag: Flag) -> None:
    """It fails within 15 s, with the transport error, and leaves nothing behind."""
    connection = ebooklet.S3Connection("AKID", "secret", "db", "bucket", endpoint_url=dead_url)
    with pytest.raises(ebooklet.RemoteUnavailable) as caught:
        ebooklet.open(connection, tmp_path / "a.blt", flag)
    assert isinstance(caught.value, ConnectionError)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(15)
def test_an_unreachable_url(dead_url: str, tmp_path: Path) -> None:
    """The same, for a reader by URL."""
    with pytest.raises(ebooklet.RemoteUnavailable):
        ebooklet.open(f"{dead_url}/db", tmp_path / "a.blt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [StoreFault.DENY, StoreFault.REFUSE, StoreFault.LOSE_ANSWER])
@pytest.mark.parametrize("column", ["R no, L no", "R no, L yes", "R yes, L no", "R yes, L same"])
@pytest.mark.parametrize("flag", FLAGS)
def test_an_open_that_fails_leaves_nothing_locked(
    tmp_path: Path, flag: Flag, column: str, fault: StoreFault
) -> None:
    """Whichever of its requests fails, the lock is free afterwards, and the file opens."""
    if SEEN[flag, column] is ebooklet.RemoteMissingError:
        flag = "c"
    for skip in range(20):
        folder = tmp_path / str(skip)
        folder.mkdir()
        store = FaultyRemoteStore(MemoryRemoteStore())
        place = Place("faulty", folder, lambda _, store=store: store)  # type: ignore[misc]  # a lambda's default has no type
        COLUMNS[column](place, Halves())
        rule = store.add(StoreRule(fault, skip=skip))
        db = None
        with suppress(ebooklet.EBookletError):
            db = place.open(flag=flag)
        store.clear()
        if db is not None:
            db.close()
        with warnings.catch_warnings():  # an `n` that is pending is told of
            warnings.simplefilter("ignore")
            db = place.open(flag="c", lock_timeout=0)
        with db:
            assert flag == "n" or dict(db) == SEEN["c", column]
        if not rule.struck:
            assert skip >= 1
            return
    pytest.fail("an open has no end of requests")


def test_a_failure_after_the_lock_was_taken_frees_it(tmp_path: Path) -> None:
    """Also one of the local half: here the file belongs to somebody else's database."""
    store = FaultyRemoteStore(MemoryRemoteStore())
    with ebooklet.open(store, None, "c") as db:
        db.push()
    ebooklet.open(None, tmp_path / "a.blt", "c").close()
    store.calls.clear()
    with pytest.raises(ebooklet.UUIDMismatchError):
        ebooklet.open(store, tmp_path / "a.blt", "w")
    assert "db.lock" in {call.key for call in store.calls}
    ebooklet.open(store, tmp_path / "b.blt", "w", lock_timeout=0).close()
    ebooklet.open(None, tmp_path / "a.blt", "w", lock_timeout=0).close()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_that_was_passed_in_stays_open(tmp_path: Path, kind: str) -> None:
    """Only what an open opened is closed with the handle, or when the open fails."""
    store = FaultyRemoteStore(MemoryRemoteStore())
    local = (
        open_in_memory(value_serializer="json")
        if kind == "memory"
        else open_file(tmp_path / "x.blt", clock=SystemClock(), value_serializer="json")
    )
    with ebooklet.open(store, None, "c") as other:
        other.push()
    with pytest.raises(ebooklet.UUIDMismatchError):
        ebooklet.open(store, None, "w", local=local)
    local.set("k", b"1", 1)
    with ebooklet.open(None, None, "w", local=local) as db:
        assert db["k"] == 1
    assert local.get("k") == b"1"
    with ebooklet.open(None, None, "n", local=local) as db:
        assert len(db) == 0
    assert local.get("k") is None
    local.change_mode("read", timeout=1)
    with pytest.raises(ebooklet.ReadOnlyError):
        ebooklet.open(None, None, "w", local=local)
    with ebooklet.open(None, None, "r", local=local) as db:
        assert len(db) == 0
    local.close()


# Readers and writers of one path

READER: Final = """
import pickle, sys
import ebooklet
connection, path = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2]
say = lambda *words: print(*words, flush=True)
with ebooklet.open(connection, path) as db:
    say("opened", len(db))
    for line in sys.stdin:
        say("read", sum(db.values()), len(db))
"""


@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_any_number_of_readers_and_a_writer(place: Place) -> None:
    """Five processes open one path at once, where there is no file yet, and stay; a writer gets in."""
    import pickle

    with place.open(file="b") as db:
        db.update({f"k{n}": n for n in range(50)})
        db.push()
    argv = [sys.executable, "-W", "error", "-c", READER, pickle.dumps(place.connect("db")).hex()]
    with ExitStack() as stack:
        readers = [
            stack.enter_context(
                subprocess.Popen(
                    [*argv, str(place.path("a"))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(5)
        ]
        for asked, expected in (("", "opened 50"), ("\n", "read 1225 50"), ("\n", "read 1275 51")):
            if expected == "read 1275 51":
                with place.open(flag="w", lock_timeout=30) as db:
                    db["k50"] = 50
                    db.push()
            answers = []
            for reader in readers:
                assert reader.stdin is not None
                reader.stdin.write(asked)
                reader.stdin.flush()
            for reader in readers:
                assert reader.stdout is not None
                answers.append(reader.stdout.readline().strip())
            assert answers == [expected] * 5
        for reader in readers:
            _, err = reader.communicate(timeout=60)
            assert (reader.returncode, err) == (0, "")


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_readers_do_not_disturb_each_other(place: Place, pending: bool) -> None:
    """What one stores of what it fetched ends nobody's iteration; a new key does."""
    with place.open(file="b") as db:
        db.update({f"k{n:03}": "x" * 200 for n in range(300)})
        db.push()
    if pending:
        with place.open(flag="w") as db:
            db.update({"k007": "mine", "mine": "mine"})
    with place.open(flag="r") as one, place.open(flag="r") as two:
        begun = [iter(one), iter(one.items()), one.timestamps()]
        for iterator in begun:
            next(iterator)
        assert two.load_items() == {}  # it became the writer for a moment
        for iterator in begun:
            assert len(list(iterator)) == 299 + pending
        begun = [iter(one), iter(one.items()), one.timestamps()]
        for iterator in begun:
            next(iterator)
        with place.open(flag="w", lock_timeout=20) as db:
            db["new"] = "new"
        assert one["new"] == "new"
        assert len(one) == len(list(one)) == 301 + pending
        for iterator in begun:
            with pytest.raises(RuntimeError):
                list(iterator)
        assert len(two) == len(list(two)) == 301 + pending
