"""The main line on real servers: what it costs, and how it fails."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import booklet
import pytest

import ebooklet
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    LockLostError,
    LockTimeout,
    RemoteUnavailable,
)
from ebooklet.services.request import Flag
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server

KEYS = 100_000


def test_a_life(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    """Create, push, change, push, read cold, edit with plain Booklet, push, delete."""
    connection = s3_server.connection(bucket, "folder/my db+é")
    with ebooklet.open(connection, tmp_path / "a.blt", "c", value_serializer="orjson") as db:
        db.update({f"k{n:04}": {"n": n, "text": "x" * n} for n in range(500)})
        db.set_metadata({"title": "test"})
        assert db.push()
        db["k0001"] = "changed"
        del db["k0002"]
        assert [c["kind"] for c in db.changes()] == ["modified", "deleted"]
        assert db.push("second")
    plain = booklet.open(str(tmp_path / "a.blt"), "w")
    plain["k0003"] = "by plain booklet"
    del plain["k0004"]
    plain.close()
    with ebooklet.open(connection, tmp_path / "a.blt", "w", history=0) as db:
        assert db.changes().push()
        collected = db.gc(grace=timedelta(0))
        assert collected
        assert (collected.n_commits, collected.n_expired) == (1, 2)
        assert collected.deleted
    with ebooklet.open(connection, tmp_path / "b.blt") as db:
        assert len(db) == 498
        assert db["k0001"] == "changed"
        assert db["k0003"] == "by plain booklet"
        assert db.get("k0002") is db.get("k0004") is None
        assert db["k0499"] == {"n": 499, "text": "x" * 499}
        assert db.get_metadata() == {"title": "test"}
        assert db.load_items() == {}
        with ebooklet.open(connection, tmp_path / "a.blt") as other:
            assert db == other


def test_two_writers_wait_for_each_other(s3_server: S3Server, bucket: str, tmp_path: Path) -> None:
    """The second times out naming the first; forced, it takes over, and the first notices."""
    connection = s3_server.connection(bucket, "db")
    with ebooklet.open(connection, tmp_path / "a.blt", "c", value_serializer="json") as db:
        db["a"] = 1
        db.push()
        with pytest.raises(LockTimeout, match=socket.gethostname()):
            ebooklet.open(connection, tmp_path / "b.blt", "w", lock_timeout=1)
        if s3_server.mode_expected == "cas":
            with ebooklet.open(connection, tmp_path / "b.blt", "w", force_lock=True) as other:
                other["b"] = 2
                other.push()
            db["c"] = 3
            with pytest.raises(LockLostError):
                db.push()
            assert [change["key"] for change in db.changes()] == ["c"]
            with ebooklet.open(connection, tmp_path / "b.blt") as reader:
                assert dict(reader.items()) == {"a": 1, "b": 2}


@pytest.fixture(scope="module")
def large(
    seaweedfs: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[S3Server, str, Path]:
    """100,000 keys of 1 KB on a server, and the writer's local file."""
    folder = tmp_path_factory.mktemp("large")
    bucket = seaweedfs.new_bucket()
    body = random.Random(0).randbytes(1000)
    with ebooklet.open(
        seaweedfs.connection(bucket, "db"), folder / "w.blt", "c", value_serializer="bytes"
    ) as db:
        db.update({f"key-{n:08}": n.to_bytes(4) + body for n in range(KEYS)})
        result = db.push()
        assert result.n_set == KEYS
        assert result.bytes_up <= KEYS * (1004 * 1.05 + 30)
    return seaweedfs, bucket, folder


