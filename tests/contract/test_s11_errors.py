"""One tree of errors: what each is besides, and where it is raised (CONTRACT §11)."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import ebooklet
from ebooklet import errors
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.ports.remote_store import Body, Condition, ObjectMeta
from ebooklet.services.request import FLAGS
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place
from tests.contract.counted import Counted

SECOND_BASES: dict[str, tuple[type[Exception], ...]] = {
    "ReadOnlyError": (ValueError,),
    "UUIDMismatchError": (ValueError,),
    "RemoteMissingError": (ValueError,),
    "UnsupportedFormatError": (ValueError,),
    "GroupTooLargeError": (ValueError,),
    "RemoteIntegrityError": (),
    "LockLostError": (),
    "OfflineError": (),
    "PushInProgressError": (RuntimeError,),
    "ConcurrentCompactionError": (RuntimeError,),
    # Ours, in the place of urllib3's family and of the builtin TimeoutError.
    "RemoteUnavailable": (ConnectionError,),
    "AccessDenied": (PermissionError,),
    "LockTimeout": (TimeoutError,),
    # Those of DESIGN §4.
    "ConflictError": (),
    "ReplaceConflict": (),
    "SnapshotExpired": (),
    "RemoteRewound": (),
    "RemoteDeleted": (),
    # And those that other sections ask for.
    "SerializationError": (ValueError, TypeError),
    "LocalFileError": (ValueError, TypeError),
    "InvalidKeyError": (ValueError,),
    "InvalidURLError": (ValueError, TypeError),
    "UnknownNameError": (ValueError,),
    "ForkedProcessError": (RuntimeError,),
    "StagedExpired": (),
}
ONE_PLACE = pytest.mark.parametrize("place", ["memory"], indirect=True)


class TestTheTree:
    """Names, bases and documentation."""

    @pytest.mark.parametrize("name", SECOND_BASES)
    def test_second_bases(self, name: str) -> None:
        """Each class is an `Error`, and what old code catches besides; none is a KeyError."""
        kind = getattr(ebooklet, name)
        assert kind is getattr(errors, name)
        assert issubclass(kind, ebooklet.Error)
        for base in SECOND_BASES[name]:
            assert issubclass(kind, base)
        assert not issubclass(kind, KeyError)

    def test_every_class_is_exported_and_documented(self) -> None:
        """All of the tree is at hand as `ebooklet.<name>` and stands in docs/errors.md."""
        assert ebooklet.Error is errors.EBookletError is ebooklet.EBookletError
        page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
        for name in errors.__all__:
            kind = getattr(ebooklet, name)
            assert issubclass(kind, ebooklet.EBookletError)
            assert not issubclass(kind, KeyError)
            assert name in ebooklet.__all__
            assert f"`{name}`" in page or f".{name}`" in page
        assert set(SECOND_BASES) <= set(errors.__all__)

    def test_the_module_needs_nothing(self) -> None:
        """`errors` imports the standard library only, so there is no base of urllib3."""
        source = Path(errors.__file__).read_text()
        imported = re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE)
        assert set(imported) <= {"__future__", "collections.abc", "typing"}

    def test_what_an_error_carries(self) -> None:
        """Operation and key are attributes, and part of the message."""
        error = ebooklet.RemoteUnavailable("not reached", op="get", key="db")
        assert (error.op, error.key) == ("get", "db")
        assert str(error) == "not reached [op 'get', key 'db']"


class TestWhatIsReadOnly:
    """Code that catches ValueError for read-only use keeps working."""

    def test_a_reader(self, place: Place) -> None:
        """Every write of a reader is a ReadOnlyError, and a ValueError."""
        with place.open() as db:
            db["k"] = 1
            assert db.push()
        with place.open(file="b", flag="r") as db:
            writes: tuple[Callable[[], object], ...] = (
                *(lambda: db.__setitem__("k", 2), lambda: db.__delitem__("k"), db.clear, db.push),
                *(db.prune, lambda: db.update({"k": 2}), lambda: db.set_metadata(1), db.discard),
                *(lambda: db.set_timestamp("k", 1), lambda: db.changes().push(), db.popitem),
            )
            for write in writes:
                with pytest.raises(ebooklet.ReadOnlyError) as caught:
                    write()
                assert isinstance(caught.value, ValueError)
            assert dict(db) == {"k": 1}

    @pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
    @pytest.mark.parametrize("flag", ["w", "c", "n"])
    def test_a_stranger(self, public_url: str, flag: Any, tmp_path: Path) -> None:
        """A URL cannot be opened to write."""
        with pytest.raises(ebooklet.ReadOnlyError):
            ebooklet.open(f"{public_url}/db", tmp_path / "a.blt", flag, "json")
        assert list(tmp_path.iterdir()) == []


class TestWhatIsThere:
    """Remotes that are missing, foreign, damaged, or another database's."""

    def test_missing(self, place: Place) -> None:
        """`RemoteMissingError` where neither half is, and from the session of a connection."""
        for flag in ("r", "w"):
            with pytest.raises(ebooklet.RemoteMissingError, match="flag 'c' creates one"):
                place.open(flag=flag)

    @pytest.mark.parametrize("place", ["memory"], indirect=True)
    def test_a_lost_head(self, place: Place) -> None:
        """Segments without a head are no invitation to create a database: the remedy is the rescue."""
        with place.open("db", None) as db:
            db["a"] = 1
            db.push()
        store, key = place.store()
        store.delete([key])
        store.close()
        for flag in ("r", "w"):
            with pytest.raises(ebooklet.RemoteMissingError, match="rescue") as caught:
                place.open("db", None, flag)
            assert "creates one" not in str(caught.value)

    @pytest.mark.parametrize("body", [b"{}", b"\x00" * 500, b"init_bytes", b"x" * 5000])
    def test_not_ours(self, place: Place, body: bytes) -> None:
        """A foreign object at the database's key is `UnsupportedFormatError`, whatever the flag."""
        store, key = place.store()
        store.put(key, body)
        store.close()
        for flag in FLAGS:
            with pytest.raises(ebooklet.UnsupportedFormatError) as caught:
                place.open(flag=flag)
            assert isinstance(caught.value, ValueError)
        assert place.objects()["db"] == body

    @ONE_PLACE
    def test_an_empty_object(self, place: Place) -> None:
        """What may have been a head is damaged: nothing is made of it, and nothing over it."""
        store, key = place.store()
        store.put(key, b"")
        store.close()
        for flag in FLAGS:
            with pytest.raises(ebooklet.RemoteIntegrityError, match="cut short"):
                place.open(flag=flag)
        assert place.objects()["db"] == b""

    def test_another_database(self, place: Place) -> None:
        """`UUIDMismatchError`, with nothing changed on either side."""
        for key in ("db", "other"):
            with place.open(key, file=key) as db:
                db["k"] = key
                assert db.push()
        before = {**place.objects(), **place.objects("other")}
        for flag in ("r", "w", "c"):
            with pytest.raises(ebooklet.UUIDMismatchError, match="Use another file_path"):
                place.open("db", file="other", flag=flag)
        after = {**place.objects(), **place.objects("other")}
        assert {n: b for n, b in after.items() if "lock" not in n} == {
            n: b for n, b in before.items() if "lock" not in n
        }

    @ONE_PLACE
    def test_damaged(self, place: Place) -> None:
        """`RemoteIntegrityError` of a value, and nothing is returned; no KeyError, no default."""
        with place.open() as db:
            db["k"] = "x" * 1000
            assert db.push()
        name, body = next((n, b) for n, b in place.objects().items() if b"x" * 500 in b)
        at = body.index(b"x" * 500)
        store, _ = place.store()
        store.put(name, body[:at] + b"y" + body[at + 1 :])
        store.close()
        with place.open(file=None, flag="r") as db:
            for read in (lambda: db["k"], lambda: db.get("k", "default"), lambda: list(db.items())):
                with pytest.raises(ebooklet.RemoteIntegrityError):
                    read()

    @ONE_PLACE
    def test_gone_behind_its_back(self, place: Place) -> None:
        """`RemoteDeleted` of a writer whose remote vanished; its data are kept."""
        with place.open() as db:
            db["k"] = 1
            assert db.push()
            store, key = place.store()
            store.delete([key])
            store.close()
            db["k"] = 2
            with pytest.raises(ebooklet.RemoteDeleted):
                db.push()
            assert db["k"] == 2

    @ONE_PLACE
    def test_turned_back(self, place: Place) -> None:
        """`RemoteRewound` where an older head stands than one that was seen."""
        with place.open() as db:
            db["k"] = 1
            assert db.push()
            old = place.objects()["db"]
            db["k"] = 2
            assert db.push()
        store, key = place.store()
        store.put(key, old)
        store.close()
        with pytest.raises(ebooklet.RemoteRewound):
            place.open(flag="r")


