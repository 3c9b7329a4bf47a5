"""Section 6, its guarantees 1 to 8, each at every request of a push.

Each test names the changes of the library that it was shown to catch: they were made, seen to fail
here, and taken back.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import ebooklet
from ebooklet.adapters.locks.null import NullLockService
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head
from ebooklet.database import EBooklet
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, Manners, StoreFault, StoreRule
from tests.contract.conftest import Place

pytestmark = pytest.mark.filterwarnings("ignore:.*did not honour|.*fell back:UserWarning")

MODES = ("cas", "lock")
# Values and nodes in segments of their own, so that a commit takes several requests.
OLD = {"a": 1, "gone": "old" * 100, "version": "old", **{f"{n:03}": n for n in range(300)}}
NEW = {"a": 2, "new": "n" * 100, "version": "new", "x": "x" * 300_000, "y": "y" * 300_000} | {
    f"{n:03}": n + (n % 3 == 0) for n in range(300)
}


class Server(FaultyRemoteStore):
    """A server of its own, so that no other test's probe has judged it."""

    def __init__(self, inner: RemoteStore, **options: Any) -> None:
        super().__init__(inner, **options)
        self._own = f"memory://{uuid4().hex}"

    @property
    def endpoint(self) -> str:
        return self._own


class World:
    """A remote whose calls are scheduled, in either mode, with virtual time."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.mode = mode
        careless = mode == "lock"
        manners = Manners(ignores_if_absent=careless, ignores_if_match=careless)
        self.clock = ManualClock()
        self.store = Server(MemoryRemoteStore(), manners=manners, sleep=self.clock.sleep)

    def open(
        self, file: str | None = None, flag: Any = "w", store: Any = None, **options: Any
    ) -> EBooklet[Any]:
        """Open a local half on the remote, or on `store`; nobody waits for a lock."""
        if self.mode == "cas":
            options.setdefault("lock", "optimistic")
        else:
            options.setdefault("lock", NullLockService(self.clock))
        if flag in ("c", "n"):
            options["value_serializer"] = "json"
        path = None if file is None else self.folder / f"{file}.blt"
        return ebooklet.open(store or self.store, path, flag, clock=self.clock, **options)

    def n_calls(self, act: Callable[[], object]) -> int:
        """How many requests an act makes."""
        before = len(self.store.calls)
        act()
        return len(self.store.calls) - before

    def seen(self) -> dict[str, Any]:
        """What a reader sees who comes now, and whose requests all work."""
        with self.open(flag="r", store=self.store.inner) as reader:
            content = dict(reader.items())
            assert len(reader) == len(content) == len(list(reader))
            return content

    def copied(self, name: str) -> None:
        """Leave in the file `name` what a SIGKILL at this moment would leave of "a"."""
        shutil.copytree(self.folder / "a.blt.ebk", self.folder / f"{name}.blt.ebk")
        shutil.copy2(self.folder / "a.blt", self.folder / f"{name}.blt")


def decode(store: FaultyRemoteStore) -> Any:
    return decode_head(store.inner.get("db").body, key="db")


def prepare(db: EBooklet[Any]) -> None:
    """Make OLD into NEW, pending."""
    for key in OLD.keys() - NEW.keys():
        del db[key]
    db.update({key: value for key, value in NEW.items() if OLD.get(key) != value})
    assert dict(db.items()) == NEW


def pending(db: EBooklet[Any]) -> dict[str, str]:
    return {change["key"]: change["kind"] for change in db.changes()}


@pytest.fixture(params=MODES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """OLD is committed, and NEW is pending in the file "a"."""
    world = World(tmp_path, request.param)
    with world.open("a", "c") as db:
        db.update(OLD)
        assert db.push()
        assert decode(world.store).proto.mode == world.mode
        prepare(db)
    return world


@pytest.fixture
def changed(world: World) -> dict[str, str]:
    """What is pending in "a"."""
    with world.open("a", "r") as db:
        return pending(db)


@pytest.fixture
def n_requests(tmp_path_factory: pytest.TempPathFactory, world: World) -> int:
    """How many requests the push of NEW makes when all goes well."""
    other = World(tmp_path_factory.mktemp("count"), world.mode)
    with other.open("a", "c") as db:
        db.update(OLD)
        db.push()
        prepare(db)
        return other.n_calls(db.push)


# 1. One atomic commit.


def test_1_a_reader_sees_all_or_nothing(world: World, n_requests: int) -> None:
    """Readers who come at each request of a push see the old database whole, or the new one.

    Caught: the head moved before the segments are finished; deletions left out of the commit.
    """
    views: list[dict[str, Any]] = []
    world.store.add(
        StoreRule(StoreFault.DELAY, times=None, amount=0, then=lambda: views.append(world.seen()))
    )
    with world.open("a") as db:
        views.clear()
        assert db.push()
    views.append(world.seen())
    assert len(views) >= n_requests
    assert views[0] == OLD
    assert views[-1] == NEW
    assert all(view in (OLD, NEW) for view in views)
    # Once new, always new.
    assert [view == NEW for view in views] == sorted(view == NEW for view in views)


def test_1_readers_beside_a_writer_on_every_place(place: Place) -> None:
    """Each commit changes many keys to one version; nobody ever reads two versions together.

    Caught: the head moved before the segments are finished; one write id for
    all pushes of a handle.
    """
    keys = [f"{n:02}" for n in range(40)]
    with place.open() as db:
        db.update({key: [0, "x" * 200] for key in keys})
        db.push()
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        with place.open(file=None, flag="r") as reader:
            while True:
                last = done.is_set()
                content = dict(reader.items())
                versions = {value[0] for value in content.values()}
                assert len(versions) == 1
                assert sorted(content) == keys
                seen.update(versions)
                if last:
                    return
                reader.pull()

    with ThreadPoolExecutor(3) as pool, place.open(flag="w") as db:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for version in range(1, 9):
                db.update({key: [version, "x" * 200] for key in keys})
                assert db.push()
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert 8 in seen


# 2. and 3. Failures and crashes before the commit, and after it.


@dataclass(frozen=True)
class Outage:
    """From some request on, or at that one only, the store fails."""

    fault: StoreFault
    times: int | None

    def __str__(self) -> str:
        return f"{self.fault.name}-{'once' if self.times else 'on'}"


OUTAGES = [
    Outage(fault, times)
    for fault in (StoreFault.REFUSE, StoreFault.DENY, StoreFault.LOSE_ANSWER)
    for times in (1, None)
]


@pytest.mark.parametrize("outage", OUTAGES, ids=str)
def test_2_a_failure_at_any_request(
    world: World, tmp_path: Path, n_requests: int, changed: dict[str, str], outage: Outage
) -> None:
    """The remote stays readable, old or new; all is kept; repeating succeeds, in one more session too.

    Caught: pending changes settled although the push raised; the head moved before the segments;
    a head write refused five times taken for done; a head write that is not journalled.
    """
    for position in range(n_requests + 1):
        here = World(tmp_path / f"{position}", world.mode)
        here.folder.mkdir()
        with here.open("a", "c") as db:
            db.update(OLD)
            db.push()
            prepare(db)
            here.store.add(StoreRule(outage.fault, skip=position, times=outage.times))
            raised = False
            try:
                assert db.push()
            except ebooklet.Error:
                raised = True
            seen = here.seen()
            assert seen in (OLD, NEW)
            assert raised or seen == NEW
            assert dict(db.items()) == NEW
            here.store.clear()
            if raised:
                if seen == OLD:
                    assert pending(db) == changed
                here.copied("later")
                db.push()
            assert pending(db) == {}
            assert here.seen() == NEW
            assert not db.push().updated
            assert dict(db.items()) == NEW
            seq = decode(here.store).seq
        assert seq <= 3
        if raised:  # the same, had the process been killed then
            with here.open("later") as db:
                assert dict(db.items()) == NEW
                db.push()
                assert pending(db) == {}
            assert here.seen() == NEW


def test_3_a_kill_at_any_request(world: World, n_requests: int, changed: dict[str, str]) -> None:
    """What a killed push leaves: the old or the new database, all changes or none, no other trace.

    Caught: the journal emptied, or the new base written, before the head is moved; a head write
    that is not journalled.
    """
    moments: list[tuple[str, dict[str, bytes]]] = []
    alone = threading.Lock()  # segments are sent by several threads

    def note() -> None:
        with alone:
            name = f"killed-{len(moments)}"
            world.copied(name)
            inner = world.store.inner
            moments.append((name, {m.key: inner.get(m.key).body for m in inner.list("")}))

    with world.open("a") as db:
        world.store.add(StoreRule(StoreFault.DELAY, times=None, amount=0, then=note))
        assert db.push()
        note()
        world.store.clear()
    note()
    assert len(moments) >= n_requests + 2
    both = set()
    for name, objects in moments:
        restore(world.store, objects)
        seen = world.seen()
        assert seen in (OLD, NEW)
        with world.open(name, "r", store=world.store.inner) as reader:
            assert dict(reader.items()) == NEW
        with world.open(name) as db:
            assert dict(db.items()) == NEW
            assert len(db) == len(NEW)
            both.add((seen == NEW, pending(db) == changed))
            assert pending(db) in (changed, {})
            assert seen == NEW or pending(db) == changed
            db.push()
            assert pending(db) == {}
            assert not db.push().updated
        assert world.seen() == NEW
    assert (False, True) in both
    assert (True, False) in both


def restore(store: FaultyRemoteStore, objects: dict[str, bytes]) -> None:
    """Put the bucket back to what it held at a moment."""
    inner = store.inner
    inner.delete([meta.key for meta in inner.list("")])
    for key, body in objects.items():
        inner.put(key, body)


def test_3_leftovers_are_invisible(world: World) -> None:
    """Segments that no commit names change nothing that anybody reads, and hinder no push.

    Caught: pending changes settled although the push raised; a head write refused five times
    taken for done.
    """
    with world.open("a") as db:
        for _ in range(3):
            world.store.add(
                StoreRule(
                    StoreFault.REFUSE, op="put", key=lambda key: key in ("db", "db.alt"), times=None
                )
            )
            with pytest.raises(ebooklet.Error):
                db.push()
            world.store.clear()
        orphans = sum(".d/" in meta.key for meta in world.store.inner.list(""))
        assert world.seen() == OLD
        assert db.push()
        assert sum(".d/" in meta.key for meta in world.store.inner.list("")) > orphans
    assert world.seen() == NEW
    with world.open(flag="r") as reader:
        assert list(reader) == sorted(NEW)
        reader.load_items()
        assert dict(reader) == NEW


# 4. Only what the commit covered stops being pending.


def test_4_what_failed_stays_pending(world: World, changed: dict[str, str]) -> None:
    """A push whose uploads fail is never reported as done, however few of them fail.

    Caught: the failure of an upload swallowed; pending changes settled although the push raised.
    """
    with world.open("a") as db:
        n_puts = 0
        while True:
            rule = world.store.add(StoreRule(StoreFault.DENY, op="put", skip=n_puts))
            try:
                result = db.push()
            except ebooklet.Error:
                n_puts += 1
                assert rule.struck == 1
                assert world.seen() in (OLD, NEW)
                if world.seen() == OLD:
                    assert pending(db) == changed
            else:
                break
            finally:
                world.store.clear()
        assert n_puts >= 2
        assert result.failures == {}
        assert pending(db) == {}
    assert world.seen() == NEW


def test_4_what_was_set_meanwhile_stays_pending(world: World, n_requests: int) -> None:
    """Keys changed while the push was under way are pending after it, on top of it.

    Caught: everything settled that is pending when the answer comes; sets during a push not
    noted.
    """
    for position in range(n_requests):
        with world.open("a") as db:
            name = f"during/{position}"

            def meanwhile(db: EBooklet[Any] = db, name: str = name, n: int = position) -> None:
                db[name] = n
                db["a"] = n * 10

            db["version"] = f"new {position}"
            rule = StoreRule(StoreFault.DELAY, skip=position, amount=0, then=meanwhile)
            world.store.add(rule)
            db["x"], db["y"] = "x" * (300_000 + position), "y" * (300_000 + position)
            db.push()
            world.store.clear()
            left = pending(db)
            seen = world.seen()
            for key in (name, "a") if rule.struck else ():
                assert key in left or seen.get(key) == db[key]
            assert seen["version"] == f"new {position}"
            db.push()
            assert pending(db) == {}
            assert world.seen() == dict(db.items())


# 5. A writer whose lock was taken away cannot commit.


@pytest.mark.filterwarnings("default")
def test_5_a_lost_lock_stops_the_writer(place: Place) -> None:
    """LockLostError, nothing committed, changes kept; opened again, they are pushed.

    Caught: no look at the fence of the head that stands.
    """
    with place.open() as db:
        db.update(a=1, b=1)
        db.push()
    first = place.open(flag="w")
    first["a"] = "first"
    first.sync()
    with place.open(file="b", flag="w", force_lock=True) as second:
        for _ in range(2):
            with pytest.raises(ebooklet.LockLostError):
                first.push()
        assert pending(first) == {"a": "modified"}
        second["b"] = "second"
        assert second.push()
        with pytest.raises(ebooklet.LockLostError):
            first.push(force_push=True)
        assert first["a"] == "first"
    with place.open(file=None, flag="r") as reader:
        assert dict(reader) == {"a": 1, "b": "second"}
    with pytest.raises(ebooklet.LockLostError):
        first.push()
    first.close()
    with place.open(flag="w") as again:
        assert pending(again) == {"a": "modified"}
        assert again.push()
    with place.open(file=None, flag="r") as reader:
        assert dict(reader) == {"a": "first", "b": "second"}


def heads(place: Place) -> list[bytes]:
    """The head and its copy, as they are stored."""
    store, key = place.store()
    store.close()
    return [body for name, body in place.objects().items() if name in (key, f"{key}.alt")]


@pytest.mark.parametrize("place", ["file", "seaweedfs", "moto"], indirect=True)
def test_5_a_broken_lock_stops_the_writer(place: Place) -> None:
    """As soon as the holder learns of it, though nobody has committed since.

    Caught: no look at the lock, and none at the fence of the head; either alone is enough here.
    """
    with place.open() as db:
        db["a"] = 1
        db.push()
        db["a"] = 2
        with ebooklet.open_session(place.connect("db"), "w") as session:
            assert len(session.break_other_locks()) == 1
        before = heads(place)
        assert db.lock is not None
        with pytest.raises(ebooklet.LockLostError):
            db.lock.verify()
        for _ in range(2):
            with pytest.raises(ebooklet.LockLostError):
                db.push()
        assert pending(db) == {"a": "modified"}
        assert heads(place) == before
    with place.open() as again:
        assert again.push().n_set == 1


def test_5_under_the_ticket_lock(locked_place: Place) -> None:
    """The same where the lock is all there is: it is verified before the head is written.

    Caught: no verification of the lock before the head is written.
    """
    with locked_place.open() as db:
        db["a"] = 1
        db.push()
        db["a"] = "first"
        store, key = locked_place.store()
        tickets = [meta.key for meta in store.list(f"{key}.lock")]
        assert tickets
        store.delete(tickets)  # what a breaker does
        store.close()
        with pytest.raises(ebooklet.LockLostError):
            db.push()
        assert pending(db) == {"a": "modified"}
    with locked_place.open(file=None, flag="r") as reader:
        assert dict(reader) == {"a": 1}


# 6. Readers do not push, and a failed commit is never reported as done.


def test_6_readers_and_strangers_do_not_push(place: Place) -> None:
    """ReadOnlyError, which is a ValueError, from a reader's handle; and without credentials at open.

    Caught: push without a look at the mode.
    """
    with place.open() as db:
        db["a"] = 1
        db.push()
    before = place.objects()
    with place.open(flag="r") as reader:
        for push in (
            reader.push,
            lambda: reader.push(force_push=True),
            lambda: reader.changes().push(),
        ):
            with pytest.raises(ebooklet.ReadOnlyError) as error:
                push()
            assert isinstance(error.value, ValueError)
    connection = place.connect("db")
    if isinstance(connection, ebooklet.S3Connection):
        url = f"{connection.endpoint_url}/{connection.bucket}/{connection.db_key}"
        for anonymous in (url, ebooklet.S3Connection(db_url=url), {"db_url": url}):
            for flag in ("w", "c", "n"):
                with pytest.raises(ValueError):
                    ebooklet.open(anonymous, place.path("b"), flag)
        assert not (place.folder / "b.blt").exists()
    assert place.objects() == before


# 7. The last state before a push counts.

STEPS: dict[str, Callable[[EBooklet[Any]], object]] = {
    "set": lambda db: db.set("k", "set"),
    "del": lambda db: db.pop("k", None),
    "old": lambda db: db.set("k", "old"),
    "close": lambda db: db.sync(),
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("last", ["set", "del", "old"])
@pytest.mark.parametrize("middle", ["set", "del", "close"])
@pytest.mark.parametrize("first", ["set", "del", "old"])
def test_7_the_last_state_is_pushed(
    tmp_path: Path, first: str, middle: str, last: str, known: bool
) -> None:
    """Whatever came before, over a close too, in one commit.

    Caught: a deletion kept beside a set of the same key; a set kept beside a deletion of it.
    """
    world = World(tmp_path, "cas")
    with world.open("a", "c") as db:
        db["other"] = 1
        if known:
            db["k"] = "old"
        db.push()
        STEPS[first](db)
        STEPS[middle](db)
    with world.open("a") as db:
        STEPS[last](db)
        expected = {"set": "set", "del": None, "old": "old"}[last]
        assert db.get("k") == expected
        db.push()
        assert pending(db) == {}
    assert world.seen().get("k") == expected
    assert world.seen()["other"] == 1
    assert decode(world.store).seq <= 2


# 8. Data written by another thread during a push.

MEANWHILE: dict[str, Callable[[EBooklet[Any]], object]] = {
    "a new key": lambda db: db.set("meanwhile", 1),
    "a pushed key": lambda db: db.set("a", "again"),
    "a pushed key deleted": lambda db: db.pop("a", None),
    "a deleted key set": lambda db: db.set("gone", "back"),
    "a large key": lambda db: db.set("x", "short"),
    "a new key deleted": lambda db: db.pop("new", None),
    "an old key deleted": lambda db: db.pop("001", None),
    "a timestamp": lambda db: "002" in db and db.set_timestamp("002", 5),
    "metadata": lambda db: db.set_metadata("meanwhile"),
    "sync": lambda db: (db.set("meanwhile", 2), db.sync()),
    "sync after del": lambda db: (db.pop("a", None), db.sync()),
}


@pytest.mark.parametrize("change", MEANWHILE)
def test_8_written_during_a_push(world: World, n_requests: int, change: str) -> None:
    """At each request: it is in that push, or pending after it, also when the process dies then.

    Caught: everything settled that is pending when the answer comes; sets during a push not noted;
    a deletion kept beside a set, or a set beside a deletion.
    """
    for position in range(n_requests):
        here = World(world.folder / f"{position}", world.mode)
        here.folder.mkdir()
        with here.open("a", "c") as db:
            db.update(OLD)
            db.push()
            prepare(db)
            act = partial(MEANWHILE[change], db)
            here.store.add(StoreRule(StoreFault.DELAY, skip=position, amount=0, then=act))
            assert db.push()
            expected, metadata = dict(db.items()), db.get_metadata()
            times = dict(db.timestamps())
            assert len(db) == len(expected)
            db.sync()
            here.copied("killed")
        for name in ("killed", "a"):
            with here.open(name) as again:
                assert dict(again.items()) == expected
                assert again.get_metadata() == metadata
                assert dict(again.timestamps()) == times
                again.push()
                assert pending(again) == {}
            assert here.seen() == expected
        with here.open() as cold:
            assert (cold.get_metadata(), dict(cold.timestamps())) == (metadata, times)


def test_8_threads_write_while_others_push(place: Place) -> None:
    """Eight threads write and delete through one handle that pushes all the while: nothing is lost.

    Caught: everything settled that is pending when the answer comes; sets during a push not noted.
    """
    n_threads, n_keys = 8, 120
    with place.open() as db:
        db.push()
        done = threading.Event()

        def write(thread: int) -> None:
            for n in range(n_keys):
                key = f"{thread}/{n % 40}"
                db[key] = [thread, n]
                if n % 7 == 0:
                    del db[key]

        def push() -> Iterator[int]:
            while not done.is_set():
                result = db.push()
                if result.updated:
                    yield result.seq

        with ThreadPoolExecutor(n_threads + 1) as pool:
            pushing = pool.submit(lambda: list(push()))
            list(pool.map(write, range(n_threads)))
            done.set()
            commits = pushing.result()
        assert commits == sorted(set(commits))
        last: dict[str, Any] = {}
        for thread in range(n_threads):
            for n in range(n_keys):
                last[f"{thread}/{n % 40}"] = None if n % 7 == 0 else [thread, n]
        expected = {key: value for key, value in last.items() if value is not None}
        assert dict(db.items()) == expected
        db.push()
        assert pending(db) == {}
    with place.open(file=None, flag="r") as cold:
        assert dict(cold.items()) == expected
