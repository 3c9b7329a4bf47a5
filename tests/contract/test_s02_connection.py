"""CONTRACT §2: `S3Connection`, the session it opens, and what else may stand for a connection."""

from __future__ import annotations

import inspect
import json
import pickle
import socket
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

import ebooklet
import ebooklet.remote
from ebooklet import S3Connection
from ebooklet.errors import InvalidURLError, ReadOnlyError, RemoteUnavailable
from ebooklet.services.request import Flag
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.faults import Fault, FaultRule
from ebooklet.testing.servers import S3Server
from tests.contract.conftest import Place

SECRET = "sEcReT-sEcReT-sEcReT"
FULL = S3Connection(
    "AKID", SECRET, "data/db", "bucket", "https://s3.example", "https://cdn.example/db"
)
NOT_R: Final[tuple[Flag, ...]] = ("w", "c", "n")

local_and_moto = pytest.mark.parametrize("place", ["memory", "moto"], indirect=True)


class TestParameters:
    """Constructing one, and what it tells."""

    def test_the_positional_order(self) -> None:
        """The order of the parameters is part of the contract, and so are the defaults."""
        parameters = inspect.signature(S3Connection).parameters.values()
        assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == [
            *("access_key_id", "access_key", "db_key", "bucket", "endpoint_url", "db_url"),
            *("threads", "read_timeout", "retries"),
        ]
        assert all(p.default is not p.empty for p in parameters)
        by_position = S3Connection("a", "b", "c", "d", "https://e", "https://f", 7, 8, 9)
        assert (by_position.threads, by_position.read_timeout, by_position.retries) == (7, 8, 9)
        assert (FULL.read_timeout, FULL.retries) == (60, 3)
        assert 10 <= FULL.threads <= 20

    def test_the_older_import_path(self) -> None:
        """`ebooklet.remote.S3Connection` is the same class."""
        assert ebooklet.remote.S3Connection is S3Connection

    @pytest.mark.parametrize("missing", ["access_key_id", "access_key", "db_key", "bucket"])
    def test_what_is_enough(self, missing: str) -> None:
        """`db_url` alone is, or all four of the others; anything less is a `ValueError`."""
        four: dict[str, Any] = {
            "access_key_id": "a",
            "access_key": SECRET,
            "db_key": "c",
            "bucket": "d",
        }
        assert S3Connection(**four).has_credentials
        assert not S3Connection(db_url="https://example.com/db").has_credentials
        del four[missing]
        with pytest.raises(ValueError, match="db_url, or all of") as caught:
            S3Connection(**four)
        assert SECRET not in str(caught.value)
        S3Connection(**four, db_url="https://example.com/db")

    @pytest.mark.parametrize("name", ["db_url", "endpoint_url"])
    @pytest.mark.parametrize(
        "url",
        [
            *(
                "",
                "example.com/db",
                "ftp://example.com/db",
                "https://",
                "https:///db",
                "https://[::1",
            ),
            *(
                "https://example.com:port/db",
                f"https://AKID:{SECRET}@example.com/db",
                5,
                b"https://b",
            ),
        ],
        ids=str,
    )
    def test_malformed_urls(self, name: str, url: Any) -> None:
        """A `ValueError` that is also a `TypeError`, as older versions raised; no secret in it."""
        others = {"db_url": "https://example.com/db", name: url}
        if url == "" and name == "db_url":
            with pytest.raises(ValueError, match="db_url"):
                S3Connection(**others)
            return
        with pytest.raises(InvalidURLError) as caught:
            S3Connection(**others)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, TypeError)
        assert name in str(caught.value)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "wrong", [{"threads": 0}, {"retries": -1}, {"read_timeout": 0}, {"driver": "pigeon"}]
    )
    def test_values_without_sense(self, wrong: dict[str, Any]) -> None:
        """No transfers at all, negative repetitions, no time, no such driver: `ValueError`."""
        with pytest.raises(ValueError, match=next(iter(wrong))):
            S3Connection(db_url="https://example.com/db", **wrong)

    def test_bucket_and_key_swapped(self) -> None:
        """No bucket has a slash in its name, but for the ARN of an access point: a `ValueError`."""
        with pytest.raises(ValueError, match=r"3 to 63 lowercase letters.*db_key swapped"):
            S3Connection("id", SECRET, "bucket", "data/mydb")
        arn = "arn:aws:s3:us-east-1:123456789012:accesspoint/mine"
        assert S3Connection("id", SECRET, "data/mydb", arn).bucket == arn

    def test_every_parameter_can_be_read(self) -> None:
        """Attributes of the same names."""
        given: dict[str, Any] = {
            "access_key_id": "a",
            "access_key": "b",
            "db_key": "c",
            "bucket": "d",
            "endpoint_url": "https://e",
            "db_url": "https://f",
            "threads": 3,
            "read_timeout": 4,
            "retries": 5,
            "region": "g",
            "driver": "boto3",
        }
        connection = S3Connection(**given)
        assert {name: getattr(connection, name) for name in given} == given

    def test_what_is_shared_holds_no_credentials(self) -> None:
        """`to_dict` is exactly four parameters, `dumps` the same as JSON."""
        shared = {
            "db_key": "data/db",
            "bucket": "bucket",
            "endpoint_url": "https://s3.example",
            "db_url": "https://cdn.example/db",
        }
        assert FULL.to_dict() == shared
        assert isinstance(FULL.dumps(), bytes)
        assert json.loads(FULL.dumps()) == shared

    def test_nothing_shown_is_secret(self) -> None:
        """Neither the id nor the secret is in what is printed, logged or interpolated."""
        for shown in (repr(FULL), str(FULL), f"{FULL}", repr(FULL.address()), str(FULL.address())):
            assert SECRET not in shown
            assert "AKID" not in shown

    def test_pickling_carries_credentials(self) -> None:
        """So that worker processes can use it; the docstring says so."""
        assert pickle.loads(pickle.dumps(FULL)) == FULL
        words = " ".join((S3Connection.__doc__ or "").split())
        assert "Pickling one (for worker processes) carries its credentials" in words

    @pytest.mark.parametrize("host", ["127.0.0.1:9000", "127.8.8.8", "[::1]:80", "localhost:1"])
    def test_plain_http_is_warned_of(self, host: str) -> None:
        """But on a loopback host, where nobody is on the way; https never."""
        with pytest.warns(UserWarning, match="plain http") as caught:
            S3Connection(db_url="http://example.com/db")
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            S3Connection(db_url=f"http://{host}/db")
            S3Connection(db_url="https://example.com/db")

    def test_constructing_asks_nobody(self) -> None:
        """Nor does opening a session: the first question does."""
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            nobody.settimeout(0)
            port = nobody.getsockname()[1]
            connection = S3Connection(
                "a", "b", "c", "no-such-bucket", f"http://127.0.0.1:{port}", threads=1
            )
            connection.open("w").close()
            with pytest.raises(BlockingIOError):
                nobody.accept()
        with replace(connection, retries=0).open() as session, pytest.raises(RemoteUnavailable):
            _ = session.uuid


