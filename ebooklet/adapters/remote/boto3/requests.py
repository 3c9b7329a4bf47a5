"""The requests of a bucket, as botocore makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ebooklet.adapters.botoanswers import described, etag_of, in_ms, part_of
from ebooklet.adapters.botofailures import check_deleted, translated
from ebooklet.adapters.objects import copies
from ebooklet.adapters.outgoing import Outgoing, content_md5, etag_header
from ebooklet.adapters.pools import Pools
from ebooklet.adapters.remote.boto3.client import Client
from ebooklet.adapters.remote.boto3.upload import send_in_parts
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3failures import Kind
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.errors import StoreError
from ebooklet.ports.remote_store import (
    Capabilities,
    Condition,
    IfAbsent,
    ObjectMeta,
    Origin,
    StoredObject,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef, PutObjectRequestTypeDef

__all__ = ["Boto3Requests"]

T = TypeVar("T")


class Boto3Requests:
    """See `ebooklet.adapters.requests.Requests`.

    Args:
        bucket: its name.
        parameters: what the client is made of.
        retry: how the requests of lists and uploads in parts are repeated.
    """

    def __init__(self, bucket: str, parameters: S3Parameters, retry: Retry) -> None:
        self._bucket = bucket
        self._parameters = parameters
        self._client = Client(parameters)
        self._retry = retry
        self._pools = Pools(parameters.connections)
        self._capabilities = parameters.capabilities

    @property
    def location(self) -> str:
        """Endpoint and bucket."""
        return f"{self.endpoint}/{self._bucket}"

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        with translated("open", None, f"bucket {self._bucket!r}", Kind.READ):
            return self._client.endpoint

    @property
    def origin(self) -> Origin | None:
        """The bucket, to clients of the same server with the same keys."""
        return self._parameters.origin(self.endpoint, self._bucket, "boto3")

    @property
    def capabilities(self) -> Capabilities:
        """What S3's protocol offers."""
        return self._capabilities

    def get(self, key: str, start: int, stop: int | None) -> StoredObject:
        """GetObject."""
        with self._translated("get", key, Kind.READ):
            client = self._client.s3
            if start == 0 and stop is None:
                return part_of(key, client.get_object(Bucket=self._bucket, Key=key), 0, None)
            last = "" if stop is None else stop - 1
            answer = client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{last}")
            return part_of(key, answer, start, stop)

    def head(self, key: str) -> ObjectMeta:
        """HeadObject."""
        with self._translated("head", key, Kind.READ):
            answer = self._client.s3.head_object(Bucket=self._bucket, Key=key)
            return described(key, answer, "head")

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectMeta]:
        """ListObjectsV2, page by page."""
        wanted: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": prefix}
        if after:
            wanted["StartAfter"] = after
        last_token = None
        while True:
            page = self._repeated(
                "list", prefix, Kind.READ, lambda: self._client.s3.list_objects_v2(**wanted)
            )
            for entry in page.get("Contents", ()):
                yield ObjectMeta(
                    entry.get("Key", ""),
                    entry.get("Size", 0),
                    etag_of(entry),
                    in_ms(entry.get("LastModified")),
                )
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == last_token:
                raise StoreError(
                    f"{self._where()} breaks off a list without saying how to go on",
                    op="list",
                    key=prefix,
                )
            wanted["ContinuationToken"] = last_token = token

    def put(
        self, key: str, body: Outgoing, condition: Condition | None, cache_control: str | None
    ) -> ObjectMeta:
        """PutObject."""
        whole = body.whole()
        target: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": key,
            "Body": whole,
            "ContentMD5": content_md5(whole),
        }
        if cache_control is not None:
            target["CacheControl"] = cache_control
        kind = Kind.WRITE
        if isinstance(condition, IfAbsent):
            target["IfNoneMatch"] = "*"
        elif condition is not None:
            target["IfMatch"] = etag_header(condition, key)
            kind = Kind.CONDITIONAL
        with self._translated("put", key, kind):
            answer = self._client.s3.put_object(**target)
            return ObjectMeta(key, body.size, etag_of(answer), 0)

    def put_in_parts(self, key: str, body: Outgoing, cache_control: str | None) -> None:
        """A multipart upload."""
        headers = {} if cache_control is None else {"CacheControl": cache_control}
        with self._translated("put", key, Kind.WRITE):
            client = self._client.s3
        send_in_parts(
            client,
            {"Bucket": self._bucket, "Key": key, **headers},  # type: ignore[typeddict-item] # one known header
            body,
            self._pools["put"],
            partial(self._repeated, "put", key, Kind.WRITE),
        )

    def delete(self, key: str) -> None:
        """DeleteObject."""
        with self._translated("delete", key, Kind.WRITE):
            self._client.s3.delete_object(Bucket=self._bucket, Key=key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """DeleteObjects."""
        objects = [{"Key": key} for key in keys]
        with self._translated("delete", keys[0], Kind.WRITE):
            answer = self._client.s3.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item] # a plain dict is one
            )
        check_deleted(answer, self._where())

    def copies_from(self, origin: Origin | None) -> bool:
        """Buckets of the same server, with the same keys."""
        return self._capabilities.server_side_copy and copies(self.origin, origin)

    def copy(self, source: str, target: str, container: str | None) -> None:
        """CopyObject."""
        with self._translated("copy", source, Kind.WRITE):
            self._client.s3.copy_object(
                Bucket=self._bucket,
                Key=target,
                CopySource={"Bucket": container or self._bucket, "Key": source},
            )

    def server_time_ms(self) -> int | None:
        """By the last answer's `Date`."""
        return self._client.clock.now_ms()

    def close(self) -> None:
        """Close the connections and end the threads."""
        self._pools.close()
        self._client.close()

    def _repeated(self, op: str, key: str, kind: Kind, request: Callable[[], T]) -> T:
        def attempt() -> T:
            with self._translated(op, key, kind):
                return request()

        return self._retry.run(attempt)

    def _translated(self, op: str, key: str, kind: Kind) -> AbstractContextManager[None]:
        return translated(op, key, self._where(), kind)

    def _where(self) -> str:
        endpoint = self._parameters.endpoint_url
        return f"bucket {self._bucket!r}" + (f" at {endpoint}" if endpoint else "")
