"""Clients of botocore, configured so that they do one thing at a time and hide nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.hooks import HierarchicalEmitter
from botocore.loaders import create_loader

from ebooklet.adapters.outgoing import content_md5
from ebooklet.adapters.remote.boto3.reads import DirectReads
from ebooklet.adapters.retry import CONNECT_TIMEOUT_S
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.adapters.serverclock import ServerClock

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from mypy_boto3_s3.client import S3Client

__all__ = ["Client", "MakeClient"]

MakeClient: TypeAlias = Callable[..., Any]
"""`client` of a `boto3.Session`, or `create_client` of botocore's."""

# What sessions share, as nothing in it is of one user: service descriptions, read from disk once,
# and handlers, looked at and sorted in once. A client takes 5 ms instead of 140.
_loader: Final = create_loader()


@cache
def _handlers() -> HierarchicalEmitter:
    """Those that botocore registers for every session; to be copied, never used."""
    events = HierarchicalEmitter()
    botocore.session.Session(event_hooks=events)
    return events


class Client:
    """One botocore client, made on first use and made anew in a forked child.

    It repeats nothing by itself: whether a request may be repeated depends on what it does.

    Args:
        parameters: what it is made of.
        make: makes it; None for a session of its own, with the credentials of the parameters.
    """

    def __init__(self, parameters: S3Parameters, make: MakeClient | None = None) -> None:
        self._parameters = parameters
        self._make = make
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._reads: DirectReads | None = None
        self._owner = 0  # the process that made it: connections must not cross a fork
        self.clock = ServerClock()

    @property
    def s3(self) -> S3Client:
        """The client; thread-safe."""
        client = self._client
        if client is not None and self._owner == os.getpid():
            return client
        with self._lock:
            if self._client is None or self._owner != os.getpid():
                made = self._made()
                self._reads = DirectReads(made, self.clock) if self._make is None else None
                self._client, self._owner = made, os.getpid()
            return self._client

    @property
    def reads(self) -> DirectReads | None:
        """Reads past most of the client; None where an application made it.

        Its handlers may have to see each request.
        """
        _ = self.s3  # makes both, in this process
        return self._reads

    @property
    def endpoint(self) -> str:
        """Scheme, host and port of the server; without anything a URL could hide."""
        parts = urlsplit(self.s3.meta.endpoint_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            client, self._client, self._reads = self._client, None, None
            if client is not None and self._owner == os.getpid():
                client.close()

    def _made(self) -> S3Client:
        wanted = self._parameters
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=wanted.read_timeout_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=2 * wanted.connections,  # reads and writes at once
            # With boto3's defaults ranged reads and https writes fail on servers that are not AWS.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            signature_version=UNSIGNED if wanted.unsigned else None,
            s3={"addressing_style": "path"} if wanted.endpoint_url else None,
            tcp_keepalive=True,
            user_agent_extra="ebooklet",
        )
        client = cast(
            "S3Client",
            (self._make or self._by_parameters)(
                "s3", region_name=wanted.region, endpoint_url=wanted.endpoint_url, config=config
            ),
        )
        client.meta.events.register("after-call.s3", self._note_date)
        client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
        return client

    def _by_parameters(self, service: str, **arguments: Any) -> object:
        session = botocore.session.Session(
            event_hooks=copy(_handlers()), include_builtin_handlers=False
        )
        session.register_component("data_loader", _loader)
        if self._parameters.access_key_id and self._parameters.access_key:
            session.set_credentials(self._parameters.access_key_id, self._parameters.access_key)
        return session.create_client(service, **arguments)

    def _note_date(self, parsed: Mapping[str, object], **_: object) -> None:
        metadata = parsed.get("ResponseMetadata")
        headers = metadata.get("HTTPHeaders") if isinstance(metadata, Mapping) else None
        text = headers.get("date") if isinstance(headers, Mapping) else None
        if isinstance(text, str):
            self.clock.note(text)


def _add_md5(request: AWSRequest, **_: object) -> None:
    """JuiceFS, and others of MinIO's old code, refuse a bulk deletion without it."""
    body: object = request.body
    if isinstance(body, (bytes, bytearray)):
        request.headers["Content-MD5"] = content_md5(body)
