"""How the minio store is opened: credentials, URLs, and what it sends of a condition."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from ebooklet.adapters.remote.minio import MinioRemoteStore, open_store
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.errors import AccessDenied, StoreError
from ebooklet.testing.servers import S3Server

KEYS = ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def url(server: S3Server, bucket: str, options: str = "") -> RemoteAddress:
    host = urlsplit(server.endpoint_url).netloc
    return RemoteAddress.parse(f"minio://{host}/{bucket}/a/db?secure=false{options}")


@pytest.fixture
def opened() -> Iterator[list[MinioRemoteStore]]:
    stores: list[MinioRemoteStore] = []
    yield stores
    for store in stores:
        store.close()


@pytest.mark.parametrize("names", [KEYS[:2], KEYS[2:]])
def test_credentials_of_the_environment(
    seaweedfs: S3Server,
    names: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    opened: list[MinioRemoteStore],
) -> None:
    """MinIO's variables serve, and those of AWS."""
    monkeypatch.setenv(names[0], seaweedfs.access_key_id)
    monkeypatch.setenv(names[1], seaweedfs.access_key)
    bucket = seaweedfs.new_bucket()
    store, key = open_store(url(seaweedfs, bucket))
    opened.append(store)
    store.put(key, b"body")
    assert (key, store.get("a/db").body) == ("a/db", b"body")
    assert store.location == f"{seaweedfs.endpoint_url}/{bucket}"


def test_no_credentials(seaweedfs: S3Server, opened: list[MinioRemoteStore]) -> None:
    """Nothing to sign with is `AccessDenied` with the ways out; unsigned requests are sent."""
    bucket = seaweedfs.new_bucket()
    store, _ = open_store(url(seaweedfs, bucket))
    public, _ = open_store(url(seaweedfs, bucket, "&unsigned=true"))
    opened += [store, public]
    with pytest.raises(AccessDenied, match="MINIO_ACCESS_KEY"):
        store.get("k")
    assert not public.capabilities.writable
    with pytest.raises(AccessDenied, match="status 403"):
        public.get("k")


def test_a_connection_names_the_driver(moto: S3Server, opened: list[MinioRemoteStore]) -> None:
    """`driver="minio"` leads here, with the connection's keys, endpoint and limits."""
    bucket = moto.new_bucket()
    address = moto.connection(bucket, "a/db", driver="minio").address()
    assert address.scheme == "minio"
    store, key = open_store(address)
    opened.append(store)
    store.put(key, b"body")
    assert store.get("a/db").body == b"body"


@pytest.mark.parametrize(
    ("endpoint_url", "problem"),
    [("http://127.0.0.1:9/with/a/path", "check the endpoint"), (None, "s3.amazonaws.com")],
)
def test_endpoints(endpoint_url: str | None, problem: str, opened: list[MinioRemoteStore]) -> None:
    """AWS is the default; an endpoint that the client cannot use is said to be one."""
    connection = S3Connection("id", "secret", "db", "bucket", endpoint_url, driver="minio")
    store, _ = open_store(connection.address())
    opened.append(store)
    if endpoint_url is None:
        assert problem in store.location
    else:
        with pytest.raises(StoreError, match=problem):
            store.get("k")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("minio://host:9000", "a bucket and a key"),
        ("minio://host:9000/bucket", "a host, a bucket and a key"),
        ("minio:///bucket/key", "a bucket and a key"),
        ("minio://host/bucket/key?tls=no", "unknown options"),
        ("minio://host/bucket/key?secure=perhaps", "true or false"),
    ],
)
def test_urls_that_name_no_database(text: str, problem: str) -> None:
    """What is wrong with a URL is said before anything is sent."""
    with pytest.raises(ValueError, match=problem):
        open_store(RemoteAddress.parse(text))