class TestEffects:
    """What threads and retries do, counted outside the client."""

    def test_retries(self, moto: S3Server) -> None:
        """So many repetitions after a 503, and no more."""
        bucket = moto.new_bucket()
        with CountingProxy(moto.endpoint_url) as proxy:
            at_proxy = moto.at(proxy.url)
            for retries, sent in ((0, 1), (2, 3)):
                connection = at_proxy.connection(bucket, "db", retries=retries)
                rule = proxy.inject(FaultRule(Fault.UNAVAILABLE, times=1 + retries))
                with connection.open() as session, pytest.raises(RemoteUnavailable):
                    _ = session.uuid
                assert rule.hits == sent
            proxy.inject(FaultRule(Fault.UNAVAILABLE, times=2))
            with at_proxy.connection(bucket, "db", retries=2).open() as session:
                assert session.uuid is None

    def test_threads(self, moto: S3Server) -> None:
        """At most so many transfers at once: with one, nothing overlaps."""
        bucket = moto.new_bucket()
        with ebooklet.open(moto.connection(bucket, "db"), None, "c", "bytes") as db:
            for n in range(6):
                db[f"k{n}"] = bytes(300_000)
                db.push()
        in_a_row = {}
        for threads in (1, 2):
            with CountingProxy(moto.endpoint_url, latency_s=0.05) as proxy:
                connection = moto.at(proxy.url).connection(bucket, "db", threads=threads)
                with ebooklet.open(connection) as db:
                    assert db.load_items() == {}
                assert proxy.counts().requests == 7
                in_a_row[threads] = proxy.depth()
        assert in_a_row[1] == 7
        assert 4 <= in_a_row[2] < 7


