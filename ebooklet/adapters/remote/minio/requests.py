"""The requests of a bucket, as MinIO's client makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final
from xml.etree.ElementTree import ParseError

from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from ebooklet.adapters.httpanswers import leave, part_of
from ebooklet.adapters.objects import quoted
from ebooklet.adapters.outgoing import PARTS_AT_ONCE, Outgoing, etag_header
from ebooklet.adapters.remote.minio.client import Clients, Header
from ebooklet.adapters.remote.minio.transport import answer_lost
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3bucket import S3Bucket
from ebooklet.adapters.s3failures import Effect, no_credentials, refused
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.connection import BUCKET_RULE
from ebooklet.errors import EBookletError, StoreError
from ebooklet.ports.remote_store import (
    Condition,
    IfAbsent,
    ObjectMeta,
    StoredObject,
)

__all__ = ["MinioRequests"]

_LEAST_PART_BYTES: Final = 5 << 20  # the client takes no smaller part size


class MinioRequests:
    """See `ebooklet.adapters.requests.Requests`.

    Args:
        bucket: its name.
        parameters: what the clients are made of.
        retry: how the requests of lists and uploads in parts are repeated.
    """

    def __init__(self, bucket: str, parameters: S3Parameters, retry: Retry) -> None:
        self._bucket = bucket
        self._parameters = parameters
        self._clients = Clients(bucket, parameters, retry)
        self.place = S3Bucket(bucket, parameters, "minio", lambda: self._clients.endpoint)

    def get(self, key: str, start: int, stop: int | None) -> StoredObject:
        """GetObject."""
        length = 0 if stop is None else stop - start  # 0 is the client's word for the rest
        with self._translated("get", key):
            answer = self._clients.single.get_object(self._bucket, key, start, length)
            try:
                return part_of(answer, key, start, stop)
            finally:
                leave(answer)

    def head(self, key: str) -> ObjectMeta:
        """HeadObject."""
        with self._translated("head", key):
            found = self._clients.single.stat_object(self._bucket, key)
        return ObjectMeta(key, found.size or 0, quoted(found.etag), _in_ms(found.last_modified))

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectMeta]:
        """ListObjectsV2, page by page."""
        with self._translated("list", prefix):
            for found in self._clients.patient.list_objects(
                self._bucket, prefix=prefix, recursive=True, start_after=after
            ):
                yield ObjectMeta(
                    found.object_name or "",
                    found.size or 0,
                    quoted(found.etag),
                    _in_ms(found.last_modified),
                )

    def put(
        self, key: str, body: Outgoing, condition: Condition | None, cache_control: str | None
    ) -> ObjectMeta:
        """PutObject."""
        header = None
        if isinstance(condition, IfAbsent):
            header = Header("If-None-Match", "*")
        elif condition is not None:
            header = Header("If-Match", etag_header(condition, key))
        with self._translated("put", key):
            done = self._clients.single.put_object(
                self._bucket,
                key,
                body.stream(),
                body.size,
                metadata=_headers(cache_control),
                sse=header,
                # A body that the client splits would go without its condition.
                part_size=max(_LEAST_PART_BYTES, body.size),
            )
        return ObjectMeta(key, body.size, quoted(done.etag), 0)

    def put_in_parts(self, key: str, body: Outgoing, cache_control: str | None) -> None:
        """A multipart upload."""
        with self._translated("put", key):
            self._clients.patient.put_object(
                self._bucket,
                key,
                body.stream(),
                body.size,
                metadata=_headers(cache_control),
                part_size=body.part_bytes,
                num_parallel_uploads=PARTS_AT_ONCE,
            )

    def delete(self, key: str) -> None:
        """DeleteObject."""
        with self._translated("delete", key):
            self._clients.single.remove_object(self._bucket, key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """DeleteObjects."""
        objects = [DeleteObject(key) for key in keys]
        with self._translated("delete", keys[0]):
            failures = list(self._clients.single.remove_objects(self._bucket, objects))
        for failed in failures:
            code, key = failed.code or "", failed.name
            if code != "NoSuchKey":
                raise refused(
                    0, code, op="delete", key=key, where=self._clients.where, effect=Effect.WRITE
                )

    def copy(self, source: str, target: str, container: str | None) -> None:
        """CopyObject, after a HeadObject of the source that the client makes."""
        with self._translated("copy", source):
            self._clients.single.copy_object(
                self._bucket, target, CopySource(container or self._bucket, source)
            )

    def server_time_ms(self) -> int | None:
        """By the last answer's `Date`."""
        return self._clients.clock.now_ms()

    def close(self) -> None:
        """Close the connections."""
        self._clients.close()

    @contextmanager
    def _translated(self, op: str, key: str) -> Iterator[None]:
        """Name the errors of our transport, and translate what the client adds of its own."""
        effect = Effect.READ if op in ("get", "head", "list") else Effect.WRITE
        where = self._clients.where
        try:
            yield
        except EBookletError as exc:
            exc.op, exc.key = exc.op or op, exc.key or key
            raise
        except S3Error as exc:  # in an answer of status 200, as that to the end of an upload
            code = exc.code or ""
            raise refused(0, code, op=op, key=key, where=where, effect=effect) from exc
        except (HTTPError, OSError) as exc:  # while a body was read
            failure = answer_lost(exc, where, effect)
            failure.op, failure.key = op, key
            raise failure from exc
        except ParseError as exc:
            raise StoreError(f"{where} gave an unreadable answer", op=op, key=key) from exc
        except (MinioException, ValueError) as exc:
            if not self._parameters.unsigned and not self._parameters.access_key_id:
                raise no_credentials(
                    type(exc).__name__,
                    op=op,
                    key=key,
                    where=where,
                    sources="set MINIO_ACCESS_KEY and MINIO_SECRET_KEY",
                ) from exc
            raise StoreError(
                f"request to {where} was never sent: {type(exc).__name__}; check the endpoint and "
                f"the bucket's name: {BUCKET_RULE}",
                op=op,
                key=key,
            ) from exc


def _headers(cache_control: str | None) -> dict[str, str | list[str] | tuple[str]] | None:
    return None if cache_control is None else {"Cache-Control": cache_control}


def _in_ms(when: datetime | None) -> int:
    return 0 if when is None else int(when.timestamp() * 1000)