class TestWhatFails:
    """Transport, credentials, locks."""

    @pytest.mark.parametrize("flag", FLAGS)
    def test_not_reached(self, tmp_path: Path, flag: Any) -> None:
        """`RemoteUnavailable`, a ConnectionError, of a port where nobody listens; no file is made."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        secret = "a-secret-that-nobody-may-see"
        connection = ebooklet.S3Connection("id", secret, "db", "bucket", url, retries=0)
        with pytest.raises(ebooklet.RemoteUnavailable) as caught:
            ebooklet.open(connection, tmp_path / "a.blt", flag)
        assert isinstance(caught.value, ConnectionError)
        assert secret not in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    def test_wrong_credentials(self, seaweedfs: S3Server, tmp_path: Path) -> None:
        """`AccessDenied`, a PermissionError, which names no secret."""
        good = seaweedfs.connection(seaweedfs.new_bucket(), "db")
        wrong = replace(good, access_key="wrong" * 8)
        for flag in FLAGS:
            with pytest.raises(ebooklet.AccessDenied) as caught:
                ebooklet.open(wrong, tmp_path / "a.blt", flag)
            assert isinstance(caught.value, PermissionError)
            assert "wrongwrong" not in str(caught.value)

    def test_no_bucket(self, seaweedfs: S3Server, tmp_path: Path) -> None:
        """`BucketMissingError`, which is no missing database."""
        connection = seaweedfs.connection("there-is-no-such-bucket", "db")
        with pytest.raises(ebooklet.BucketMissingError):
            ebooklet.open(connection, tmp_path / "a.blt", "r")

    @ONE_PLACE
    def test_a_lock_that_is_held(self, place: Place) -> None:
        """The builtin TimeoutError, as `LockTimeout`, which says whose it is and how old."""
        with place.open() as db:
            db["k"] = 1
            assert db.push()
            with pytest.raises(TimeoutError, match=socket.gethostname()) as caught:
                place.open(file="b", flag="w", lock_timeout=0.2)
        assert isinstance(caught.value, ebooklet.LockTimeout)

    @ONE_PLACE
    def test_a_lock_that_was_taken(self, place: Place) -> None:
        """`LockLostError` at the push; what was to be pushed is still pending."""
        with place.open() as db:
            db["k"] = 1
            assert db.push()
            db["k"] = 2
            with (
                place.open(file="b", flag="w", force_lock=True),
                pytest.raises(ebooklet.LockLostError),
            ):
                db.push()
            assert [change["key"] for change in db.changes()] == ["k"]

    @ONE_PLACE
    def test_offline(self, place: Place) -> None:
        """`OfflineError` without a local file, and of values that are not in it."""
        with pytest.raises(ebooklet.OfflineError):
            place.open(flag="r", offline=True)
        with place.open() as db:
            db.update({"here": 1, "there": "x" * 1000})
            assert db.push()
        with place.open(file="b", flag="r") as db:
            assert db["here"] == 1
        with place.open(file="b", flag="r", offline=True) as db:
            assert db["here"] == 1
            with pytest.raises(ebooklet.OfflineError):
                db["there"]
            with pytest.raises(ebooklet.OfflineError):
                db.get("there")

    def test_conflicts(self, tmp_path: Path) -> None:
        """`ConflictError` lists the keys; `ReplaceConflict` of a replacement that met a commit."""
        counted = Counted(tmp_path)
        counted.create({"a": 0, "b": 0})
        with counted.open(flag="w") as one, counted.open(flag="w") as two:
            one.update({"a": 1, "b": 1})
            two.update({"b": 2, "c": 2})
            assert one.push()
            with pytest.raises(ebooklet.ConflictError, match="'b' changed both") as caught:
                two.push()
            assert caught.value.keys == ("b",)
            assert {change["key"] for change in two.changes()} == {"b", "c"}
        with counted.open(flag="n") as new, counted.open(flag="w") as other:
            other["d"] = 1
            assert other.push()
            with pytest.raises(ebooklet.ReplaceConflict):
                new.push()


class HeldStore(MemoryRemoteStore):
    """A remote in memory whose next write waits until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.through = threading.Event()
        self.through.set()

    def put(
        self, key: str, body: Body | BinaryIO, *, condition: Condition | None = None, **rest: Any
    ) -> ObjectMeta:
        if not self.through.is_set():
            self.reached.set()
            assert self.through.wait(60)
        return super().put(key, body, condition=condition, **rest)


