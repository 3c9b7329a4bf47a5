"""How the boto3 store is opened: credentials and URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from ebooklet.adapters.remote.boto3 import Boto3RemoteStore, open_store
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.connection import RemoteAddress
from ebooklet.errors import AccessDenied
from ebooklet.testing.servers import REGION, S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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


def test_a_session_of_the_application(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients made by a session have its credentials and our configuration; none are given twice."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody else")
    session = boto3.Session(seaweedfs.access_key_id, seaweedfs.access_key, region_name=REGION)
    bucket = seaweedfs.new_bucket()
    asked: list[Any] = []  # the stubs leave out what a Config was made with

    def make_client(service: str, *, config: Config, **place: Any) -> S3Client:
        asked.append(config)
        assert service == "s3"
        return session.client("s3", config=config, **place)

    where = S3Parameters(endpoint_url=seaweedfs.endpoint_url)
    store = Boto3RemoteStore(bucket, where, make_client=make_client)
    other = Boto3RemoteStore(bucket, where, make_client=session.client)
    store.put("k", b"body")
    assert other.get("k").body == b"body"
    assert [config.retries["total_max_attempts"] for config in asked] == [1]
    assert store.copies_from(store.origin)
    assert not store.copies_from(other.origin)
    store.close()
    other.close()
    with pytest.raises(ValueError, match="come from the session"):
        Boto3RemoteStore(
            bucket, S3Parameters(access_key_id="a", access_key="b"), make_client=make_client
        )


def test_an_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with its variable and the server; what the server's URL hides is not."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://id:s3cr3t@127.0.0.1:9")
    store, _ = open_store(RemoteAddress.parse("s3://bucket/db"))
    says = r"bucket 'bucket' at http://127\.0\.0\.1:9: the profile 'nobody' .* AWS_PROFILE"
    for use in (lambda: store.get("k"), lambda: store.location):
        with pytest.raises(AccessDenied, match=says):
            use()
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
