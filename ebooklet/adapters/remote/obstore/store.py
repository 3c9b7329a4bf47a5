"""The remote store of S3-compatible servers, through obstore."""

from __future__ import annotations

from typing import Final

from ebooklet.adapters.remote.obstore.requests import ObstoreRequests
from ebooklet.adapters.requests import Requests
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3bucket import S3RemoteStore
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.connection import RemoteAddress
from ebooklet.errors import InvalidURLError

__all__ = ["ObstoreRemoteStore", "open_store"]

_SCHEME: Final = "obstore+s3"


class ObstoreRemoteStore(S3RemoteStore):
    """One bucket. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; those left out come from the environment
            (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL), keys also
            from the machine's role.
        retry: how reads and unconditional writes are repeated.

    Example:
        >>> ObstoreRemoteStore("bucket", S3Parameters(endpoint_url="http://127.0.0.1:9000"))
        ObstoreRemoteStore(bucket='bucket', endpoint_url='http://127.0.0.1:9000')
    """

    def _requests_of(self, bucket: str, parameters: S3Parameters, retry: Retry) -> Requests:
        return ObstoreRequests(bucket, parameters, retry)


def open_store(address: RemoteAddress) -> tuple[ObstoreRemoteStore, str]:
    """Open `obstore+s3://bucket/key`, with the parameters of its connection or the environment's.

    Options of a URL without a connection: `endpoint_url`, `region`, and `unsigned=true` for
    public buckets.

    Raises:
        InvalidURLError: another scheme, bucket or key is missing, or an option is unknown.
    """
    if address.scheme != _SCHEME:
        raise InvalidURLError(
            f"{address}: obstore is used for {_SCHEME}:// only; fsspec+PROTOCOL:// opens others"
        )
    parameters, retry = S3Parameters.in_options(address, example="obstore+s3://bucket/key")
    return ObstoreRemoteStore(address.netloc, parameters, retry=retry), address.path
