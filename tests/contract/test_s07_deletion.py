"""CONTRACT §7, `delete_remote`: the head first, then exactly its segments; what is here stays."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head
from ebooklet.core.names import mint_sid, segment_key
from ebooklet.database import EBooklet
from ebooklet.errors import (
    LockLostError,
    LockTimeout,
    OfflineError,
    PushInProgressError,
    ReadOnlyError,
    RemoteDeleted,
    RemoteMissingError,
    RemoteUnavailable,
    UnsupportedFormatError,
    UUIDMismatchError,
)
from ebooklet.services.heads import HeadStore
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.faults import Fault, FaultRule
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place

NEIGHBOURS = ("mydb2", "mydb.bak", "mydb/sub", "mydb.d2")
TEXT = "v" * 300  # too long for the index: it lies in a segment and has to be fetched

in_memory = pytest.mark.parametrize("place", ["memory"], indirect=True)


def kinds(db: EBooklet[Any]) -> dict[str, str]:
    return {change["key"]: change["kind"] for change in db.changes()}


def raw(place: Place, db_key: str, **objects: bytes) -> None:
    """Put objects beside a database, by the ends of their names."""
    store, key = place.store(db_key)
    for end, body in objects.items():
        store.put(f"{key}{end}", body)
    store.close()


def seq_of(place: Place, db_key: str = "db") -> int:
    store, key = place.store(db_key)
    try:
        return decode_head(store.get(key).body, key=key).seq
    finally:
        store.close()


def filled(place: Place, db_key: str = "db", file: str | None = None, **options: Any) -> Any:
    """An open writer that has pushed two commits."""
    db = place.open(db_key, file, **options)
    db.update({f"k{n}": f"{n}{TEXT}" for n in range(6)})
    db.set_metadata({"title": "kept"}, timestamp=77)
    db.push()
    db.set("k0", "second", timestamp=1_000_000)
    db.push()
    return db


def delete_by_session(place: Place, db_key: str) -> None:
    with ebooklet.open_session(place.connect(db_key), "w") as session:
        session.delete_remote()
        assert not session.initialized
        session.delete_remote()  # nothing there any more: no error


def delete_by_database(place: Place, db_key: str) -> None:
    with place.open(db_key, None, "w") as db:
        db.delete_remote()
        db.delete_remote()


class TestWhatGoes:
    """And what does not."""

    @pytest.mark.parametrize("delete", [delete_by_session, delete_by_database])
    def test_neighbours_and_locks_stay(self, place: Place, delete: Any) -> None:
        """Neighbouring names, a database nested below, locks, and whatever is not a segment."""
        check_what_goes(place, delete, NEIGHBOURS)

    def test_neighbours_and_locks_stay_in_mode_lock(self, locked_place: Place) -> None:
        """The same with two copies of the head and tickets for locks."""
        check_what_goes(locked_place, delete_by_session, ("mydb2", "mydb.d2"))

    def test_a_missing_remote_is_no_error(self, place: Place) -> None:
        """Nothing is asked beyond that, nothing is written, and nothing that lies there is taken."""
        orphan = segment_key("", mint_sid(1, bytes(10)))
        raw(place, "db", **{orphan: b"of a writer who is about to create a database"})
        before = place.objects()
        with ebooklet.open_session(place.connect("db"), "w") as session:
            session.delete_remote()
        with place.open(file=None, lock="optimistic") as db:
            db["k"] = 1
            db.delete_remote()
            assert kinds(db) == {"k": "added"}
            assert db.push().seq == 1
        assert orphan in "".join(before)
        assert before.items() <= place.objects().items()

    def test_the_head_goes_first(self, moto: S3Server) -> None:
        """Its second copy, then itself; only when that is seen to be gone, the segments."""
        bucket = moto.new_bucket()
        with ebooklet.open(moto.connection(bucket, "db"), None, "c", "json") as db:
            db["k"] = TEXT
            db.push()
        with CountingProxy(moto.endpoint_url) as proxy:
            connection = moto.at(proxy.url).connection(bucket, "db")
            with connection.open("w") as session:
                session.delete_remote()
            steps = [
                (exchange.method, exchange.path.partition("?")[0].removeprefix(f"/{bucket}"))
                for exchange in proxy.log
                if ".lock" not in exchange.path
            ]
        writing = [step for step in steps if step[0] not in ("GET", "HEAD")]
        assert writing[:2] == [("DELETE", "/db.alt"), ("DELETE", "/db")]
        assert len(writing) == 3
        after_head = steps[steps.index(("DELETE", "/db")) + 1 :]
        assert after_head.index(("GET", "/db")) < after_head.index(writing[2])

    @in_memory
    def test_what_comes_after_the_head_went_stays(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Segments that were not there before may be those of a new database."""
        filled(place).close()
        delete = MemoryRemoteStore.delete
        new = segment_key("db", mint_sid(1, bytes(10)))

        def then_create(self: MemoryRemoteStore, keys: Any) -> None:
            names = list(keys)
            delete(self, names)
            if names == ["db"]:
                self.put(new, b"a new database")

        monkeypatch.setattr(MemoryRemoteStore, "delete", then_create)
        with ebooklet.open_session(place.connect("db"), "w") as session:
            session.delete_remote()
        assert {key for key in place.objects() if "lock" not in key} == {new}

    def test_segments_that_cannot_be_deleted(self, moto: S3Server) -> None:
        """The database is gone all the same; the error says what is left. Here all is pending."""
        bucket = moto.new_bucket()
        with CountingProxy(moto.endpoint_url) as proxy:
            connection = moto.at(proxy.url).connection(bucket, "db", retries=0)
            with ebooklet.open(connection, None, "c", "json") as db:
                for value in (TEXT, TEXT[::-1] + "2"):
                    db["k"] = value
                    db.push()
                proxy.inject(FaultRule(Fault.UNAVAILABLE, kind="DELETE_MANY"))
                with pytest.raises(RemoteUnavailable) as caught:
                    db.delete_remote()
                assert "is deleted" in "".join(caught.value.__notes__)
                assert kinds(db) == {"k": "added"}
                with connection.open() as session:
                    assert not session.initialized
                assert db.push().seq == 3

    @in_memory
    def test_what_is_not_ours_stays(self, place: Place) -> None:
        """An object of another kind under the name is refused and left alone."""
        raw(place, "db", **{"": b"a photograph"})
        before = place.objects()
        session = ebooklet.open_session(place.connect("db"), "w")
        with session, pytest.raises(UnsupportedFormatError):
            session.delete_remote()
        assert place.objects() == before


