"""Reading answers: what came back is checked against what was asked before it is believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ebooklet.adapters.objects import quoted
from ebooklet.errors import RemoteIntegrityError, RemoteUnavailable
from ebooklet.ports.remote_store import ObjectMeta, StoredObject

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

__all__ = ["described", "etag_of", "in_ms", "part_of", "whole_of"]

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_SKIP_CHUNK: Final = 1 << 20


def in_ms(when: object) -> int:
    """Unix ms of a `Last-Modified`; 0 when the store did not say."""
    return int(when.timestamp() * 1000) if isinstance(when, datetime) else 0


def etag_of(answer: Mapping[str, object]) -> str:
    """The ETag of an answer; "" when there is none."""
    return quoted(str(answer.get("ETag") or ""))


def described(key: str, answer: Mapping[str, object], op: str) -> ObjectMeta:
    """The metadata of a head or a whole get.

    Raises:
        RemoteIntegrityError: the answer does not say how long the object is.
    """
    size = answer.get("ContentLength")
    if not isinstance(size, int) or size < 0:
        raise RemoteIntegrityError("the server did not say the object's length", op=op, key=key)
    return _meta(key, answer, size)


def whole_of(key: str, answer: GetObjectOutputTypeDef) -> StoredObject:
    """The answer to a get without a range.

    Raises:
        RemoteUnavailable: the body broke off.
        RemoteIntegrityError: the answer does not say how long the object is.
    """
    with answer["Body"] as stream:
        meta = described(key, answer, "get")
        return StoredObject(_exactly(stream, meta.size, meta.size, key), meta)


def part_of(key: str, answer: GetObjectOutputTypeDef, start: int, stop: int | None) -> StoredObject:
    """The answer to a get of [start, stop), `start` < `stop`, from servers that differ.

    Most send 206; rclone sends 200 with a Content-Range; 200 without one is the whole object.

    Raises:
        RemoteUnavailable: the body broke off.
        RemoteIntegrityError: these are other bytes than those asked for, or fewer.
    """
    with answer["Body"] as stream:
        said = answer.get("ContentRange")
        if not said:
            if answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
                raise RemoteIntegrityError("a part came without its place", op="get", key=key)
            meta = described(key, answer, "get")
            end = meta.size if stop is None else min(stop, meta.size)
            start = min(start, end)
            _skip(stream, start, key)
            return StoredObject(_exactly(stream, end - start, meta.size, key), meta)
        match = _CONTENT_RANGE.fullmatch(said)
        if match is None:
            raise RemoteIntegrityError("a part came with an unreadable place", op="get", key=key)
        first, last, total = (int(number) for number in match.groups())
        end = total if stop is None else min(stop, total)
        if (first, last + 1) != (start, end) or answer.get("ContentLength") != end - start:
            raise RemoteIntegrityError(
                f"asked for bytes {start} to {end}, the server sent {first} to {last + 1}",
                op="get",
                key=key,
            )
        body = _exactly(stream, end - start, end - start, key)
        return StoredObject(body, _meta(key, answer, total))


def _meta(key: str, answer: Mapping[str, object], size: int) -> ObjectMeta:
    found = answer.get("Metadata")
    said = found.items() if isinstance(found, Mapping) else ()
    return ObjectMeta(
        key,
        size,
        etag_of(answer),
        in_ms(answer.get("LastModified")),
        tuple((str(name).lower(), str(value)) for name, value in said),
    )


def _exactly(stream: StreamingBody, size: int, length: int, key: str) -> bytes:
    """Read the next `size` bytes of a body that is `length` bytes long by its Content-Length."""
    if size == length:
        body = stream.read()  # the quick way; the transport reads no more than Content-Length
    else:
        parts: list[bytes] = []
        missing = size
        while missing and (part := stream.read(missing)):
            parts.append(part)
            missing -= len(part)
        body = b"".join(parts)
    if len(body) != size:
        raise RemoteUnavailable(
            f"the body broke off after {len(body)} of {size} bytes: try again", op="get", key=key
        )
    return body


def _skip(stream: StreamingBody, count: int, key: str) -> None:
    while count:
        passed = len(stream.read(min(count, _SKIP_CHUNK)))
        if not passed:
            raise RemoteUnavailable("the body broke off: try again", op="get", key=key)
        count -= passed
