"""The requests of a bucket, as botocore makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from ebooklet.adapters.botoanswers import described, etag_of, listed, part_of
from ebooklet.adapters.botofailures import check_deleted, translated
from ebooklet.adapters.multipart import send_in_parts
from ebooklet.adapters.outgoing import Outgoing, content_md5, etag_header
from ebooklet.adapters.pools import Pools
from ebooklet.adapters.remote.boto3.client import Client, MakeClient
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3bucket import S3Bucket
from ebooklet.adapters.s3failures import Effect
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.ports.remote_store import (
    Condition,
    IfAbsent,
    ObjectMeta,
    StoredObject,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, PutObjectRequestTypeDef

__all__ = ["Boto3Requests"]

T = TypeVar("T")


class Boto3Requests:
    """See `ebooklet.adapters.requests.Requests`.

    Args:
        bucket: its name.
        parameters: what the client is made of.
        retry: how the requests of lists and uploads in parts are repeated.
        make_client: what makes it; None for the usual way.
    """

    def __init__(
        self,
        bucket: str,
        parameters: S3Parameters,
        retry: Retry,
        make_client: MakeClient | None = None,
    ) -> None:
        self._bucket = bucket
        self._parameters = parameters
        self._client = Client(parameters, make_client)
        self._retry = retry
        self._pools = Pools(parameters.connections)
        # What a session finds, no other does: the same bucket, but not the same credentials.
        finder = "boto3" if make_client is None else f"boto3 session {id(make_client)}"
        self.place = S3Bucket(bucket, parameters, finder, self._endpoint)

    def get(self, key: str, start: int, stop: int | None) -> StoredObject:
        """GetObject."""
        where = self._where()
        with translated("get", key, where, Effect.READ):
            reads = self._client.reads
            found = None if reads is None else reads.get(key, start, stop, where)
            if found is not None:
                return found
            client = self._client.s3
            if start == 0 and stop is None:
                return part_of(key, client.get_object(Bucket=self._bucket, Key=key), 0, None)
            last = "" if stop is None else stop - 1
            answer = client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{last}")
            return part_of(key, answer, start, stop)

    def head(self, key: str) -> ObjectMeta:
        """HeadObject."""
        with self._translated("head", key, Effect.READ):
            answer = self._client.s3.head_object(Bucket=self._bucket, Key=key)
            return described(key, answer, "head")

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectMeta]:
        """ListObjectsV2, page by page."""

        def page_of(wanted: Mapping[str, str]) -> ListObjectsV2OutputTypeDef:
            return self._repeated(
                "list",
                prefix,
                Effect.READ,
                lambda: self._client.s3.list_objects_v2(Bucket=self._bucket, **wanted),  # type: ignore[arg-type] # all are strings
            )

        return listed(page_of, prefix, after, self._where())

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
        effect = Effect.WRITE
        if isinstance(condition, IfAbsent):
            target["IfNoneMatch"] = "*"
        elif condition is not None:
            target["IfMatch"] = etag_header(condition, key)
            effect = Effect.CONDITIONAL
        with self._translated("put", key, effect):
            answer = self._client.s3.put_object(**target)
            return ObjectMeta(key, body.size, etag_of(answer), 0)

    def put_in_parts(self, key: str, body: Outgoing, cache_control: str | None) -> None:
        """A multipart upload."""
        headers = {} if cache_control is None else {"CacheControl": cache_control}

        def ask(method: str, **arguments: object) -> Mapping[str, Any]:
            def request() -> Mapping[str, Any]:
                answer: Mapping[str, Any] = getattr(self._client.s3, method)(
                    Bucket=self._bucket, **arguments
                )
                return answer

            return self._repeated("put", key, Effect.WRITE, request)

        send_in_parts(ask, key, body, self._pools["put"], headers)

    def delete(self, key: str) -> None:
        """DeleteObject."""
        with self._translated("delete", key, Effect.WRITE):
            self._client.s3.delete_object(Bucket=self._bucket, Key=key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """DeleteObjects."""
        objects = [{"Key": key} for key in keys]
        with self._translated("delete", keys[0], Effect.WRITE):
            answer = self._client.s3.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item] # a plain dict is one
            )
        check_deleted(answer, self._where())

    def copy(self, source: str, target: str, container: str | None) -> None:
        """CopyObject."""
        with self._translated("copy", source, Effect.WRITE):
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

    def _endpoint(self) -> str:
        with translated("open", None, self._where(), Effect.READ):
            return self._client.endpoint

    def _repeated(self, op: str, key: str, effect: Effect, request: Callable[[], T]) -> T:
        def attempt() -> T:
            with self._translated(op, key, effect):
                return request()

        return self._retry.run(attempt)

    def _translated(self, op: str, key: str, effect: Effect) -> AbstractContextManager[None]:
        return translated(op, key, self._where(), effect)

    def _where(self) -> str:
        return self._parameters.where(self._bucket)
