"""The requests of a bucket, as s3fs makes them.

s3fs offers S3's own calls below its file system, with botocore's answers. A conditional put goes
another way: what s3fs sends is sent again by aiohttp when a connection drops, whatever it is told,
so s3fs signs the request, condition included, and it is sent from here, once.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import aiohttp
import urllib3
from botocore.exceptions import ClientError
from s3fs import S3FileSystem
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from ebooklet.adapters.botoanswers import broken_off, described, etag_of, listed, placed
from ebooklet.adapters.botofailures import check_deleted, translated
from ebooklet.adapters.deleting import one_by_one
from ebooklet.adapters.multipart import send_in_parts
from ebooklet.adapters.objects import quoted
from ebooklet.adapters.outgoing import Outgoing, etag_header
from ebooklet.adapters.pools import Pools
from ebooklet.adapters.retry import CONNECT_TIMEOUT_S, Retry
from ebooklet.adapters.s3bucket import S3Bucket
from ebooklet.adapters.s3failures import Effect, code_of, lost, not_reached, refused
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.adapters.serverclock import ServerClock
from ebooklet.ports.remote_store import (
    Condition,
    IfAbsent,
    ObjectMeta,
    StoredObject,
)

__all__ = ["S3fsRequests"]

_CHUNK: Final = 1 << 20
_SIGNED_FOR_S: Final = 900  # within which a signed put must begin: clocks differ
_GOOD: Final = (200, 204)


class S3fsRequests:
    """See `ebooklet.adapters.requests.Requests`.

    Args:
        bucket: its name.
        parameters: what the file system is made of.
        retry: how the requests of lists and uploads in parts are repeated.
    """

    def __init__(self, bucket: str, parameters: S3Parameters, retry: Retry) -> None:
        self._bucket = bucket
        self._parameters = parameters
        self._retry = retry
        self.place = S3Bucket(bucket, parameters, "s3fs", self._endpoint)
        self._clock = ServerClock()
        self._pools = Pools(parameters.connections)
        self._lock = threading.Lock()
        self._made: tuple[int, S3FileSystem, urllib3.PoolManager] | None = None

    def get(self, key: str, start: int, stop: int | None) -> StoredObject:
        """GetObject."""
        wanted = {"Bucket": self._bucket, "Key": key}
        if start or stop is not None:
            wanted["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        with self._translated("get", key, Effect.READ):
            file_system = self._ready()[0]

            async def read() -> StoredObject:
                answer = await file_system._call_s3("get_object", **wanted)  # noqa: SLF001 - fsspec's documented interface for coroutines
                self._note(answer)
                async with answer["Body"] as stream:
                    skip, size, meta = placed(key, answer, start, stop)
                    return StoredObject(await _exactly(stream, skip, size, key), meta)

            # Waited for directly: fsspec's `sync` has one more coroutine and event a call.
            return asyncio.run_coroutine_threadsafe(read(), file_system.loop).result()

    def head(self, key: str) -> ObjectMeta:
        """HeadObject."""
        with self._translated("head", key, Effect.READ):
            return described(key, self._call("head_object", Key=key), "head")

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectMeta]:
        """ListObjectsV2, page by page."""

        def page_of(wanted: Mapping[str, str]) -> dict[str, Any]:
            return self._repeated("list", prefix, "list_objects_v2", **wanted)

        return listed(page_of, prefix, after, self._where())

    def put(
        self, key: str, body: Outgoing, condition: Condition | None, cache_control: str | None
    ) -> ObjectMeta:
        """PutObject."""
        headers = {} if cache_control is None else {"CacheControl": cache_control}
        if condition is not None:
            return self._put_once(key, body.whole(), condition, headers)
        with self._translated("put", key, Effect.WRITE):
            answer = self._call("put_object", Key=key, Body=body.whole(), **headers)
            return ObjectMeta(key, body.size, etag_of(answer), 0)

    def put_in_parts(self, key: str, body: Outgoing, cache_control: str | None) -> None:
        """A multipart upload."""
        headers = {} if cache_control is None else {"CacheControl": cache_control}
        ask = partial(self._repeated, "put", key)
        send_in_parts(ask, key, body, self._pools["put"], headers)

    def delete(self, key: str) -> None:
        """DeleteObject."""
        with self._translated("delete", key, Effect.WRITE):
            self._call("delete_object", Key=key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """DeleteObjects, which s3fs sends without the checksum that some servers want."""
        objects = [{"Key": key} for key in keys]
        with one_by_one(self._where(), keys):
            with self._translated("delete", keys[0], Effect.WRITE):
                answer = self._call("delete_objects", Delete={"Objects": objects, "Quiet": True})
            check_deleted(answer, self._where())

    def copy(self, source: str, target: str, container: str | None) -> None:
        """CopyObject."""
        with self._translated("copy", source, Effect.WRITE):
            self._call(
                "copy_object",
                Key=target,
                CopySource={"Bucket": container or self._bucket, "Key": source},
            )

    def server_time_ms(self) -> int | None:
        """By the last answer's `Date`."""
        return self._clock.now_ms()

    def close(self) -> None:
        """Close the connections and end the threads."""
        self._pools.close()
        with self._lock:
            made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            _, file_system, connections = made
            connections.clear()
            client = file_system._s3  # noqa: SLF001 - no public way tells whether one was made
            if client is not None:
                S3FileSystem.close_session(file_system.loop, client)

    # How requests are made.

    def _endpoint(self) -> str:
        return (self._parameters.known_endpoint or "https://s3.amazonaws.com").rstrip("/")

    def _ready(self) -> tuple[S3FileSystem, urllib3.PoolManager]:
        """The file system and our own connections, of this process."""
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = os.getpid(), self._file_system(), self._connections()
            return self._made[1:]

    def _file_system(self) -> S3FileSystem:
        wanted = self._parameters
        file_system = S3FileSystem(
            anon=wanted.unsigned,
            key=wanted.access_key_id,
            secret=wanted.access_key,
            endpoint_url=wanted.endpoint_url,
            client_kwargs={"region_name": wanted.region} if wanted.region else {},
            config_kwargs={
                **({} if wanted.unsigned else {"signature_version": "s3v4"}),  # of signed URLs too
                "connect_timeout": CONNECT_TIMEOUT_S,
                "read_timeout": wanted.read_timeout_s,
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": 2 * wanted.connections,
                # With botocore's defaults ranged reads and https writes fail on some servers.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                **({"s3": {"addressing_style": "path"}} if wanted.endpoint_url else {}),
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        file_system.retries = 1  # attempts
        # aiohttp waits for the leave that it asked for even after the server has refused instead,
        # until the read timeout.
        file_system.s3.meta.events.register_last("before-call.s3", _ask_no_leave)
        return file_system

    def _connections(self) -> urllib3.PoolManager:
        wanted = self._parameters
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=wanted.read_timeout_s)
        return urllib3.PoolManager(maxsize=wanted.connections, timeout=timeout, retries=False)

    def _put_once(
        self, key: str, body: bytes, condition: Condition, headers: dict[str, str]
    ) -> ObjectMeta:
        """A put with a condition, signed by s3fs and sent once from here."""
        if isinstance(condition, IfAbsent):
            signed, sent = {"IfNoneMatch": "*"}, {"If-None-Match": "*"}
            effect = Effect.WRITE
        else:
            etag = etag_header(condition, key)
            signed, sent = {"IfMatch": etag}, {"If-Match": etag}
            effect = Effect.CONDITIONAL
        if cache_control := headers.get("CacheControl"):
            sent["Cache-Control"] = cache_control
        with self._translated("put", key, effect):
            file_system, connections = self._ready()
            url = file_system.url(
                f"{self._bucket}/{key}",
                expires=_SIGNED_FOR_S,
                client_method="put_object",
                **signed,
                **headers,
            )
        failure = partial(lost, op="put", key=key, where=self._where(), effect=effect)
        try:
            answer = connections.request("PUT", url, body=body, headers=sent, redirect=False)
        except (NewConnectionError, ConnectTimeoutError) as exc:
            name = type(exc).__name__
            raise not_reached(name, op="put", key=key, where=self._where()) from exc
        except HTTPError as exc:
            raise failure(f"no answer ({type(exc).__name__})") from exc
        self._clock.note(answer.headers.get("Date"))
        if answer.status not in _GOOD:
            code = code_of(answer.data)
            where = self._where()
            raise refused(
                answer.status, code, op="put", key=key, where=where, effect=effect
            ) from HTTPError(f"status {answer.status}")
        return ObjectMeta(key, len(body), quoted(answer.headers.get("ETag")), 0)

    def _call(self, method: str, **arguments: object) -> dict[str, Any]:
        answer: dict[str, Any] = self._ready()[0].call_s3(method, Bucket=self._bucket, **arguments)
        self._note(answer)
        return answer

    def _note(self, answer: dict[str, Any]) -> None:
        self._clock.note(answer["ResponseMetadata"]["HTTPHeaders"].get("date"))

    def _repeated(self, op: str, key: str, method: str, **arguments: object) -> dict[str, Any]:
        effect = Effect.READ if op == "list" else Effect.WRITE

        def attempt() -> dict[str, Any]:
            with self._translated(op, key, effect):
                return self._call(method, **arguments)

        return self._retry.run(attempt)

    @contextmanager
    def _translated(self, op: str, key: str, effect: Effect) -> Iterator[None]:
        """Name the failure by botocore's error, which s3fs keeps as the cause of its own."""
        where = self._where()
        with translated(op, key, where, effect):
            try:
                yield
            except (aiohttp.ClientError, asyncio.IncompleteReadError) as exc:
                what = f"no answer ({type(exc).__name__})"
                raise lost(what, op=op, key=key, where=where, effect=effect) from exc
            except OSError as exc:
                if isinstance(exc.__cause__, ClientError):
                    raise exc.__cause__ from exc
                raise

    def _where(self) -> str:
        return f"bucket {self._bucket!r} at {self._endpoint()}"


def _ask_no_leave(params: dict[str, Any], **_: object) -> None:
    """A body is sent at once, not after a `100 Continue`."""
    params["headers"].pop("Expect", None)


async def _exactly(stream: Any, skip: int, size: int, key: str) -> bytes:
    """The next `size` bytes of a body after the first `skip`."""
    missing = skip
    while missing:
        passed = len(await stream.read(min(missing, _CHUNK)))
        if not passed:
            raise broken_off(0, size, key)
        missing -= passed
    whole = io.BytesIO()  # holds it once; see `pieces.joined`
    missing = size
    while missing:
        part = await stream.read(missing)
        if len(part) == size:
            return bytes(part)
        if not part:
            raise broken_off(size - missing, size, key)
        whole.write(part)
        missing -= len(part)
    return whole.getvalue()