def check_what_goes(place: Place, delete: Any, neighbours: tuple[str, ...]) -> None:
    if place.kind == "file":
        (place.folder / "bucket" / "mydb").mkdir()  # for what is nested there
    # First: where `mydb/` is taken for a folder (SeaweedFS), nothing can be created under `mydb`.
    filled(place, "mydb").close()
    for name in neighbours:
        with place.open(name, None) as db:
            db["k"] = TEXT
            db.push()
    foreign = {".d/notes.txt": b"1", f".d/{'u' * 26}": b"2", ".lock.x": b"3", ".altx": b"4"}
    raw(place, "mydb", **foreign)
    before = place.objects("mydb")
    delete(place, "mydb")
    after = place.objects("mydb")
    gone = before.keys() - after.keys()
    assert "mydb" in gone
    assert all(key in ("mydb", "mydb.alt") or key.startswith("mydb.d/") for key in gone)
    assert {f"mydb{end}" for end in foreign} <= after.keys()
    stay = {key for key in before if key.startswith(neighbours)} | {f"mydb{end}" for end in foreign}
    assert {key: after[key] for key in stay} == {key: before[key] for key in stay}
    assert {key for key in after if key.startswith("mydb.d/")} == {
        f"mydb{end}" for end in foreign if end.startswith(".d/")
    }
    if place.kind in ("memory", "seaweedfs", "moto"):
        assert "mydb.lock" in after
    with pytest.raises(RemoteMissingError):
        place.open("mydb", None, "r")
    for name in neighbours:
        with place.open(name, None, "r") as db:
            assert dict(db) == {"k": TEXT}


