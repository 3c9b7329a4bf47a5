"""CONTRACT §4: what an open database says of itself, how it ends, and what survives its end.

A SIGKILL between any two steps of the local store is the matter of tests/adapters/local/test_kills.py,
one inside rounds of writes and pushes that of tests/services/test_crashes.py; here it meets whole
operations of an open database.
"""

from __future__ import annotations

import gc
import inspect
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, KeysView, ValuesView
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

import ebooklet
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import open_store as open_file
from ebooklet.adapters.local.memory import open_store as open_in_memory
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.ports.local_store import LocalStore
from ebooklet.services.request import Flag
from ebooklet.testing.children import in_child
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.adapters.local.test_kills import kill_before, number_of_calls
from tests.contract.conftest import Place

pytestmark = pytest.mark.usefixtures("lean_processes")

WITHOUT_SERVER: Final = pytest.mark.parametrize("place", ["memory"], indirect=True)


def kinds(db: EBooklet[Any]) -> dict[str, str]:
    """What is pending: "added", "modified" or "deleted", by key."""
    return {change["key"]: change["kind"] for change in db.changes()}


@pytest.fixture
def store() -> FaultyRemoteStore:
    """A remote that notes every request and fails as told, with one commit in it."""
    store = FaultyRemoteStore(MemoryRemoteStore())
    with ebooklet.open(store, None, "c", value_serializer="json") as db:
        db.update({"a": 1, "b": 2})
        db.push()
    store.calls.clear()
    return store


# Attributes


@WITHOUT_SERVER
def test_attributes(place: Place) -> None:
    """`writable`, `type`, `lock`, `group_bytes`, `offline` and `uuid`, of a writer and a reader."""
    with place.open() as db:
        db["a"] = 1
        db.push()
        uuid = db.uuid
        assert (db.writable, db.offline, db.type) == (True, False, "EVariableLengthValue")
        assert db.lock is not None
        assert db.group_bytes == ebooklet.DEFAULT_GROUP_BYTES
    with place.open(file="b", flag="r") as db:
        assert (db.writable, db.offline, db.lock, db.uuid) == (False, False, None, uuid)
    for name in ("writable", "type", "lock", "group_bytes", "offline", "uuid"):
        getattr(db, name)  # also after the close
        with pytest.raises(AttributeError):
            setattr(db, name, None)


# sync and close


def test_sync_and_close_move_nothing(store: FaultyRemoteStore, tmp_path: Path) -> None:
    """`sync` makes no request; `close` releases the lock, pushes nothing, and is idempotent."""
    head = store.inner.get("db").body
    db = ebooklet.open(store, tmp_path / "a.blt", "w")
    db["a"] = 10
    store.calls.clear()
    db.sync()
    db.sync(force_shutdown=True)
    assert store.calls == []
    db.close()
    assert {call.key for call in store.calls} == {"db.lock"}
    store.calls.clear()
    db.close()
    db.close(force_shutdown=True)
    db.sync()
    assert store.calls == []
    assert store.inner.get("db").body == head


def test_what_is_pending_survives_a_close(place: Place) -> None:
    """Sets, deletions and metadata are there, pending, in a later session, which pushes them."""
    with place.open() as db:
        db.update({"a": 1, "b": 2, "c": 3})
        assert db.push()
    with place.open(flag="w") as db:
        db["a"] = 10
        db["d"] = 4
        del db["b"]
        db.set_metadata({"m": 1})
    with place.open(flag="r") as db:
        assert kinds(db) == {"a": "modified", "b": "deleted", "d": "added"}
        assert dict(db) == {"a": 10, "c": 3, "d": 4}
    with place.open(flag="w") as db:
        assert kinds(db) == {"a": "modified", "b": "deleted", "d": "added"}
        assert db.push()
    with place.open(file="b", flag="r") as db:
        assert dict(db) == {"a": 10, "c": 3, "d": 4}
        assert db.get_metadata() == {"m": 1}


@WITHOUT_SERVER
def test_an_error_inside_with(place: Place) -> None:
    """It closes the database, keeps what was written before it, pushes nothing, frees the lock."""

    def fail() -> None:
        with place.open() as db:
            db["before"] = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(ebooklet.RemoteMissingError):
        place.open(file="b", flag="r")
    with place.open(flag="w", lock_timeout=0) as db:
        assert kinds(db) == {"before": "added"}