@pytest.mark.parametrize("call", ["prune", "clear", "delete_remote", "push", "discard", "reopen"])
def test_while_a_push_is_under_way(tmp_path: Path, call: str) -> None:
    """`PushInProgressError`, a RuntimeError: what a push reads is not taken from under it."""
    store = HeldStore()
    with ebooklet.open(store, tmp_path / "a.blt", "c", "json", lock="optimistic") as db:
        db["k"] = 1
        assert db.push()
        db["k"] = 2
        store.through.clear()
        pushing = threading.Thread(target=db.push)
        pushing.start()
        try:
            assert store.reached.wait(60)
            with pytest.raises(ebooklet.PushInProgressError) as caught:
                db.reopen("r") if call == "reopen" else getattr(db, call)()
            assert isinstance(caught.value, RuntimeError)
        finally:
            store.through.set()
            pushing.join(60)
        assert not list(db.changes())
    with ebooklet.open(store, None, "r") as db:
        assert dict(db) == {"k": 2}


class TestWhatTheCallerGotWrong:
    """Keys, values, names and files."""

    @ONE_PLACE
    def test_keys_values_and_names(self, place: Place) -> None:
        """Each has its class, and the builtin one that old code catches."""
        with place.open() as db:
            with pytest.raises(ebooklet.InvalidKeyError):
                db["k" * 65_536] = 1
            with pytest.raises(ebooklet.SerializationError) as caught:
                db["k"] = object()
            assert isinstance(caught.value, TypeError)
        with pytest.raises(ebooklet.UnknownNameError, match="memory"):
            ebooklet.open("carrier-pigeon://coop/db")
        with pytest.raises(ebooklet.UnknownNameError, match="json"):
            ebooklet.open("memory://x/y", None, "c", "jason")
        with pytest.raises(ebooklet.InvalidURLError):
            ebooklet.open("not a url")

    @ONE_PLACE
    def test_files(self, place: Place) -> None:
        """A file that is none of ours is a ValueError and a TypeError; see §12 for the rest."""
        path = place.path("a")
        assert path is not None
        path.write_text("some notes")
        with pytest.raises(ebooklet.LocalFileError) as caught:
            place.open(flag="w")
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, TypeError)

    @ONE_PLACE
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_handle(self, place: Place) -> None:
        """`ForkedProcessError` in the child, while the parent goes on."""
        with place.open() as db:
            db["k"] = 1
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                answer = b"nothing"
                try:
                    db["k"]
                except ebooklet.ForkedProcessError as error:
                    kinds = type(error).__mro__
                    answer = b"runtime" if RuntimeError in kinds else b"other"
                finally:
                    os.write(writing, answer)
                    os._exit(0)
            os.close(writing)
            with os.fdopen(reading, "rb") as answers:
                assert answers.read() == b"runtime"
            os.waitpid(child, 0)
            assert db["k"] == 1
