"""The remote store of S3-compatible servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from ebooklet.adapters.deleting import delete_all
from ebooklet.adapters.listing import asked_prefix, is_wanted, start_after
from ebooklet.adapters.objects import check_key, check_span, copies, no_copy, read_part
from ebooklet.adapters.outgoing import (
    MAX_PUT_BYTES,
    Outgoing,
    check_condition,
    content_md5,
    etag_header,
    stored_whole,
)
from ebooklet.adapters.parallel import ordered_map
from ebooklet.adapters.pools import Pools
from ebooklet.adapters.remote.boto3.answers import described, etag_of, in_ms, part_of, whole_of
from ebooklet.adapters.remote.boto3.client import Client
from ebooklet.adapters.remote.boto3.failures import is_unsatisfiable_range, translated
from ebooklet.adapters.remote.boto3.upload import send_in_parts
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3failures import Kind, refused
from ebooklet.adapters.s3parameters import MAX_COPY_BYTES, S3Parameters, options_of, truth_of
from ebooklet.connection import RemoteAddress
from ebooklet.errors import EBookletError, RemoteUnavailable, StoreError
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    IfAbsent,
    ObjectMeta,
    Origin,
    StoredObject,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestTypeDef,
        PutObjectRequestTypeDef,
    )

__all__ = ["Boto3RemoteStore", "open_store"]

T = TypeVar("T")


class Boto3RemoteStore:
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
        self._bucket = bucket
        self._parameters = parameters or S3Parameters()
        self._client = Client(self._parameters)
        self._retry = retry or Retry()
        self._pools = Pools(self._parameters.connections)
        self._capabilities = Capabilities(
            conditional_put=True,
            server_side_copy=not self._parameters.unsigned,
            max_copy_bytes=MAX_COPY_BYTES,
            ranges=True,
            writable=not self._parameters.unsigned,
            max_put_bytes=MAX_PUT_BYTES,
            shared=True,
        )

    def __repr__(self) -> str:
        endpoint = self._parameters.endpoint_url
        return f"Boto3RemoteStore(bucket={self._bucket!r}, endpoint_url={endpoint!r})"

    @property
    def location(self) -> str:
        """Endpoint and bucket."""
        with translated("open", None, f"bucket {self._bucket!r}", Kind.READ):
            return f"{self._client.endpoint}/{self._bucket}"

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
        """What S3's protocol offers; servers differ in what they keep of it."""
        return self._capabilities

    # Reading.

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """See `RemoteStore.get`."""
        check_key(key, "get")
        check_span(start, stop, key)
        if start == stop:
            return StoredObject(b"", self.head(key))
        try:
            return self._repeated("get", key, Kind.READ, partial(self._get, key, start, stop))
        except StoreError as exc:
            if not is_unsatisfiable_range(exc):
                raise
            meta = self.head(key)
            if start < meta.size:
                raise RemoteUnavailable(
                    "the object changed while it was read: try again", op="get", key=key
                ) from exc
            return StoredObject(b"", meta)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """See `RemoteStore.get_ranges`."""
        read = partial(read_part, self)
        if len(ranges) < 2:
            return map(read, ranges)
        return ordered_map(self._pools["get"], read, ranges, ahead=self._pools.threads)

    def head(self, key: str) -> ObjectMeta:
        """See `RemoteStore.head`."""
        check_key(key, "head")
        answer = self._repeated(
            "head",
            key,
            Kind.READ,
            lambda: self._client.s3.head_object(Bucket=self._bucket, Key=key),
        )
        return described(key, answer, "head")

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """See `RemoteStore.list`."""
        asked = asked_prefix(prefix)
        if asked is None:
            return
        wanted: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": asked}
        if skipped := start_after(prefix, after):
            wanted["StartAfter"] = skipped
        last_token = None
        while True:
            page = self._page(prefix, wanted)
            for entry in page.get("Contents", ()):
                key = entry.get("Key", "")
                if is_wanted(key, prefix, after):
                    yield ObjectMeta(
                        key,
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

    # Writing.

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """See `RemoteStore.put`."""
        check_key(key, "put")
        outgoing = Outgoing(body)
        target: PutObjectRequestTypeDef = {"Bucket": self._bucket, "Key": key}
        if cache_control is not None:
            target["CacheControl"] = cache_control
        check_condition(condition, outgoing, key)
        if outgoing.is_large:
            return self._put_in_parts(key, outgoing, cache_control)
        whole = outgoing.whole()
        target["Body"] = whole
        target["ContentMD5"] = content_md5(whole)
        send = partial(self._put, target, key, len(whole))
        if condition is None:
            return self._repeated("put", key, Kind.WRITE, send)
        if isinstance(condition, IfAbsent):
            target["IfNoneMatch"] = "*"
        else:
            target["IfMatch"] = etag_header(condition, key)
        kind = Kind.CONDITIONAL if "IfMatch" in target else Kind.WRITE
        return self._retry.once(partial(self._attempt, "put", key, kind, send))

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`."""
        delete_all(keys, one=self._delete_one, bulk=self._delete_bulk, pools=self._pools)

    def copies_from(self, origin: Origin | None) -> bool:
        """Buckets of the same server, with the same keys."""
        return self._capabilities.server_side_copy and copies(self.origin, origin)

    def copy(self, source: str, target: str, *, origin: Origin | None = None) -> ObjectMeta:
        """See `RemoteStore.copy`."""
        check_key(source, "copy")
        check_key(target, "copy")
        if origin is not None and not self.copies_from(origin):
            raise no_copy(self._where(), source)
        bucket = self._bucket if origin is None else origin.container
        self._repeated(
            "copy",
            source,
            Kind.WRITE,
            lambda: self._client.s3.copy_object(
                Bucket=self._bucket, Key=target, CopySource={"Bucket": bucket, "Key": source}
            ),
        )
        return self.head(target)  # the answer to a copy does not say how long it is

    def server_time_ms(self) -> int | None:
        """See `RemoteStore.server_time_ms`."""
        return self._client.server_time_ms()

    def close(self) -> None:
        """End the threads and close the connections; a later call opens them anew."""
        self._pools.close()
        self._client.close()

    # Single requests.

    def _get(self, key: str, start: int, stop: int | None) -> StoredObject:
        client = self._client.s3
        if start == 0 and stop is None:
            return whole_of(key, client.get_object(Bucket=self._bucket, Key=key))
        last = "" if stop is None else stop - 1
        answer = client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{last}")
        return part_of(key, answer, start, stop)

    def _page(self, prefix: str, wanted: ListObjectsV2RequestTypeDef) -> ListObjectsV2OutputTypeDef:
        return self._repeated(
            "list", prefix, Kind.READ, lambda: self._client.s3.list_objects_v2(**wanted)
        )

    def _put(self, target: PutObjectRequestTypeDef, key: str, size: int) -> ObjectMeta:
        answer = self._client.s3.put_object(**target)
        return ObjectMeta(key, size, etag_of(answer), 0)

    def _put_in_parts(self, key: str, outgoing: Outgoing, cache_control: str | None) -> ObjectMeta:
        headers = {} if cache_control is None else {"CacheControl": cache_control}
        with translated("put", key, self._where(), Kind.WRITE):
            client = self._client.s3
        send_in_parts(
            client,
            {"Bucket": self._bucket, "Key": key, **headers},  # type: ignore[typeddict-item] # one known header
            outgoing,
            self._pools["put"],
            partial(self._repeated, "put", key, Kind.WRITE),
        )
        return stored_whole(self.head(key), outgoing)

    def _delete_one(self, key: str) -> None:
        self._repeated(
            "delete",
            key,
            Kind.WRITE,
            lambda: self._client.s3.delete_object(Bucket=self._bucket, Key=key),
        )

    def _delete_bulk(self, keys: Sequence[str]) -> None:
        objects = [{"Key": key} for key in keys]
        answer = self._repeated(
            "delete",
            keys[0],
            Kind.WRITE,
            lambda: self._client.s3.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item] # a plain dict is one
            ),
        )
        for failed in answer.get("Errors", ()):
            code, key = failed.get("Code", ""), failed.get("Key")
            if code not in ("NoSuchKey", "NoSuchVersion"):
                raise refused(0, code, op="delete", key=key, where=self._where(), kind=Kind.WRITE)

    # How requests are made.

    def _repeated(self, op: str, key: str | None, kind: Kind, request: Callable[[], T]) -> T:
        return self._retry.run(partial(self._attempt, op, key, kind, request))

    def _attempt(self, op: str, key: str | None, kind: Kind, request: Callable[[], T]) -> T:
        with translated(op, key, self._where(), kind):
            return request()

    def _where(self) -> str:
        endpoint = self._parameters.endpoint_url
        return f"bucket {self._bucket!r}" + (f" at {endpoint}" if endpoint else "")


_OPTIONS: Final = ("endpoint_url", "region", "unsigned")


def open_store(address: RemoteAddress) -> tuple[Boto3RemoteStore, str]:
    """Open `s3://bucket/key`, with the parameters of its connection or boto3's usual sources.

    Options of a URL without a connection: `endpoint_url`, `region`, and `unsigned=true` for
    public buckets.

    Raises:
        ValueError: bucket or key is missing, or an option is unknown.
    """
    options = options_of(address, _OPTIONS, example="s3://bucket/key")
    unsigned = truth_of(options, "unsigned", address, "false")
    connection = address.connection
    if connection is not None:
        parameters = S3Parameters.of(connection, unsigned=unsigned)
        retry = Retry(connection.retries)
        return Boto3RemoteStore(address.netloc, parameters, retry=retry), address.path
    parameters = S3Parameters(
        endpoint_url=options.get("endpoint_url"), region=options.get("region"), unsigned=unsigned
    )
    return Boto3RemoteStore(address.netloc, parameters), address.path