class TestSession:
    """Each member of the table."""

    def test_before_there_is_a_database(self, place: Place) -> None:
        """Everything is None, and asked again where the table says so."""
        with ebooklet.open_session(place.connect("db")) as session:
            assert (session.uuid, session.type, session.timestamp) == (None, None, None)
            assert (session.get_uuid(), session.get_type()) == (None, None)
            assert session.get_timestamp() is None
            assert session.get_user_metadata() is None
            assert not session.initialized
            assert session.list_objects() == session.list_object_versions() == []
            with place.open(file=None) as db:
                db.push()
                assert session.uuid is None
                assert session.get_uuid() == db.uuid == session.uuid
            assert session.get_type() == session.type == "EVariableLengthValue"
            assert session.initialized

    def test_of_a_database(self, place: Place) -> None:
        """Identity, type, times and metadata as the database has them; `get_` sees what is new."""
        with place.open(file=None) as db:
            db.set_metadata({"title": "small"})
            db.push()
            connection = place.connect("db")
            session = (
                connection.open()
                if isinstance(connection, S3Connection)
                else ebooklet.open_session(connection)
            )
            with session as entered:
                assert entered is session
                assert session.uuid == session.get_uuid() == db.uuid
                assert isinstance(session.uuid, UUID)
                first = session.timestamp
                assert isinstance(first, int)
                assert first == session.get_timestamp()
                assert abs(first - db._copy.clock.now_us()) < 60_000_000
                assert session.get_user_metadata() == {"title": "small"}
                db.set_metadata({"title": "x" * 100_000})  # too large for the head
                db["k"] = 1
                db.push()
                assert session.timestamp == first
                later = session.get_timestamp()
                assert later is not None
                assert later > first
                assert session.timestamp == later
                assert session.get_user_metadata() == {"title": "x" * 100_000}
                assert session.initialized
                assert not session.writable
                objects = {meta.key for meta in session.list_objects()}
                stored = {key for key in place.objects() if ".lock" not in key}
                assert objects == stored
                assert objects == {meta.key for meta in session.list_object_versions()}
            session.close()

    @local_and_moto
    def test_of_a_group(self, place: Place) -> None:
        """Its type is the other name."""
        with place.open(file=None, remote_conn_group=True, value_serializer=None) as db:
            db.push()
        with ebooklet.open_session(place.connect("db")) as session:
            assert session.type == session.get_type() == "RemoteConnGroup"

    def test_writable_is_answered_without_a_probe(self, moto: S3Server) -> None:
        """By flag and credentials; no request tells it, and nothing is put."""
        with CountingProxy(moto.endpoint_url) as proxy:
            connection = moto.at(proxy.url).connection(moto.new_bucket(), "db")
            for flag in NOT_R:
                with connection.open(flag) as session:
                    assert session.writable
            with connection.open("r") as session:
                assert not session.writable
            assert proxy.counts().requests == 0

    def test_without_credentials(self) -> None:
        """Flag r only: any other is a `ValueError`, for a connection and for a URL."""
        public = S3Connection(db_url="http://127.0.0.1:1/db")
        public.open().close()
        for flag in NOT_R:
            with pytest.raises(ValueError, match="can only be read"):
                public.open(flag)
            with pytest.raises(ValueError, match="can only be read"):
                ebooklet.open_session("http://127.0.0.1:1/db", flag)
        with pytest.raises(ValueError, match="unknown flag"):
            FULL.open("x")  # type: ignore[arg-type]  # wrong on purpose

    @local_and_moto
    def test_reading_sessions_change_nothing(self, place: Place) -> None:
        """Every writing member is refused under flag r."""
        with place.open(file=None) as db:
            db.push()
        before = place.objects()
        with ebooklet.open_session(place.connect("db")) as session:
            for use in (
                session.delete_remote,
                session.create_lock,
                session.break_other_locks,
                lambda: session.copy_remote(place.connect("other")),
            ):
                with pytest.raises(ReadOnlyError):
                    use()
        assert place.objects() == before

    @local_and_moto
    def test_closing(self, place: Place) -> None:
        """Idempotent; afterwards whatever would ask is a `ValueError`, and its locks are free."""
        session = ebooklet.open_session(place.connect("db"), "w")
        lock = session.create_lock()
        assert lock.acquire()
        session.close()
        session.close()
        assert not lock.locked()
        place.open(file=None, lock_timeout=0).close()
        for use in (
            session.get_uuid,
            session.get_timestamp,
            session.get_user_metadata,
            session.list_objects,
            session.delete_remote,
            session.create_lock,
            session.break_other_locks,
            lock.acquire,
        ):
            with pytest.raises(ValueError, match="closed"):
                use()


