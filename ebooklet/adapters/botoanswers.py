"""Reading botocore's answers: what came back is checked against what was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ebooklet.adapters.objects import quoted
from ebooklet.adapters.pieces import joined
from ebooklet.errors import RemoteIntegrityError, RemoteUnavailable, StoreError
from ebooklet.ports.remote_store import ObjectMeta, StoredObject

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

__all__ = ["broken_off", "described", "etag_of", "in_ms", "listed", "part_of", "placed"]

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


def placed(
    key: str, answer: Mapping[str, Any], start: int, stop: int | None
) -> tuple[int, int, ObjectMeta]:
    """What to do with the body of a get of [start, stop), `start` < `stop`, of any server.

    Most send 206; rclone sends 200 with a Content-Range; 200 without one is the whole object.

    Returns:
        How many bytes of the body to skip, how many to take then, and what the object is.

    Raises:
        RemoteIntegrityError: these are other bytes than those asked for, or it is not told.
    """
    said = answer.get("ContentRange")
    if not said:
        if answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
            raise RemoteIntegrityError("a part came without its place", op="get", key=key)
        meta = described(key, answer, "get")
        end = meta.size if stop is None else min(stop, meta.size)
        start = min(start, end)
        return start, end - start, meta
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
    return 0, end - start, _meta(key, answer, total)


def broken_off(read: int, size: int, key: str) -> RemoteUnavailable:
    """The error for a body that ended too early."""
    return RemoteUnavailable(
        f"the body broke off after {read} of {size} bytes: try again", op="get", key=key
    )


def part_of(key: str, answer: GetObjectOutputTypeDef, start: int, stop: int | None) -> StoredObject:
    """The bytes that `placed` points at.

    Raises:
        RemoteUnavailable: the body broke off.
        RemoteIntegrityError: these are other bytes than those asked for, or fewer.
    """
    with answer["Body"] as stream:
        skip, size, meta = placed(key, answer, start, stop)
        _skip(stream, skip, key)
        return StoredObject(_exactly(stream, size, answer.get("ContentLength", -1), key), meta)


def listed(
    page_of: Callable[[Mapping[str, str]], Mapping[str, Any]],
    prefix: str,
    after: str | None,
    where: str,
) -> Iterator[ObjectMeta]:
    """What ListObjectsV2 gives, page by page.

    Args:
        page_of: makes one request, given what to ask for.
        prefix: what names begin with.
        after: what they come after; None is the beginning.
        where: bucket and endpoint, for the message.

    Raises:
        StoreError: the server does not say how a list that it breaks off goes on.
    """
    wanted = {"Prefix": prefix, **({"StartAfter": after} if after else {})}
    last_token = None
    while True:
        page = page_of(wanted)
        for entry in page.get("Contents", ()):
            modified_ms = in_ms(entry.get("LastModified"))
            key, size = entry.get("Key", ""), entry.get("Size", 0)
            yield ObjectMeta(key, size, etag_of(entry), modified_ms)
        if not page.get("IsTruncated"):
            return
        token = page.get("NextContinuationToken")
        if not token or token == last_token:
            raise StoreError(
                f"{where} breaks off a list without saying how to go on", op="list", key=prefix
            )
        wanted["ContinuationToken"] = last_token = token


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
    # The quick way reads all: the transport gives no more than Content-Length.
    body = stream.read() if size == length else joined(_pieces(stream, size))
    if len(body) != size:
        raise broken_off(len(body), size, key)
    return body


def _pieces(stream: StreamingBody, size: int) -> Iterator[bytes]:
    while size and (piece := stream.read(size)):
        yield piece
        size -= len(piece)


def _skip(stream: StreamingBody, count: int, key: str) -> None:
    while count:
        passed = len(stream.read(min(count, _SKIP_CHUNK)))
        if not passed:
            raise broken_off(0, count, key)
        count -= passed
