"""How the boto3 store is opened: credentials and URLs."""

from __future__ import annotations

import pytest

from ebooklet.adapters.remote.boto3 import open_store
from ebooklet.connection import RemoteAddress
from ebooklet.errors import AccessDenied
from ebooklet.testing.servers import S3Server


def test_no_credentials(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to sign with is `AccessDenied` with the ways out; unsigned requests are sent."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweedfs.endpoint_url)
    bucket = seaweedfs.new_bucket()
    store, key = open_store(RemoteAddress.parse(f"s3://{bucket}/a/db"))
    assert key == "a/db"
    with pytest.raises(AccessDenied, match="no usable credentials"):
        store.get("k")
    store.close()
    public, _ = open_store(RemoteAddress.parse(f"s3://{bucket}/a/db?unsigned=true"))
    assert not public.capabilities.writable
    with pytest.raises(AccessDenied, match="status 403"):
        public.get("k")
    public.close()


def test_usual_credentials(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection, boto3's environment variables serve, the endpoint's too."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.access_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweedfs.endpoint_url)
    bucket = seaweedfs.new_bucket()
    store, _ = open_store(RemoteAddress.parse(f"s3://{bucket}/db"))
    store.put("k", b"body")
    assert store.get("k").body == b"body"
    assert store.location == f"{seaweedfs.endpoint_url}/{bucket}"
    store.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://bucket", "a bucket and a key"),
        ("s3:///key", "a bucket and a key"),
        ("s3://bucket/key?anonymous=1", "unknown options"),
        ("s3://bucket/key?unsigned=perhaps", "true or false"),
    ],
)
def test_urls_that_name_no_database(url: str, problem: str) -> None:
    """What is wrong with a URL is said before anything is sent."""
    with pytest.raises(ValueError, match=problem):
        open_store(RemoteAddress.parse(url))
