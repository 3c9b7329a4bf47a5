"""The remote store of S3-compatible servers, through obstore."""

from __future__ import annotations

from typing import Final

from ebooklet.adapters.remote.obstore.requests import ObstoreRequests
from ebooklet.adapters.requests import RequestingStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters, options_of, truth_of
from ebooklet.connection import RemoteAddress

__all__ = ["ObstoreRemoteStore", "open_store"]

_SCHEME: Final = "obstore+s3"
_OPTIONS: Final = ("endpoint_url", "region", "unsigned")


class ObstoreRemoteStore(RequestingStore):
    """One bucket. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; those left out come from the environment
            (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL), keys also
            from the machine's role.
        retry: how reads and unconditional writes are repeated.

    Example:
        >>> ObstoreRemoteStore("bucket", S3Parameters(endpoint_url="http://127.0.0.1:9000"))
        ObstoreRemoteStore('http://127.0.0.1:9000/bucket')
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
            ObstoreRequests(bucket, parameters, retry), threads=parameters.connections, retry=retry
        )

    def __repr__(self) -> str:
        return f"ObstoreRemoteStore({self.location!r})"


def open_store(address: RemoteAddress) -> tuple[ObstoreRemoteStore, str]:
    """Open `obstore+s3://bucket/key`, with the parameters of its connection or the environment's.

    Options of a URL without a connection: `endpoint_url`, `region`, and `unsigned=true` for
    public buckets.

    Raises:
        ValueError: another scheme, bucket or key is missing, or an option is unknown.
    """
    if address.scheme != _SCHEME:
        raise ValueError(
            f"{address}: obstore is used for {_SCHEME}:// only; fsspec+PROTOCOL:// opens others"
        )
    options = options_of(address, _OPTIONS, example="obstore+s3://bucket/key")
    unsigned = truth_of(options, "unsigned", address, "false")
    parameters, retry = S3Parameters.at(
        address, options.get("endpoint_url"), options.get("region"), unsigned=unsigned
    )
    return ObstoreRemoteStore(address.netloc, parameters, retry=retry), address.path
