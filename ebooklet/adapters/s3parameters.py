"""What clients of S3-compatible servers are made of, whatever the library."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from ebooklet.adapters.retry import Retry
from ebooklet.adapters.urloptions import known_options
from ebooklet.connection import DEFAULT_THREADS, RemoteAddress, S3Connection
from ebooklet.errors import InvalidURLError

__all__ = ["S3Parameters", "options_of", "truth_of"]

_OPTIONS: Final = ("endpoint_url", "region", "unsigned")
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

    @classmethod
    def in_options(cls, address: RemoteAddress, *, example: str) -> tuple[S3Parameters, Retry]:
        """Those of an address whose options are `endpoint_url`, `region` and `unsigned`.

        Raises:
            InvalidURLError: bucket or key is missing, or an option is unknown.
        """
        options = options_of(address, _OPTIONS, example=example)
        unsigned = truth_of(options, "unsigned", address, "false")
        return cls.at(
            address, options.get("endpoint_url"), options.get("region"), unsigned=unsigned
        )

    @property
    def known_endpoint(self) -> str | None:
        """The endpoint, or the one that AWS's own variables name."""
        return (
            self.endpoint_url
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
        )

    def where(self, bucket: str) -> str:
        """The bucket, and its server if it is known without asking a library; for messages."""
        endpoint = self.known_endpoint
        if endpoint is None:
            return f"bucket {bucket!r}"
        parts = urlsplit(endpoint)  # the environment's may hold credentials
        return f"bucket {bucket!r} at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def options_of(address: RemoteAddress, known: Iterable[str], *, example: str) -> dict[str, str]:
    """The options of a URL that names a bucket and a key.

    Args:
        address: the URL.
        known: names of options that its adapter knows.
        example: a right URL, for the message.

    Raises:
        InvalidURLError: bucket or key is missing, or an option is unknown or given twice.
    """
    if not address.netloc or not address.path:
        raise InvalidURLError(f"{address}: the URL needs a bucket and a key, as in {example}")
    return known_options(address, known)


def truth_of(options: dict[str, str], name: str, address: RemoteAddress, default: str) -> bool:
    """An option that is true or false.

    Raises:
        InvalidURLError: it is something else.
    """
    value = options.get(name, default).lower()
    if value not in _TRUE + _FALSE:
        raise InvalidURLError(f"{address}: {name} is true or false")
    return value in _TRUE
