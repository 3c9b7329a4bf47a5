"""obstore's clients, made on first use and configured so that they hide nothing."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from obstore.store import S3Store

from ebooklet.adapters.retry import CONNECT_TIMEOUT_S, Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.errors import ForkedProcessError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

__all__ = ["Clients"]

_FOREVER: Final = timedelta(days=1)  # of a whole request: silence is what counts
_DEFAULT_REGION: Final = "us-east-1"

# obstore runs its requests on threads of its own, one set a process, that a fork leaves behind.
_used_by: int | None = None


class Clients:
    """Two clients of one bucket.

    `single` makes each request once, for callers that repeat as the port demands. `patient`
    repeats the requests of a list or an upload in parts, of which the caller sees only the whole,
    and deletes in bulk.
    """

    def __init__(self, bucket: str, parameters: S3Parameters, retry: Retry) -> None:
        self._bucket = bucket
        self._parameters = parameters
        self._retries = retry.retries
        self._lock = threading.Lock()
        self._made: tuple[S3Store, S3Store] | None = None

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        environment = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return self._parameters.region or environment or _DEFAULT_REGION

    @property
    def endpoint(self) -> str:
        """Scheme, host and port of the server."""
        named = self._parameters.known_endpoint
        return (named or f"https://s3.{self.region}.amazonaws.com").rstrip("/")

    @property
    def single(self) -> S3Store:
        """The client that makes each request once; thread-safe."""
        return self._ready()[0]

    @property
    def patient(self) -> S3Store:
        """The client that repeats requests; thread-safe."""
        return self._ready()[1]

    def close(self) -> None:
        """Forget the clients; the next use makes new ones."""
        with self._lock:
            self._made = None

    def _ready(self) -> tuple[S3Store, S3Store]:
        global _used_by
        if _used_by != os.getpid():
            if _used_by is not None:
                raise ForkedProcessError(
                    "obstore cannot go on in a process forked after its first use: start processes "
                    "by spawn, or choose another driver"
                )
            _used_by = os.getpid()
        made = self._made
        if made is not None:
            return made
        with self._lock:
            if self._made is None:
                self._made = self._client(0), self._client(max(1, self._retries))
            return self._made

    def _client(self, retries: int) -> S3Store:
        wanted = self._parameters
        options: ClientConfig = {
            "allow_http": self.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=wanted.read_timeout_s),
            "timeout": _FOREVER,
            "pool_max_idle_per_host": str(2 * wanted.connections),
            "user_agent": "ebooklet",
        }
        config: S3Config = {
            "endpoint": self.endpoint,
            "region": self.region,
            "skip_signature": wanted.unsigned,
            "virtual_hosted_style_request": False,
            # obstore deletes even one object by a bulk request, which JuiceFS refuses from it.
            "disable_bulk_delete": retries == 0,
        }
        if wanted.access_key_id and wanted.access_key:
            config["access_key_id"] = wanted.access_key_id
            config["secret_access_key"] = wanted.access_key
        return S3Store(
            self._bucket,
            config=config,
            client_options=options,
            retry_config={"max_retries": retries},
        )