@WITHOUT_SERVER
def test_a_missing_key_closes_nothing(place: Place) -> None:
    """`KeyError` of a lookup, caught inside `with`, leaves the handle open."""
    with place.open() as db:
        with pytest.raises(KeyError):
            db["missing"]
        db["a"] = 1
        assert db["a"] == 1


# reopen


def test_reopen_changes_the_mode_in_place(place: Place) -> None:
    """The handle gives its locks back and takes them again; what is pending and its views stay."""
    with place.open() as db:
        db.update({"a": 1, "b": 2})
        db.push()
    with place.open() as db, place.open(file="b", lock="optimistic") as other:
        db["mine"] = 3
        keys, changes = db.keys(), db.changes()
        db.reopen("r")
        assert (db.writable, db.lock) == (False, None)
        for refused in (
            lambda: db.__setitem__("a", 0),
            lambda: db.__delitem__("a"),
            lambda: db.set("a", 0),
            lambda: db.update({"a": 0}),
            db.push,
            changes.push,
        ):
            with pytest.raises(ebooklet.ReadOnlyError):
                refused()
        assert dict(db) == {"a": 1, "b": 2, "mine": 3}
        assert list(keys) == ["a", "b", "mine"]
        assert kinds(db) == {"mine": "added"}
        with place.open(file="a", flag="w", lock_timeout=20) as third:  # both locks are free
            third["third"] = 4
        other.pull()
        other["theirs"] = 5
        other.push()
        db.reopen("w")
        assert db.writable
        assert db.lock is not None
        expected = {"a": 1, "b": 2, "mine": 3, "theirs": 5, "third": 4}
        assert dict(db) == expected
        assert list(keys) == sorted(expected)
        with pytest.raises(TimeoutError):
            place.open(file="c", flag="w", lock_timeout=0)
        assert changes.push()
        db.reopen("w")  # nothing to do
        assert not kinds(db)
    with place.open(file="c", flag="r") as db:
        assert dict(db) == expected


@pytest.mark.parametrize("local", ["memory", "built in memory", "built on disk"])
def test_reopen_keeps_any_local_half(store: FaultyRemoteStore, tmp_path: Path, local: str) -> None:
    """One in memory, or built by the caller, is the same one afterwards, with all its data."""
    built: LocalStore | None = None
    if local == "built in memory":
        built = open_in_memory(value_serializer="json", uuid=uuid_of(store))
    elif local == "built on disk":
        built = open_file(
            tmp_path / "x.blt", clock=SystemClock(), value_serializer="json", uuid=uuid_of(store)
        )
    options: dict[str, Any] = {} if built is None else {"local": built}
    with ebooklet.open(store, None, "w", **options) as db:
        db["mine"] = 3
        assert db["a"] == 1
        for flag in ("r", "w", "r", "w"):
            db.reopen(flag)
            assert db.writable == (flag == "w")
            assert dict(db) == {"a": 1, "b": 2, "mine": 3}
            assert kinds(db) == {"mine": "added"}
        assert db.push()
    if built is not None:
        assert built.get("mine") == b"3"
        built.close()


def uuid_of(store: FaultyRemoteStore) -> Any:
    with ebooklet.open(store, None, "r") as db:
        return db.uuid


def test_reopen_to_read_needs_no_network(store: FaultyRemoteStore, tmp_path: Path) -> None:
    """It asks for nothing but the lock's release, and succeeds where even that fails."""
    with ebooklet.open(store, tmp_path / "a.blt", "w") as db:
        db["mine"] = 3
        db["a"] = 10
        store.calls.clear()
        db.reopen("r")
        assert {call.key for call in store.calls} == {"db.lock"}
        db.reopen("w")
        store.add(StoreRule(StoreFault.REFUSE, times=None))
        db.reopen("r")
        assert not db.writable
        assert (db["a"], db["mine"]) == (10, 3)
        store.clear()