class TestWhatStaysHere:
    """The local half, and the push that creates the database anew."""

    def test_local_values_are_the_next_push(self, place: Place) -> None:
        """Written here or only cached, all are added; what was never fetched is gone."""
        filled(place).close()
        with place.open(file="cold") as db:
            uuid = db.uuid
            cached = db["k1"]
            db.load_items(["k2"])
            db["new"] = 1
            del db["k3"]
            db["k4"] = "changed"
            db.delete_remote()
            here = {"k1": cached, "k2": f"2{TEXT}", "new": 1, "k4": "changed"}
            check_local(db, here)
            assert [c["remote_timestamp"] for c in db.changes()] == [None] * 4
        # It survives a close, and the file opens under every flag.
        with place.open(file="cold", flag="r") as db:
            check_local(db, here)
        with place.open(file="cold", flag="w") as db:
            check_local(db, here)
            result = db.push("anew")
            assert (result.n_set, result.n_deleted) == (4, 0)
            assert not db.changes()
        with place.open(file="elsewhere", flag="r") as db:
            assert db.uuid == uuid
            assert dict(db.items()) == here
            assert db.get_metadata(include_timestamp=True) == ({"title": "kept"}, 77)

    def test_in_mode_lock(self, locked_place: Place) -> None:
        """The same where a push is proven by a later read only."""
        db = filled(locked_place, file="a")
        db.delete_remote()
        here = {f"k{n}": f"{n}{TEXT}" for n in range(6)} | {"k0": "second"}
        check_local(db, here)
        assert db.push().seq == 3
        assert not db.changes()
        db.close()
        with locked_place.open(file="b", flag="r") as db:
            assert dict(db.items()) == here
            assert not list(db.changes())

    @in_memory
    def test_timestamps_stay(self, place: Place) -> None:
        """Those of values are pushed as they were."""
        db = filled(place)
        db.delete_remote()
        assert db.get_timestamp("k0") == 1_000_000
        db.push()
        db.close()
        with place.open(file=None, flag="r") as db:
            assert db.get_timestamp("k0") == 1_000_000

    @in_memory
    @pytest.mark.parametrize("size", [10, 100_000])
    def test_metadata_of_a_replacement_stay(self, place: Place, size: int) -> None:
        """Flag n keeps the remote's metadata; so does a deletion before its push."""
        with place.open(file=None) as db:
            db["old"] = TEXT
            db.set_metadata("m" * size)
            db.push()
        with place.open(file="a", flag="n") as db:
            db["new"] = 1
            db.delete_remote()
            assert kinds(db) == {"new": "added"}
            assert db.get_metadata() == "m" * size
            db.push()
        with place.open(file=None, flag="r") as db:
            assert (dict(db), db.get_metadata()) == ({"new": 1}, "m" * size)

    @in_memory
    def test_nothing_is_left_of_what_was_pending(self, place: Place) -> None:
        """After the push all is in step; a `discard` before it drops what is here, as ever."""
        db = filled(place)
        db.clear()
        db["after"] = 1
        db.delete_remote()
        assert kinds(db) == {"after": "added"}
        assert db.push().seq == 3
        assert not db.changes()
        db.delete_remote()
        db.discard()
        assert (len(db), list(db)) == (0, [])
        db.close()

    @in_memory
    def test_iterating_over_a_deletion(self, place: Place) -> None:
        """Keys go under the iteration: `RuntimeError` at its next step."""
        filled(place).close()
        with place.open(file=None) as db:
            keys = iter(db)
            next(keys)
            db.delete_remote()
            with pytest.raises(RuntimeError, match="added or deleted"):
                next(keys)

    @in_memory
    def test_a_group_is_created_anew_as_one(self, place: Place) -> None:
        """Also by a copy that had only read it."""
        filled(place, "member").close()
        with place.open("group", "g", remote_conn_group=True, value_serializer=None) as db:
            db.push()
        with place.open("group", "other", "w") as db:
            assert isinstance(db, ebooklet.RemoteConnGroup)
            db.delete_remote()
        with place.open("group", "other", "w") as db:
            assert isinstance(db, ebooklet.RemoteConnGroup)
            db.push()
        with ebooklet.open_session(place.connect("group")) as session:
            assert session.type == "RemoteConnGroup"


def check_local(db: EBooklet[Any], here: dict[str, Any]) -> None:
    assert kinds(db) == dict.fromkeys(here, "added")
    assert len(db) == len(here)
    assert sorted(db) == sorted(here)
    assert dict(db.items()) == here
    assert "k5" not in db or "k5" in here
    assert db.get_metadata(include_timestamp=True) == ({"title": "kept"}, 77)


