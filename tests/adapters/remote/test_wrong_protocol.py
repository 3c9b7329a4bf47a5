"""A URL of the wrong protocol, and a certificate of a stranger: every store says what to write."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from ebooklet.adapters.remote.boto3 import Boto3RemoteStore
from ebooklet.adapters.remote.fsspec import S3fsRemoteStore
from ebooklet.adapters.remote.http import HttpRemoteStore
from ebooklet.adapters.remote.minio import MinioRemoteStore
from ebooklet.adapters.remote.obstore import ObstoreRemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.errors import AccessDenied, RemoteUnavailable, StoreError
from ebooklet.ports.remote_store import RemoteStore
from tests.odd_servers import playing, saying, self_signed

S3: dict[str, tuple[Callable[..., RemoteStore], str]] = {
    "boto3": (Boto3RemoteStore, "AWS_CA_BUNDLE"),
    "minio": (MinioRemoteStore, "SSL_CERT_FILE"),
    "obstore": (ObstoreRemoteStore, "SSL_CERT_FILE"),
    "fsspec": (S3fsRemoteStore, "AWS_CA_BUNDLE"),
}


def opener(driver: str) -> Callable[[str], RemoteStore]:
    """What opens a store of the driver at an endpoint."""
    if driver == "http":
        return lambda endpoint: HttpRemoteStore(f"{endpoint}/db", retries=0)
    made = S3[driver][0]

    def at(endpoint: str) -> RemoteStore:
        where = S3Parameters(endpoint_url=endpoint, access_key_id="id", access_key="key")
        return made("bucket", where, retry=Retry(0))

    return at


@pytest.mark.parametrize("driver", [*S3, "http"])
def test_a_wrong_protocol(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which server, what is wrong, and what to write; a server that is vouched for is read."""
    trusting = S3[driver][1] if driver in S3 else "SSL_CERT_FILE"
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    open_at = opener(driver)
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def failure(endpoint: str) -> StoreError:
        store = open_at(endpoint)
        with pytest.raises(StoreError, match=re.escape(endpoint)) as caught:
            store.get("db")
        store.close()
        return caught.value

    with playing(saying(403)) as plain, playing(saying(403), context) as tls:
        no_tls = failure(plain.url.replace("http://", "https://"))
        assert isinstance(no_tls, RemoteUnavailable)
        assert "speaks no TLS" in str(no_tls)
        assert "begins with http://" in str(no_tls)

        closed = failure(tls.url.replace("https://", "http://"))
        assert isinstance(closed, RemoteUnavailable)
        assert "write https://" in str(closed)

        stranger = failure(tls.url)
        assert not isinstance(stranger, RemoteUnavailable)
        assert f"{trusting} names a file" in str(stranger)
        monkeypatch.setenv(trusting, str(certificate))
        assert isinstance(failure(tls.url), AccessDenied)
