"""How the obstore store is opened: credentials and URLs."""

from __future__ import annotations

import pytest

from ebooklet.adapters.remote.obstore import open_store
from ebooklet.connection import RemoteAddress
from ebooklet.errors import AccessDenied
from ebooklet.testing.servers import S3Server


def test_usual_credentials(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection the variables of AWS serve, the endpoint's too."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.access_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweedfs.endpoint_url)
    bucket = seaweedfs.new_bucket()
    store, key = open_store(RemoteAddress.parse(f"obstore+s3://{bucket}/a/db"))
    store.put(key, b"body")
    assert (key, store.get("a/db").body) == ("a/db", b"body")
    assert store.location == f"{seaweedfs.endpoint_url}/{bucket}"
    store.close()


def test_a_connection_names_the_driver(moto: S3Server) -> None:
    """`driver="obstore"` leads here, with the connection's keys, endpoint and limits."""
    bucket = moto.new_bucket()
    address = moto.connection(bucket, "a/db", driver="obstore").address()
    assert address.scheme == "obstore+s3"
    store, key = open_store(address)
    store.put(key, b"body")
    assert store.get("a/db").body == b"body"
    store.close()


def test_unsigned_requests(seaweedfs: S3Server) -> None:
    """A public bucket is read without keys, and never written."""
    bucket = seaweedfs.new_bucket()
    url = f"obstore+s3://{bucket}/db?unsigned=true&endpoint_url={seaweedfs.endpoint_url}"
    store, _ = open_store(RemoteAddress.parse(url))
    assert not store.capabilities.writable
    with pytest.raises(AccessDenied, match="status 403"):
        store.get("k")
    store.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("obstore+s3://bucket", "a bucket and a key"),
        ("obstore+gs://bucket/key", "fsspec"),
        ("obstore+s3://bucket/key?anonymous=1", "unknown options"),
    ],
)
def test_urls_that_name_no_database(url: str, problem: str) -> None:
    """What is wrong with a URL is said before anything is sent."""
    with pytest.raises(ValueError, match=problem):
        open_store(RemoteAddress.parse(url))
