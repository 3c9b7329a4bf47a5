"""What clients of S3-compatible servers are made of, whatever the library."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ebooklet.adapters.outgoing import MAX_PUT_BYTES
from ebooklet.adapters.retry import Retry
from ebooklet.connection import DEFAULT_THREADS, RemoteAddress, S3Connection
from ebooklet.ports.remote_store import Capabilities, Origin

__all__ = ["S3Parameters", "options_of", "truth_of"]

_MAX_COPY_BYTES: Final = 5 << 30  # S3's limit of one CopyObject
_TRUE: Final = ("", "1", "true", "yes")
_FALSE: Final = ("0", "false", "no")


@dataclass(frozen=True)
class S3Parameters:
    """Where a server is and how to talk to it; `None` leaves it to the library's usual sources."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    access_key: str | None = field(default=None, repr=False)
    unsigned: bool = False
    connections: int = DEFAULT_THREADS
    read_timeout_s: float = 60

    @classmethod
    def of(cls, connection: S3Connection, *, unsigned: bool = False) -> S3Parameters:
        """Those of a connection."""
        return cls(
            endpoint_url=connection.endpoint_url,
            region=connection.region,
            access_key_id=connection.access_key_id,
            access_key=connection.access_key,
            unsigned=unsigned,
            connections=connection.threads,
            read_timeout_s=connection.read_timeout,
        )

    @classmethod
    def at(
        cls,
        address: RemoteAddress,
        endpoint_url: str | None,
        region: str | None,
        *,
        unsigned: bool,
    ) -> tuple[S3Parameters, Retry]:
        """Those of an address: its connection's, or what its URL says where it has none."""
        if address.connection is not None:
            return cls.of(address.connection, unsigned=unsigned), Retry(address.connection.retries)
        return cls(endpoint_url, region, unsigned=unsigned), Retry()

    @property
    def known_endpoint(self) -> str | None:
        """The endpoint, or the one that AWS's own variables name."""
        return (
            self.endpoint_url
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
        )

    @property
    def capabilities(self) -> Capabilities:
        """What S3's protocol offers; servers differ in what they keep of it."""
        return Capabilities(
            conditional_put=True,
            server_side_copy=not self.unsigned,
            max_copy_bytes=_MAX_COPY_BYTES,
            ranges=True,
            writable=not self.unsigned,
            max_put_bytes=MAX_PUT_BYTES,
            shared=True,
        )

    def origin(self, endpoint: str, bucket: str, library: str) -> Origin:
        """The bucket, to all clients of its server with the same keys, whatever their library.

        Keys that the library found by itself are known to it alone.
        """
        identity = "unsigned" if self.unsigned else self.access_key_id or f"as {library} finds"
        return Origin(("s3", endpoint, identity), bucket)


def options_of(address: RemoteAddress, known: Iterable[str], *, example: str) -> dict[str, str]:
    """The options of a URL that names a bucket and a key.

    Args:
        address: the URL.
        known: names of options that its adapter knows.
        example: a right URL, for the message.

    Raises:
        ValueError: bucket or key is missing, or an option is unknown.
    """
    if not address.netloc or not address.path:
        raise ValueError(f"{address}: the URL needs a bucket and a key, as in {example}")
    options = dict(address.options)
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(f"{address}: unknown options {unknown}; known: {', '.join(known)}")
    return options


def truth_of(options: dict[str, str], name: str, address: RemoteAddress, default: str) -> bool:
    """An option that is true or false.

    Raises:
        ValueError: it is something else.
    """
    value = options.get(name, default).lower()
    if value not in _TRUE + _FALSE:
        raise ValueError(f"{address}: {name} is true or false")
    return value in _TRUE
