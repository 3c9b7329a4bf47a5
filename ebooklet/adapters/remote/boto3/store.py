"""The remote store of S3-compatible servers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from ebooklet.adapters.listing import asked_prefix, is_wanted, start_after
from ebooklet.adapters.objects import check_key, check_span, no_copy, read_part
from ebooklet.adapters.parallel import ordered_map
from ebooklet.adapters.remote.boto3.answers import described, etag_of, in_ms, part_of, whole_of
from ebooklet.adapters.remote.boto3.client import Client, ClientParameters, content_md5
from ebooklet.adapters.remote.boto3.failures import (
    Kind,
    RivalRequest,
    failure_of_code,
    is_unsatisfiable_range,
    translated,
)
from ebooklet.adapters.remote.boto3.retry import Retry
from ebooklet.adapters.remote.boto3.upload import MAX_PUT_BYTES, Outgoing, send_in_parts
from ebooklet.connection import DEFAULT_THREADS, RemoteAddress
from ebooklet.errors import (
    EBookletError,
    RemoteIntegrityError,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Capabilities,
    Condition,
    IfAbsent,
    IfMatch,
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

_BULK_DELETE: Final = 1000  # S3's limit of one request
_MAX_COPY_BYTES: Final = 5 << 30  # S3's limit of one CopyObject
_RIVAL_ATTEMPTS: Final = 5
_XML_CANNOT_SAY: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


class Boto3RemoteStore:
    """One bucket. Nothing is sent, and no client made, before the first call.

    Args:
        bucket: its name.
        parameters: endpoint, credentials and limits; those left out come from boto3's usual
            sources (environment, profiles, instance roles).
        retry: how reads and unconditional writes are repeated.

    Example:
        >>> store = Boto3RemoteStore("bucket", ClientParameters(endpoint_url="http://127.0.0.1:9000"))
        >>> store
        Boto3RemoteStore(bucket='bucket', endpoint_url='http://127.0.0.1:9000')
    """

    def __init__(
        self,
        bucket: str,
        parameters: ClientParameters | None = None,
        *,
        retry: Retry | None = None,
    ) -> None:
        self._bucket = bucket
        self._parameters = parameters or ClientParameters()
        self._client = Client(self._parameters)
        self._retry = retry or Retry()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._pools_lock = threading.Lock()
        self._capabilities = Capabilities(
            conditional_put=True,
            server_side_copy=not self._parameters.unsigned,
            max_copy_bytes=_MAX_COPY_BYTES,
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
        parameters = self._parameters
        identity = "unsigned" if parameters.unsigned else parameters.access_key_id or ""
        return Origin(("s3", self.endpoint, identity), self._bucket)

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
        threads = self._parameters.connections
        return ordered_map(self._pool("get"), read, ranges, ahead=threads)

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
        if outgoing.size > MAX_PUT_BYTES:
            if condition is not None:
                raise UnsupportedOperation(
                    f"a conditional put takes at most {MAX_PUT_BYTES} bytes", op="put", key=key
                )
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
            target["IfMatch"] = _header_value(condition, key)
        return self._once(key, Kind.CONDITIONAL if "IfMatch" in target else Kind.WRITE, send)

    def delete(self, keys: Iterable[str]) -> None:
        """See `RemoteStore.delete`."""
        source = iter(keys)
        while batch := [check_key(key, "delete") for key in islice(source, _BULK_DELETE)]:
            bulk = [key for key in batch if not _XML_CANNOT_SAY.search(key)]
            if len(bulk) < 2 or not self._delete_bulk(bulk):
                bulk = []
            said = set(bulk)
            singles = [key for key in batch if key not in said]
            if len(singles) == 1:
                self._delete_one(singles[0])
                continue
            pool, ahead = self._pool("delete"), self._parameters.connections
            for _ in ordered_map(pool, self._delete_one, singles, ahead=ahead):
                pass

    def copies_from(self, origin: Origin | None) -> bool:
        """Buckets of the same server, with the same keys."""
        own = self.origin
        return (
            self._capabilities.server_side_copy
            and origin is not None
            and own is not None
            and origin.realm == own.realm
        )

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
        with self._pools_lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)
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
            self._pool("put"),
            partial(self._repeated, "put", key, Kind.WRITE),
        )
        meta = self.head(key)
        if meta.size != outgoing.size:
            raise RemoteIntegrityError(
                f"sent {outgoing.size} bytes, but {meta.size} are stored", op="put", key=key
            )
        return meta

    def _delete_one(self, key: str) -> None:
        self._repeated(
            "delete",
            key,
            Kind.WRITE,
            lambda: self._client.s3.delete_object(Bucket=self._bucket, Key=key),
        )

    def _delete_bulk(self, keys: Sequence[str]) -> bool:
        """Delete many by one request; False if the server knows no such request."""
        objects = [{"Key": key} for key in keys]
        try:
            answer = self._repeated(
                "delete",
                keys[0],
                Kind.WRITE,
                lambda: self._client.s3.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item] # a plain dict is one
                ),
            )
        except UnsupportedOperation:
            return False
        for failed in answer.get("Errors", ()):
            code = failed.get("Code", "")
            if code not in ("NoSuchKey", "NoSuchVersion"):
                raise failure_of_code(code, "delete", failed.get("Key"), self._where())
        return True

    # How requests are made.

    def _repeated(self, op: str, key: str | None, kind: Kind, request: Callable[[], T]) -> T:
        def attempt() -> T:
            with translated(op, key, self._where(), kind):
                return request()

        return self._retry.run(attempt)

    def _once(self, key: str, kind: Kind, request: Callable[[], T]) -> T:
        """Make a conditional put; only a 409, which decides nothing, is asked again."""
        left = _RIVAL_ATTEMPTS
        while True:
            try:
                with translated("put", key, self._where(), kind):
                    return request()
            except RivalRequest as exc:
                left -= 1
                if not left:
                    raise RemoteUnavailable(
                        f"{self._where()} kept putting off a write for rival ones: try again",
                        op="put",
                        key=key,
                    ) from exc.__cause__
            self._retry.pause(_RIVAL_ATTEMPTS - left)

    def _where(self) -> str:
        endpoint = self._parameters.endpoint_url
        return f"bucket {self._bucket!r}" + (f" at {endpoint}" if endpoint else "")

    def _pool(self, purpose: str) -> ThreadPoolExecutor:
        """Threads for one purpose: a task of one pool may wait for those of another."""
        with self._pools_lock:
            if purpose not in self._pools:
                self._pools[purpose] = ThreadPoolExecutor(
                    self._parameters.connections, thread_name_prefix=f"ebooklet-{purpose}"
                )
            return self._pools[purpose]


def _header_value(condition: IfMatch, key: str) -> str:
    etag = condition.etag
    if not etag or not etag.isprintable() or not etag.isascii():
        raise StoreError("the ETag to be matched cannot be sent", op="put", key=key)
    return etag


_TRUE: Final = ("", "1", "true", "yes")
_FALSE: Final = ("0", "false", "no")
_OPTIONS: Final = ("endpoint_url", "region", "unsigned")


def open_store(address: RemoteAddress) -> tuple[Boto3RemoteStore, str]:
    """Open `s3://bucket/key`, with the parameters of its connection or boto3's usual sources.

    Options of a URL without a connection: `endpoint_url`, `region`, and `unsigned=true` for
    public buckets.

    Raises:
        ValueError: bucket or key is missing, or an option is unknown.
    """
    if not address.netloc or not address.path:
        raise ValueError(f"{address}: the URL needs a bucket and a key, as in s3://bucket/key")
    options = dict(address.options)
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise ValueError(f"{address}: unknown options {unknown}; known: {', '.join(_OPTIONS)}")
    unsigned = options.get("unsigned", "false").lower()
    if unsigned not in _TRUE + _FALSE:
        raise ValueError(f"{address}: unsigned is true or false")
    connection = address.connection
    if connection is None:
        parameters = ClientParameters(
            endpoint_url=options.get("endpoint_url"),
            region=options.get("region"),
            unsigned=unsigned in _TRUE,
            connections=DEFAULT_THREADS,
        )
        return Boto3RemoteStore(address.netloc, parameters), address.path
    parameters = ClientParameters(
        endpoint_url=connection.endpoint_url,
        region=connection.region,
        access_key_id=connection.access_key_id,
        access_key=connection.access_key,
        unsigned=unsigned in _TRUE,
        connections=connection.threads,
        read_timeout_s=connection.read_timeout,
    )
    retry = Retry(connection.retries)
    return Boto3RemoteStore(address.netloc, parameters, retry=retry), address.path
