"""The remote store of S3-compatible servers."""

from __future__ import annotations

from typing import Final

from ebooklet.adapters.remote.boto3.requests import Boto3Requests
from ebooklet.adapters.requests import RequestingStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters, options_of, truth_of
from ebooklet.connection import RemoteAddress

__all__ = ["Boto3RemoteStore", "open_store"]

_OPTIONS: Final = ("endpoint_url", "region", "unsigned")


class Boto3RemoteStore(RequestingStore):
    """One bucket. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; those left out come from boto3's usual
            sources (environment, profiles, instance roles).
        retry: how reads and unconditional writes are repeated.

    Example:
        >>> store = Boto3RemoteStore("bucket", S3Parameters(endpoint_url="http://127.0.0.1:9000"))
        >>> store
        Boto3RemoteStore(bucket='bucket', endpoint_url='http://127.0.0.1:9000')
    """

    def __init__(
        self,
        bucket: str,
        parameters: S3Parameters | None = None,
        *,
        retry: Retry | None = None,
    ) -> None:
        parameters, retry = parameters or S3Parameters(), retry or Retry()
        super().__init__(
            Boto3Requests(bucket, parameters, retry), threads=parameters.connections, retry=retry
        )
        self._shown = f"bucket={bucket!r}, endpoint_url={parameters.endpoint_url!r}"

    def __repr__(self) -> str:
        return f"Boto3RemoteStore({self._shown})"


def open_store(address: RemoteAddress) -> tuple[Boto3RemoteStore, str]:
    """Open `s3://bucket/key`, with the parameters of its connection or boto3's usual sources.

    Options of a URL without a connection: `endpoint_url`, `region`, and `unsigned=true` for
    public buckets.

    Raises:
        ValueError: bucket or key is missing, or an option is unknown.
    """
    options = options_of(address, _OPTIONS, example="s3://bucket/key")
    unsigned = truth_of(options, "unsigned", address, "false")
    parameters, retry = S3Parameters.at(
        address, options.get("endpoint_url"), options.get("region"), unsigned=unsigned
    )
    return Boto3RemoteStore(address.netloc, parameters, retry=retry), address.path
