"""MinIO's clients, made on first use and configured so that they hide nothing."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import (
    ChainedProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    Provider,
    StaticProvider,
)
from minio.sse import Sse

from ebooklet.adapters.remote.minio.transport import Transport
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.adapters.serverclock import ServerClock

__all__ = ["Clients", "Header"]

_AWS = "https://s3.amazonaws.com"


class Header(Sse):
    """A header that is sent, and signed, with a put.

    The client's `metadata` would make `x-amz-meta-if-match` of a condition, and overwrite. What it
    takes of the public class `Sse` is headers, whatever they are.
    """

    def __init__(self, name: str, value: str) -> None:
        self._headers = {name: value}

    def headers(self) -> dict[str, str]:
        """The header."""
        return dict(self._headers)

    def tls_required(self) -> bool:
        """No: it is no encryption key."""
        return False


@dataclass(frozen=True)
class _Made:
    owner: int  # the process that made them: connections must not cross a fork
    single: Minio
    patient: Minio


class Clients:
    """Two clients of one server, made anew in a forked child.

    `single` makes each request once, for callers that repeat as the port demands. `patient`
    repeats the requests of a list or an upload in parts, of which the caller sees only the whole.
    """

    def __init__(self, bucket: str, parameters: S3Parameters, retry: Retry) -> None:
        self._bucket = bucket
        self._parameters = parameters
        self._retry = retry
        self._lock = threading.Lock()
        self._made: _Made | None = None
        self.clock = ServerClock()

    @property
    def endpoint(self) -> str:
        """Scheme, host and port of the server; without anything a URL could hide."""
        parts = urlsplit(self._parameters.endpoint_url or _AWS)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def where(self) -> str:
        """Bucket and endpoint, for messages."""
        return f"bucket {self._bucket!r} at {self.endpoint}"

    @property
    def single(self) -> Minio:
        """The client that makes each request once; thread-safe."""
        return self._ready().single

    @property
    def patient(self) -> Minio:
        """The client that repeats requests; thread-safe."""
        return self._ready().patient

    def close(self) -> None:
        """Forget the clients, which closes their connections; the next use makes new ones."""
        with self._lock:
            self._made = None

    def _ready(self) -> _Made:
        made = self._made
        if made is not None and made.owner == os.getpid():
            return made
        with self._lock:
            if self._made is None or self._made.owner != os.getpid():
                self._made = _Made(os.getpid(), self._client(None), self._client(self._retry))
            return self._made

    def _client(self, retry: Retry | None) -> Minio:
        wanted = self._parameters
        parts = urlsplit(wanted.endpoint_url or _AWS)
        region = wanted.region or os.environ.get("AWS_REGION")
        if region is None and wanted.endpoint_url is not None:
            region = "us-east-1"  # else each client asks the server first, which few others need
        return Minio(
            parts.netloc + parts.path.rstrip("/"),
            secure=parts.scheme == "https",
            region=region,
            credentials=_provider(wanted),
            http_client=Transport(self.where, wanted, self.clock, retry),
        )


class _Unshown(Credentials):
    """Credentials of which `repr` shows nothing.

    The secret key is in that of MinIO's own, and so in every traceback with local variables of a
    request that failed.
    """

    def __repr__(self) -> str:
        return "<Credentials>"


class _Hiding(Provider):
    """Another's credentials, not shown."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    def retrieve(self) -> Credentials:
        """Ask the other, which renews them if need be."""
        found = self._inner.retrieve()
        return _Unshown(found.access_key, found.secret_key, found.session_token, found.expiration)


def _provider(parameters: S3Parameters) -> Provider | None:
    if parameters.unsigned:
        return None
    if parameters.access_key_id and parameters.access_key:
        return _Hiding(StaticProvider(parameters.access_key_id, parameters.access_key))
    return _Hiding(ChainedProvider([EnvMinioProvider(), EnvAWSProvider()]))
