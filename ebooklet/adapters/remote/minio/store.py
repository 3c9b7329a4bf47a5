"""The remote store of S3-compatible servers, through MinIO's client."""

from __future__ import annotations

from typing import Final

from ebooklet.adapters.remote.minio.requests import MinioRequests
from ebooklet.adapters.requests import Requests
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3bucket import S3RemoteStore
from ebooklet.adapters.s3parameters import S3Parameters, options_of, truth_of
from ebooklet.connection import RemoteAddress
from ebooklet.errors import InvalidURLError

__all__ = ["MinioRemoteStore", "open_store"]

_EXAMPLE: Final = "minio://host:port/bucket/key"
_OPTIONS: Final = ("region", "secure", "unsigned")


class MinioRemoteStore(S3RemoteStore):
    """One bucket. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; without keys those of the environment serve:
            MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
        retry: how reads and unconditional writes are repeated.

    Example:
        >>> MinioRemoteStore("bucket", S3Parameters(endpoint_url="http://127.0.0.1:9000"))
        MinioRemoteStore(bucket='bucket', endpoint_url='http://127.0.0.1:9000')
    """

    def _requests_of(self, bucket: str, parameters: S3Parameters, retry: Retry) -> Requests:
        return MinioRequests(bucket, parameters, retry)


def open_store(address: RemoteAddress) -> tuple[MinioRemoteStore, str]:
    """Open `minio://host:port/bucket/key`, or the bucket of a connection.

    Options of a URL: `secure=false` for a server without TLS, `region`, and `unsigned=true` for
    public buckets.

    Raises:
        InvalidURLError: host, bucket or key is missing, or an option is unknown.
    """
    options = options_of(address, _OPTIONS, example=_EXAMPLE)
    unsigned = truth_of(options, "unsigned", address, "false")
    secure = truth_of(options, "secure", address, "true")
    bucket, key, endpoint_url = address.netloc, address.path, None
    if address.connection is None:
        bucket, _, key = address.path.partition("/")
        endpoint_url = f"{'https' if secure else 'http'}://{address.netloc}"
        if not bucket or not key:
            raise InvalidURLError(
                f"{address}: the URL needs a host, a bucket and a key, as in {_EXAMPLE}"
            )
    parameters, retry = S3Parameters.at(
        address, endpoint_url, options.get("region"), unsigned=unsigned
    )
    return MinioRemoteStore(bucket, parameters, retry=retry), key