class TestAcceptedElsewhere:
    """What `open` takes for a connection."""

    def test_all_of_them_name_the_same_database(self, moto: S3Server) -> None:
        """A connection, a dict of its parameters, and an entry of a group with keys beside it."""
        connection = moto.connection(moto.new_bucket(), "db")
        parameters = {
            name: getattr(connection, name)
            for name in (
                "access_key_id",
                "access_key",
                "db_key",
                "bucket",
                "endpoint_url",
                "region",
            )
        }
        with ebooklet.open(connection, None, "c", "json") as db:
            db["k"] = 1
            db.push()
        entry = {
            "entry_version": 1,
            "type": "EVariableLengthValue",
            "remote_conn": connection.to_dict(),
            "access_key_id": connection.access_key_id,
            "access_key": connection.access_key,
        }
        for accepted in (connection, parameters, entry):
            with ebooklet.open(accepted, None, "w") as db:
                assert dict(db) == {"k": 1}
            with ebooklet.open_session(accepted) as session:
                assert session.initialized
        # As a group stores it: nothing secret, and so not enough to reach a private database.
        with pytest.raises(ValueError, match="db_url"):
            ebooklet.open({"remote_conn": connection.to_dict()})

    @pytest.mark.parametrize("flag", NOT_R)
    def test_a_plain_url_is_for_reading(self, flag: Any) -> None:
        """Any other flag is a `ValueError`, before any request."""
        with pytest.raises(ValueError, match="can only be read"):
            ebooklet.open("http://127.0.0.1:1/db", None, flag)

    @pytest.mark.parametrize(
        "wrong", [5, b"https://example.com/db", ["a"], object(), {"remote_conn": 7}], ids=type
    )
    def test_anything_else(self, wrong: Any) -> None:
        """A `TypeError`."""
        with pytest.raises(TypeError):
            ebooklet.open(wrong)
        with pytest.raises(TypeError):
            ebooklet.open_session(wrong)

    def test_a_misspelt_parameter_in_a_dict(self) -> None:
        """A `TypeError` that says what was meant, and what there is, without its value."""
        with pytest.raises(
            TypeError, match=r"'bucet'; did you mean 'bucket'\? .*\bregion\b"
        ) as got:
            ebooklet.open({"bucet": SECRET})
        assert SECRET not in str(got.value)

    @pytest.mark.parametrize("remote", ["local.blt", Path("local.blt")])
    def test_remote_and_file_swapped(self, remote: Any) -> None:
        """A URL in the place of the file, and none in its own, is told as that."""
        with pytest.raises(ValueError, match=r"remote_conn is no URL.*look swapped"):
            ebooklet.open(remote, "memory://swapped")

    def test_no_remote_and_no_file(self, tmp_path: Path) -> None:
        """Without a remote, the message names the path that was looked at."""
        path = tmp_path / "none.blt"
        with pytest.raises(ebooklet.RemoteMissingError, match=r"none\.blt', and no remote") as got:
            ebooklet.open(None, path)
        assert got.value.key is None