def test_a_small_push_costs_little(large: tuple[S3Server, str, Path]) -> None:
    """Ten of 100,000 keys: 250 KB up and six requests, opening, locking and closing included."""
    server, bucket, folder = large
    with CountingProxy(server.endpoint_url) as proxy:
        connection = replace(server.connection(bucket, "db"), endpoint_url=proxy.url)
        with ebooklet.open(connection, folder / "w.blt", "w") as db:
            proxy_at_open = proxy.counts().requests
            assert not list(db.changes())
            assert proxy.counts().requests == proxy_at_open
            for n in range(10):
                db[f"key-{n * 9_973:08}"] = b"changed"
            assert len(db) == KEYS
            assert len(list(db.changes())) == 10
            assert proxy.counts().requests == proxy_at_open
            assert db.push().n_set == 10
        counts = proxy.counts()
        assert counts.requests <= 6
        assert counts.bytes_up <= 250_000


def test_a_cold_open_and_one_key_cost_little(large: tuple[S3Server, str, Path]) -> None:
    """40 KB and four requests of a 100 MB database."""
    server, bucket, folder = large
    with CountingProxy(server.endpoint_url) as proxy:
        connection = replace(server.connection(bucket, "db"), endpoint_url=proxy.url)
        with ebooklet.open(connection, folder / "cold.blt") as db:
            assert db["key-00055555"][:4] == (55_555).to_bytes(4)
            assert len(db) == KEYS
        counts = proxy.counts()
        assert counts.requests <= 4
        assert counts.bytes_down <= 40_000
        proxy.reset()
        with ebooklet.open(connection, folder / "cold.blt") as db:
            assert db["key-00055555"][:4] == (55_555).to_bytes(4)
        assert proxy.counts().requests == 1


def test_neighbours_and_many_keys_share_requests(large: tuple[S3Server, str, Path]) -> None:
    """A thousand neighbouring keys take a handful of requests; everything, a few dozen."""
    server, bucket, folder = large
    with CountingProxy(server.endpoint_url) as proxy:
        connection = replace(server.connection(bucket, "db"), endpoint_url=proxy.url)
        with ebooklet.open(connection, folder / "many.blt") as db:
            before = proxy.counts().requests
            keys = [f"key-{n:08}" for n in range(40_000, 41_000)]
            db.load_items(keys)
            assert proxy.counts().requests - before <= 6
            assert db.load_items() == {}
            after = proxy.counts()
            assert after.requests <= 60
            assert after.bytes_down <= KEYS * 1004 * 1.05 + KEYS * 30
            assert len(dict(db.items())) == KEYS
            assert proxy.counts().requests == after.requests


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("flag", ["r", "c"])
@pytest.mark.parametrize("what", ["wrong secret", "no bucket", "no server"])
def test_failures_are_typed_quick_and_leave_nothing(
    seaweedfs: S3Server, tmp_path: Path, what: str, flag: Flag
) -> None:
    """Each names what is wrong and what to do; no file, no lock, no secret in the message."""
    bucket = seaweedfs.new_bucket()
    good = seaweedfs.connection(bucket, "db")
    secret = "x" * 40
    connection, error = {
        "wrong secret": (replace(good, access_key=secret), AccessDenied),
        "no bucket": (replace(good, bucket="no-such-bucket"), BucketMissingError),
        "no server": (
            replace(good, endpoint_url=f"http://127.0.0.1:{free_port()}"),
            RemoteUnavailable,
        ),
    }[what]
    began = time.monotonic()
    with pytest.raises(error) as caught:
        ebooklet.open(connection, tmp_path / "a.blt", flag)
    assert time.monotonic() - began < 30
    message = str(caught.value)
    assert secret not in message
    assert good.access_key is not None
    assert good.access_key not in message
    assert str(connection.bucket) in message or str(connection.endpoint_url) in message
    assert list(tmp_path.iterdir()) == []
    with ebooklet.open(good, tmp_path / "a.blt", "c", value_serializer="json") as db:
        db["a"] = 1
        db.push()
    with pytest.raises(error):
        ebooklet.open(connection, tmp_path / "a.blt", "w")
    with ebooklet.open(good, tmp_path / "a.blt", "w", lock_timeout=2) as db:
        assert db["a"] == 1