class TestOthers:
    """Copies that follow the same database."""

    def test_old_copies_follow_the_new_database(self, place: Place) -> None:
        """Whatever they had seen, the seq goes on: nobody's remote looks rewound."""
        a = filled(place, lock="optimistic")
        old = place.open(file="old", flag="w", lock="optimistic")
        old["mine"] = 1
        old["k1"] = "conflicting"
        assert old["k2"] == f"2{TEXT}"
        with place.open(file="reader", flag="r") as reader:
            assert reader["k2"] == f"2{TEXT}"
        with place.open(file=None, lock="optimistic") as b:
            b["by b"] = TEXT
            b.push()
        assert seq_of(place) == 3
        a.delete_remote()  # its own base is older than what stands there
        a["k2"] = "after"
        a["k1"] = "by a"
        assert a.push().seq == seq_of(place) == 4
        with pytest.warns(UserWarning, match="'k1' changed both"):
            assert old.pull().seq == 4
        assert old["k2"] == "after"
        assert kinds(old) == {"mine": "added", "k1": "modified"}
        assert "by b" not in old
        old.push(conflict="ours")
        with place.open(file="reader", flag="r") as reader:
            assert reader["k2"] == "after"
            assert (reader["mine"], reader["k1"]) == (1, "conflicting")
        a.close()
        old.close()

    def test_a_push_that_meets_the_deletion(self, place: Place) -> None:
        """`RemoteDeleted`, all is kept; opened again, or told to delete, it creates it anew."""
        filled(place).close()
        writer = place.open(file="w", flag="w", lock="optimistic")
        reader = place.open(file=None, flag="r")
        assert writer["k1"] == f"1{TEXT}"
        writer["mine"] = 1
        del writer["k2"]
        delete_by_session(place, "db")
        for _ in range(2):
            with pytest.raises(RemoteDeleted, match="flag 'c'"):
                writer.push()
            assert kinds(writer) == {"mine": "added", "k2": "deleted"}
        with pytest.raises(RemoteMissingError):
            writer.pull()
        with pytest.raises(RemoteDeleted):
            _ = reader["k4"]
        reader.close()
        writer.close()
        with pytest.warns(UserWarning, match="is gone.*at least 4"):
            writer = place.open(file="w", flag="w", lock="optimistic")
        assert kinds(writer) == {"mine": "added", "k1": "added"}
        assert writer.get_metadata() == {"title": "kept"}
        assert writer.push().seq == 3
        delete_by_session(place, "db")
        with pytest.raises(RemoteDeleted):
            writer.push(force_push=True)
        writer.delete_remote()
        assert writer.push().seq == 4
        writer.close()

    @in_memory
    def test_a_commit_between_looking_and_deleting(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An optimistic writer's commit goes with the rest; its copy takes part in what follows."""
        a = filled(place, lock="optimistic")
        b = place.open(file=None, lock="optimistic")
        delete = MemoryRemoteStore.delete

        def after_a_push(self: MemoryRemoteStore, keys: Any) -> None:
            names = list(keys)
            if names == ["db.alt"]:
                b["late"] = TEXT
                b.push()
            delete(self, names)

        monkeypatch.setattr(MemoryRemoteStore, "delete", after_a_push)
        a.delete_remote()
        monkeypatch.undo()
        assert not [key for key in place.objects() if key == "db"]
        b["more"] = 1
        with pytest.raises(RemoteDeleted):
            b.push()
        b.delete_remote()
        b.push()
        a.pull()
        assert dict(a)["late"] == TEXT
        a.close()
        b.close()

    @in_memory
    def test_a_long_history_before_it(self, place: Place) -> None:
        """What the new head says of it names nothing that is gone: it is checked, and copied."""
        with place.open(file=None) as db:
            for n in range(70):
                db["k"] = n
                db.push()
            db.delete_remote()
            for n in range(71, 140):
                assert db.push(force_push=True).seq == n
            report = ebooklet.fsck(place.connect("db"), check_objects=True)
            assert report.ok
            assert (report.orphans, report.n_commits, report.seq) == ((), 69, 139)
            db.copy_remote(place.connect("copy"))
        with place.open("copy", None, "r") as db:
            assert dict(db) == {"k": 69}

    @in_memory
    def test_another_database_is_left_alone(self, place: Place) -> None:
        """Created by somebody else under the same name, it has another uuid."""
        mine = filled(place, lock="optimistic")
        delete_by_session(place, "db")
        with place.open(file=None, lock="optimistic") as other:
            other["theirs"] = 1
            other.push()
        before = place.objects()
        with pytest.raises(UUIDMismatchError):
            mine.delete_remote()
        assert {k: v for k, v in place.objects().items() if "lock" not in k} == {
            k: v for k, v in before.items() if "lock" not in k
        }
        assert not mine.changes()
        mine.close()


class TestRefused:
    """Nothing is touched, here or there."""

    def test_read_only(self, place: Place) -> None:
        """Flag r, and no remote to delete."""
        filled(place).close()
        before = place.objects()
        with place.open(file=None, flag="r") as db, pytest.raises(ReadOnlyError):
            db.delete_remote()
        assert place.objects() == before
        with ebooklet.open(None, None, "c", "json") as db, pytest.raises(RemoteMissingError):
            db.delete_remote()

    @in_memory
    def test_offline(self, place: Place, tmp_path: Path) -> None:
        """A writer that could not reach the remote does not delete it later."""
        filled(place, file="a").close()
        store = FaultyRemoteStore(place.store()[0])
        store.add(StoreRule(StoreFault.REFUSE, times=None))
        path = place.path("a")
        with (
            pytest.warns(UserWarning, match="opened offline"),
            ebooklet.open(store, path, "w", offline="auto", lock="optimistic") as db,
            pytest.raises(OfflineError, match="delete_remote"),
        ):
            db.delete_remote()
        assert "db" in place.objects()

    def test_during_a_push(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """`PushInProgressError`, which is a `RuntimeError`; the push goes on and succeeds."""
        db = filled(place)
        db["more"] = 1
        commit = HeadStore.commit
        caught: list[BaseException] = []

        def meanwhile(self: HeadStore, *args: Any) -> Any:
            def delete() -> None:
                try:
                    db.delete_remote()
                except PushInProgressError as error:
                    caught.append(error)

            thread = threading.Thread(target=delete)
            thread.start()
            thread.join()
            return commit(self, *args)

        monkeypatch.setattr(HeadStore, "commit", meanwhile)
        assert db.push()
        assert [isinstance(error, RuntimeError) for error in caught] == [True]
        assert not db.changes()
        db.close()
        with place.open(file=None, flag="r") as db:
            assert db["more"] == 1

    def test_while_another_writes(self, place: Place) -> None:
        """The lock is waited for, and its holder named; an optimistic handle waits as well."""
        with filled(place) as writer:
            before = {k: v for k, v in place.objects().items() if ".lock" not in k}
            with (
                ebooklet.open_session(place.connect("db"), "w", lock_timeout=0) as session,
                pytest.raises(LockTimeout, match="write"),
            ):
                session.delete_remote()
            other = place.open(file=None, lock="optimistic", lock_timeout=0)
            with other, pytest.raises(LockTimeout, match="write"):
                other.delete_remote()
            assert not other._copy.pending
            assert {k: v for k, v in place.objects().items() if ".lock" not in k} == before
            writer.delete_remote()  # its own lock is no hindrance
            assert writer.writable
            writer.push()

    @pytest.mark.parametrize("place", ["memory", "file", "moto"], indirect=True)
    def test_a_lock_that_was_taken_away(self, place: Place) -> None:
        """`LockLostError` before anything is deleted."""
        writer = filled(place)
        with ebooklet.open_session(place.connect("db"), "w") as session:
            assert [info.purpose for info in session.break_other_locks()] == ["write"]
        with pytest.raises(LockLostError):
            writer.delete_remote()
        assert not writer._copy.pending
        writer.close()
        with place.open(file=None, flag="r") as db:
            assert len(db) == 6

    @in_memory
    def test_a_session_uses_its_own_lock(self, place: Place) -> None:
        """One that it holds already; it goes on holding it."""
        filled(place).close()
        with ebooklet.open_session(place.connect("db"), "w", lock_timeout=0) as session:
            lock = session.create_lock()
            with lock:
                session.delete_remote()
                assert lock.verify()
            assert not session.initialized


def test_readers_of_the_same_file(tmp_path: Path) -> None:
    """One that is open sees what the writer left, once that has deleted the remote and closed."""
    (tmp_path / "bucket").mkdir()
    url = f"file://{tmp_path}/bucket/db"
    path = tmp_path / "a.blt"
    with ebooklet.open(url, path, "c", "json") as writer:
        writer["k"] = 1
        writer.push()
    with ebooklet.open(url, path) as reader:
        assert dict(reader) == {"k": 1}
        with ebooklet.open(url, path, "w") as writer:
            writer["l"] = 2
            writer.delete_remote()
        assert reader["k"] == 1  # a look at the file
        assert dict(reader) == {"k": 1, "l": 2}
        assert kinds(reader) == {"k": "added", "l": "added"}