def test_reopen_that_fails_leaves_the_old_mode(store: FaultyRemoteStore, tmp_path: Path) -> None:
    """At whatever request it fails, the reader goes on, and no lock is left behind."""
    with ebooklet.open(store, tmp_path / "a.blt", "r") as db:
        store.calls.clear()
        db.reopen("w")
        n_requests = len(store.calls)
        db.reopen("r")
        assert n_requests >= 2
        for skip in range(n_requests):
            rule = store.add(StoreRule(StoreFault.DENY, skip=skip, times=1))
            with pytest.raises(ebooklet.AccessDenied):
                db.reopen("w")
            assert rule.struck == 1
            store.clear()
            assert (db.writable, db.lock) == (False, None)
            assert dict(db) == {"a": 1, "b": 2}
            with pytest.raises(ebooklet.ReadOnlyError):
                db["a"] = 5
            ebooklet.open(store, tmp_path / "a.blt", "w", lock_timeout=3).close()
        db.reopen("w")
        db["a"] = 5
        assert db.push()


@pytest.mark.parametrize("held", ["remote lock", "local file"])
def test_reopen_that_waits_in_vain(place: Place, held: str) -> None:
    """`LockTimeout` names the holder; the handle is a reader still, and may try again."""
    with place.open() as db:
        db["a"] = 1
        db.push()
    with place.open(file="b", flag="r", lock_timeout=0.3) as db:
        if held == "remote lock":
            holder = place.open(flag="w")
        else:
            holder = ebooklet.open(None, place.path("b"), "w")
        with pytest.raises(ebooklet.LockTimeout, match="process"):
            db.reopen("w")
        assert (db.writable, db.lock) == (False, None)
        holder.close()
        assert db["a"] == 1
        db.reopen("w")
        db["a"] = 2
        assert db.push()


@WITHOUT_SERVER
def test_reopen_takes_r_and_w_only(place: Place) -> None:
    """Anything else is a `ValueError`, and so is a handle that is closed."""
    with place.open() as db:
        for flag in ("c", "n", "", "rw", None, 1):
            with pytest.raises(ValueError, match="flag"):
                db.reopen(flag)  # type: ignore[arg-type]  # wrong on purpose
        db["a"] = 1
        db.push()
    with pytest.raises(ValueError, match="closed"):
        db.reopen("r")
    group = ebooklet.open_rcg(place.connect("group"), None, "c")
    group.reopen("r")
    assert not group.writable
    group.close()


@WITHOUT_SERVER
def test_reopen_finds_what_plain_booklet_did(place: Place) -> None:
    """Edits made in the file while the handle read it are pending once it writes."""
    import booklet

    with place.open() as db:
        db.update({"a": 1, "b": 2})
        db.push()
    with place.open(flag="r") as db:
        assert db["a"] == 1
        with booklet.open(place.path("a"), "w") as file:
            file["a"] = 10
            del file["b"]
        db.reopen("w")
        assert kinds(db) == {"a": "modified", "b": "deleted"}


@WITHOUT_SERVER
def test_reopen_during_a_push(place: Place) -> None:
    """A push under way is not cut off: `PushInProgressError`."""
    store = FaultyRemoteStore(place.store()[0])
    with ebooklet.open(store, None, "c", value_serializer="json") as db:
        db["a"] = 1
        refused: list[BaseException] = []

        def reopen() -> None:
            try:
                db.reopen("r")
            except ebooklet.PushInProgressError as error:
                refused.append(error)

        def in_a_thread() -> None:
            thread = threading.Thread(target=reopen)
            thread.start()
            thread.join()

        store.add(StoreRule(StoreFault.DELAY, op="put", key="db", amount=0, then=in_a_thread))
        assert db.push()
        assert len(refused) == 1
        assert db.writable


