"""What the adapters of S3-compatible servers have in common, whatever the library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ebooklet.adapters.objects import copies
from ebooklet.adapters.outgoing import MAX_PUT_BYTES
from ebooklet.adapters.requests import RequestingStore, Requests
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.ports.remote_store import Capabilities, Origin

__all__ = ["S3Bucket", "S3RemoteStore"]

_MAX_COPY_BYTES: Final = 5 << 30  # S3's limit of one CopyObject


@dataclass(frozen=True)
class S3Bucket:
    """One bucket, as the clients of one library reach it."""

    name: str
    parameters: S3Parameters
    library: str
    find_endpoint: Callable[[], str] = field(repr=False)  # may make a client
    names_others: bool = True  # whether the library can copy from another bucket

    @property
    def endpoint(self) -> str:
        """The server's URL: scheme, host and port."""
        return self.find_endpoint()

    @property
    def location(self) -> str:
        """Endpoint and bucket."""
        return f"{self.endpoint}/{self.name}"

    @property
    def origin(self) -> Origin:
        """The bucket, to all clients of its server with the same keys, whatever their library.

        Keys that the library found by itself are known to it alone.
        """
        wanted = self.parameters
        identity = "unsigned" if wanted.unsigned else wanted.access_key_id
        realm = ("s3", self.endpoint, identity or f"as {self.library} finds")
        return Origin(realm, self.name)

    @property
    def capabilities(self) -> Capabilities:
        """What S3's protocol offers; servers differ in what they keep of it."""
        signed = not self.parameters.unsigned
        return Capabilities(
            conditional_put=True,
            server_side_copy=signed,
            max_copy_bytes=_MAX_COPY_BYTES,
            ranges=True,
            writable=signed,
            max_put_bytes=MAX_PUT_BYTES,
            shared=True,
        )

    def copies_from(self, origin: Origin | None) -> bool:
        """Buckets of the same server with the same keys, or this bucket only."""
        if self.parameters.unsigned:
            return False
        own = self.origin
        return copies(own, origin) if self.names_others else own == origin


class S3RemoteStore(RequestingStore, ABC):
    """One bucket. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; what is left out the library looks for in
            its usual sources.
        retry: how reads and unconditional writes are repeated.
    """

    def __init__(
        self,
        bucket: str,
        parameters: S3Parameters | None = None,
        *,
        retry: Retry | None = None,
    ) -> None:
        parameters, retry = parameters or S3Parameters(), retry or Retry()
        requests = self._requests_of(bucket, parameters, retry)
        super().__init__(requests, threads=parameters.connections, retry=retry)
        self._shown = f"bucket={bucket!r}, endpoint_url={parameters.endpoint_url!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown})"

    @abstractmethod
    def _requests_of(self, bucket: str, parameters: S3Parameters, retry: Retry) -> Requests:
        """The requests of the library."""
        ...
