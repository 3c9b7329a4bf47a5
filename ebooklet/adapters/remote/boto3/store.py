"""The remote store of S3-compatible servers."""

from __future__ import annotations

from ebooklet.adapters.remote.boto3.client import MakeClient
from ebooklet.adapters.remote.boto3.requests import Boto3Requests
from ebooklet.adapters.requests import Requests
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3bucket import S3RemoteStore
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.connection import RemoteAddress

__all__ = ["Boto3RemoteStore", "open_store"]


class Boto3RemoteStore(S3RemoteStore):
    """One bucket. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; those left out come from boto3's usual
            sources (environment, profiles, instance roles).
        retry: how reads and unconditional writes are repeated.
        make_client: the method `client` of a `boto3.Session` that has the credentials; None makes
            clients by parameters alone. It is called on first use, and again in a forked child,
            with "s3", `region_name`, `endpoint_url`, and a `config` that the store depends on.

    Raises:
        ValueError: credentials in `parameters`, beside those of the session.

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
        make_client: MakeClient | None = None,
    ) -> None:
        if make_client is not None and parameters is not None and parameters.access_key_id:
            raise ValueError(
                "credentials come from the session of make_client: leave them out of parameters"
            )
        self._make_client = make_client
        super().__init__(bucket, parameters, retry=retry)

    def _requests_of(self, bucket: str, parameters: S3Parameters, retry: Retry) -> Requests:
        return Boto3Requests(bucket, parameters, retry, self._make_client)


def open_store(address: RemoteAddress) -> tuple[Boto3RemoteStore, str]:
    """Open `s3://bucket/key`, with the parameters of its connection or boto3's usual sources.

    Options of a URL without a connection: `endpoint_url`, `region`, and `unsigned=true` for
    public buckets.

    Raises:
        InvalidURLError: bucket or key is missing, or an option is unknown.
    """
    parameters, retry = S3Parameters.in_options(address, example="s3://bucket/key")
    return Boto3RemoteStore(address.netloc, parameters, retry=retry), address.path