@WITHOUT_SERVER
def test_threads_writing_while_it_is_reopened_lose_nothing(place: Place) -> None:
    """Each write either raises `ReadOnlyError` or is pending afterwards."""
    with place.open(lock="optimistic") as db:
        done: list[str] = []
        stop = threading.Event()

        def write(name: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    db[f"{name}/{number}"] = number
                except ebooklet.ReadOnlyError:
                    continue
                done.append(f"{name}/{number}")

        threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(15):
            db.reopen("r")
            assert set(kinds(db)) == set(db)
            db.reopen("w")
        stop.set()
        for thread in threads:
            thread.join()
    with place.open(flag="r") as db:
        assert set(kinds(db)) == set(done) == set(db)


# After close

ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "add": (ebooklet.S3Connection(db_url="http://127.0.0.1:9/db"),),
    "copy_remote": ("memory://elsewhere",),
    "get_items": (["a"],),
    "map": (len,),
    "pop": ("a",),
    "reopen": ("r",),
    "set_metadata": ({},),
    "set_timestamp": ("a", 1),
    "update": ({"a": 1},),
}
ALLOWED_AFTER_CLOSE: Final = {"close", "sync"}
DUNDERS: Final[dict[str, tuple[Any, ...]]] = {
    "__getitem__": ("a",),
    "__setitem__": ("a", 1),
    "__delitem__": ("a",),
    "__contains__": ("a",),
    "__iter__": (),
    "__len__": (),
    "__eq__": ({},),
}


def public_methods(thing: object) -> Iterator[str]:
    for name in dir(type(thing)):
        if not name.startswith("_") and inspect.isroutine(getattr(type(thing), name)):
            yield name


def used(thing: object, name: str, arguments: tuple[Any, ...] | None) -> object:
    """Call a method, with made-up arguments where none are given, and exhaust what it returns."""
    method = getattr(thing, name)
    if arguments is None:
        parameters = inspect.signature(method).parameters.values()
        required = [
            p for p in parameters if p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD
        ]
        arguments = tuple("a" for _ in required)
    result = method(*arguments)
    if isinstance(result, Iterator):
        return list(result)
    return result


def refuses(use: Callable[[], object]) -> bool:
    """Whether the use of something closed is refused as such."""
    try:
        use()
    except ValueError as error:
        return "closed" in str(error)
    return False


@pytest.mark.parametrize("flag", ["r", "w"])
@pytest.mark.parametrize("group", [False, True], ids=["database", "group"])
@WITHOUT_SERVER
def test_after_close_every_method_refuses(place: Place, flag: Flag, group: bool) -> None:
    """`ValueError` from every public method, view, change and iterator; not from attributes."""
    with place.open(remote_conn_group=group, value_serializer=None if group else "json") as db:
        db.push()
    db = place.open(flag=flag)
    assert isinstance(db, ebooklet.RemoteConnGroup) == group
    views = (db.keys(), db.values(), db.items(), db.keys("a"), db.items(start="a"))
    changes = db.changes()
    db.close()
    uses: dict[str, Callable[[], object]] = {
        name: partial(used, db, name, ARGUMENTS.get(name))
        for name in public_methods(db)
        if name not in (*ALLOWED_AFTER_CLOSE, "keys", "values", "items")
    }
    uses |= {name: partial(used, db, name, arguments) for name, arguments in DUNDERS.items()}
    for view in (*views, db.keys(), db.values(), db.items()):
        uses |= {f"len {view}": partial(len, view), f"list {view}": partial(list, view)}
        if not isinstance(view, ValuesView):
            sought = "a" if isinstance(view, KeysView) else ("a", 1)
            uses[f"in {view}"] = partial(view.__contains__, sought)
    uses |= {
        f"changes().{name}": partial(used, changes, name, None) for name in public_methods(changes)
    }
    uses |= {f"{use} changes": partial(use, changes) for use in (len, list, bool)}
    unrefused = [name for name, use in uses.items() if not refuses(use)]
    assert unrefused == []
    assert len(uses) > 50
    assert "closed" in repr(db)
    assert repr(changes)
    db.sync()
    db.close()


@WITHOUT_SERVER
def test_iterators_end_with_the_handle(place: Place) -> None:
    """An iterator that was begun before the close raises `ValueError` at its next step."""
    with place.open() as db:
        db.update({f"k{n:02}": n for n in range(40)})
        db.push()
    for file in ("a", "cold"):
        db = place.open(file=file, flag="r")
        begun: list[Iterator[object]] = [
            *(iter(db), iter(db.keys("k")), iter(db.values()), iter(db.items())),
            *(db.timestamps(), db.timestamps(include_value=True), db.get_items(list(db))),
        ]
        for iterator in begun:
            next(iterator)
        db.close()
        for iterator in begun:
            with pytest.raises(ValueError, match="closed"):
                list(iterator)


# Handles that nobody closes

LOSER: Final = """
import pickle, sys
import ebooklet
connection = pickle.loads(bytes.fromhex(sys.argv[1]))
db = ebooklet.open(connection, sys.argv[2], "w")
db["lost"] = 1
if sys.argv[3] == "raise":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("way", ["return", "raise"])
@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_a_handle_lost_at_exit_frees_the_lock(place: Place, way: str) -> None:
    """On a server, where the lock is an object that only its holder can give back in time."""
    import pickle

    with place.open() as db:
        db.push()
    argv = [sys.executable, "-W", "error", "-c", LOSER, pickle.dumps(place.connect("db")).hex()]
    done = subprocess.run(
        [*argv, str(place.path("a")), way], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (3 if way == "raise" else 0, "")
    with place.open(flag="w", lock_timeout=5) as db:
        assert kinds(db) == {"lost": "added"}


@pytest.mark.parametrize("place", ["memory", "moto"], indirect=True)
@pytest.mark.parametrize("reopened", [False, True])
def test_a_dropped_handle_frees_the_lock(place: Place, reopened: bool) -> None:
    """The garbage collector's turn is as good as a close, whatever the modes before."""
    db = place.open()
    if reopened:
        db.reopen("r")
        db.reopen("w")
    db["dropped"] = 1
    del db
    gc.collect()
    with place.open(flag="w", lock_timeout=5) as db:
        assert kinds(db) == {"dropped": "added"}


# Kills

N_KEYS: Final = 60
POINTS: Final = 5  # kills of each operation


def fill(db: EBooklet[Any]) -> None:
    db.update({f"k{n:03}": n for n in range(N_KEYS)})


def grow(db: EBooklet[Any]) -> None:
    for number in range(2 * N_KEYS):  # past `n_buckets`
        db[f"new{number:03}"] = number


def overwrite_and_prune(db: EBooklet[Any]) -> None:
    fill(db)
    db.prune(timestamp=2**55)


def clear_and_fill(db: EBooklet[Any]) -> None:
    db.clear()
    fill(db)


def push_twice(db: EBooklet[Any]) -> None:
    db["new000"] = 0
    db.push()
    del db["k000"]
    db.push()


def change_modes(db: EBooklet[Any]) -> None:
    db["new000"] = 0
    db.reopen("r")
    db.reopen("w")
    db["new001"] = 1


OPERATIONS: Final[dict[str, Callable[[EBooklet[Any]], None]]] = {
    "grow": grow,
    "prune": overwrite_and_prune,
    "clear": clear_and_fill,
    "push": push_twice,
    "reopen": change_modes,
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_a_kill_during(place: Place, name: str, tmp_path: Path) -> None:
    """What was synced is there, the file opens in every mode, and `len` is what iteration yields."""
    operation = OPERATIONS[name]
    with place.open(n_buckets=70) as db:
        fill(db)
        db.push()
        db["synced"] = "yes"
        db.sync()
    before = tmp_path / "before"
    originals = [tmp_path / part for part in ("bucket", "a.blt", "a.blt.ebk")]
    before.mkdir()
    for original in originals:
        copy(original, before / original.name)
    with place.open(flag="w") as db:
        total = number_of_calls(lambda: operation(db))
    chance = random.Random(name)
    for point in range(POINTS):
        call = 1 + int(total * (point + chance.random()) / POINTS)
        for original in originals:
            copy(before / original.name, original)

        def work(call: int = call) -> None:
            db = place.open(flag="w")
            kill_before(call)
            operation(db)

        assert in_child(work) in (-signal.SIGKILL, 0), f"call {call} of {total}"
        for flag in ("r", "w", "c"):
            with warnings.catch_warnings():  # a clear that is pending is told of
                warnings.simplefilter("ignore")
                db = place.open(flag=flag, lock_timeout=10)
            with db:
                content = dict(db.items())
                assert len(db) == len(list(db)) == len(content)
                if name == "clear" and "synced" not in content:
                    assert set(content) <= {f"k{n:03}" for n in range(N_KEYS)}
                    continue
                assert content["synced"] == "yes"
                kept = {f"k{n:03}": n for n in range(1, N_KEYS)}
                assert kept.items() <= content.items()
                assert set(kinds(db)) <= set(content) | {"k000"}


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
