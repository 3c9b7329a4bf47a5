"""Reading answers of urllib3: what came back is checked against what was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Final

from urllib3.response import BaseHTTPResponse

from ebooklet.adapters.objects import quoted
from ebooklet.adapters.outgoing import MAX_PUT_BYTES
from ebooklet.adapters.pieces import joined
from ebooklet.errors import RemoteIntegrityError, RemoteUnavailable
from ebooklet.ports.remote_store import ObjectMeta, StoredObject

__all__ = [
    "UNKNOWN_SIZE",
    "described",
    "leave",
    "length_of",
    "part_of",
    "read_whole",
    "says_part",
    "size_of",
]

UNKNOWN_SIZE: Final = -1
_DRAINED: Final = 1 << 16  # bytes cheaper to read than a new connection is to open
_CHUNK: Final = 1 << 20
_AT_ONCE: Final = MAX_PUT_BYTES  # reserved before it has come, taken up as it comes
_MAX_UNSIZED: Final = 1 << 28  # bytes read of an answer that does not say how long it is
_PART: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_NO_PART: Final = re.compile(r"bytes \*/(\d{1,19})")
_USER_METADATA: Final = "x-amz-meta-"  # as S3 shows it to the public
_LENGTH: Final = re.compile(r"\d{1,19}")


def _date_ms(text: str | None) -> int:
    """Unix ms of an HTTP date; 0 for anything else."""
    try:
        return int(parsedate_to_datetime(text or "").timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        return 0


def described(answer: BaseHTTPResponse, key: str) -> ObjectMeta | None:
    """The metadata in an answer of status 200; None if it does not say the object's length.

    Raises:
        RemoteIntegrityError: what is described is not the object but something made of it.
    """
    _check_encoding(answer, key)
    length = length_of(answer)
    return None if length is None else _meta(answer, key, length)


def part_of(answer: BaseHTTPResponse, key: str, start: int, stop: int | None) -> StoredObject:
    """The bytes [start, stop) of an object, `start` < `stop`, from servers that differ.

    Most send 206; rclone's S3 sends 200 with a Content-Range; 200 without one is the whole object;
    416 says that the object ends before `start`, and perhaps where.

    Args:
        answer: status 200, 206 or 416, its body not yet read.
        key: the object.
        start: first byte asked for.
        stop: one beyond the last, or None for the object's end.

    Returns:
        The part; its `meta.size` is `UNKNOWN_SIZE` after a 416 that gave none.

    Raises:
        RemoteIntegrityError: these are other bytes than those asked for, or fewer.
    """
    said = answer.headers.get("Content-Range")
    if answer.status == 416:
        return StoredObject(b"", _meta(answer, key, _end(said, key, start)))
    _check_encoding(answer, key)
    if said is None:
        if answer.status == 206:
            raise RemoteIntegrityError("a part came without its place", op="get", key=key)
        return _cut(answer, key, start, stop)
    match = _PART.fullmatch(said)
    if match is None:
        raise RemoteIntegrityError("a part came with an unreadable place", op="get", key=key)
    first, last, total = (int(number) for number in match.groups())
    end = total if stop is None else min(stop, total)
    if (first, last + 1) != (start, end) or length_of(answer) not in (None, end - start):
        raise RemoteIntegrityError(
            f"asked for bytes {start} to {end}, the server sent {first} to {last + 1}",
            op="get",
            key=key,
        )
    body = _read(answer, end - start)
    if len(body) != end - start or (length_of(answer) is None and _read(answer, 1)):
        raise RemoteIntegrityError(
            f"the server did not send the {end - start} bytes it announced", op="get", key=key
        )
    return StoredObject(body, _meta(answer, key, total))


def says_part(answer: BaseHTTPResponse) -> bool:
    """Whether an answer is a part of an object, as far as it says."""
    return answer.status == 206 or "Content-Range" in answer.headers


def size_of(answer: BaseHTTPResponse) -> int:
    """Length of the body, `UNKNOWN_SIZE` if the answer does not say it."""
    length = length_of(answer)
    return UNKNOWN_SIZE if length is None else length


def read_whole(answer: BaseHTTPResponse, key: str, room: Callable[[int], bool]) -> bytearray | None:
    """The body of an answer that is a whole object.

    Args:
        answer: status 200, its body not yet read.
        key: the object.
        room: asked, as the body grows, whether there is room for one of so many bytes.

    Returns:
        None if there was no room.

    Raises:
        RemoteIntegrityError: it is something made of the object, or breaks off.
    """
    _check_encoding(answer, key)
    body = bytearray()
    while piece := answer.read(_CHUNK, decode_content=False):
        if not room(len(body) + len(piece)):
            return None
        body += piece
    if size_of(answer) not in (len(body), UNKNOWN_SIZE):
        raise RemoteIntegrityError(f"the body broke off after {len(body)} bytes", op="get", key=key)
    return body


def leave(answer: BaseHTTPResponse) -> None:
    """Give the connection back, or up if too much of the answer is still to come."""
    if not answer.closed:
        length = length_of(answer)
        if length is not None and length <= _DRAINED:
            answer.drain_conn()
        else:
            answer.close()
    answer.release_conn()


def length_of(answer: BaseHTTPResponse) -> int | None:
    """The Content-Length; None if there is none, or none that can be read."""
    text = answer.headers.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def _end(said: str | None, key: str, start: int) -> int:
    """Where an object ends of which nothing lies at `start`."""
    if start == 0:
        return 0
    match = _NO_PART.fullmatch(said or "")
    if match is None:
        return UNKNOWN_SIZE
    size = int(match[1])
    if start < size:
        raise RemoteUnavailable(
            "the server refused bytes that it has: the object changed while it was read",
            op="get",
            key=key,
        )
    return size


def _cut(answer: BaseHTTPResponse, key: str, start: int, stop: int | None) -> StoredObject:
    """The part of an answer that is the whole object; what follows the part is left unread."""
    length = length_of(answer)
    if length is None:
        return _cut_unsized(answer, key, start, stop)
    end = length if stop is None else min(stop, length)
    start = min(start, end)
    if start < end:
        _skip(answer, start)
    body = _read(answer, end - start)
    if len(body) != end - start:
        raise RemoteIntegrityError(
            f"the body broke off after {start + len(body)} of {length} bytes", op="get", key=key
        )
    return StoredObject(body, _meta(answer, key, length))


def _cut_unsized(answer: BaseHTTPResponse, key: str, start: int, stop: int | None) -> StoredObject:
    """The part of a whole object of unknown length, which is read to its end to learn it."""
    limit = _MAX_UNSIZED + 1
    size = _skip(answer, min(start, limit))
    wanted = limit if stop is None else stop - start
    body = _read(answer, min(wanted, limit - size))
    size += len(body)
    size += _skip(answer, limit - size)
    if size > _MAX_UNSIZED:
        raise RemoteIntegrityError(
            "the server did not say the object's length, and it is large", op="get", key=key
        )
    return StoredObject(body, _meta(answer, key, size))


def _meta(answer: BaseHTTPResponse, key: str, size: int) -> ObjectMeta:
    headers = answer.headers
    said = ((name.lower(), value) for name, value in headers.items())
    return ObjectMeta(
        key,
        size,
        quoted(headers.get("ETag")),
        _date_ms(headers.get("Last-Modified")),
        tuple(
            (name.removeprefix(_USER_METADATA), value)
            for name, value in said
            if name.startswith(_USER_METADATA)
        ),
    )


def _check_encoding(answer: BaseHTTPResponse, key: str) -> None:
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", ""):
        raise RemoteIntegrityError(
            f"the server sent the object as {encoding[:20]!a} although it was asked for the "
            "object itself: switch off its compression for these paths",
            op="get",
            key=key,
        )


def _read(answer: BaseHTTPResponse, size: int) -> bytes:
    """The next `size` bytes, or all that come.

    What a server says of its length is bounded before it is believed. A body that is read in one
    go takes half the time of one that is joined.
    """
    body = answer.read(min(size, _AT_ONCE), decode_content=False)
    if len(body) == size:
        return body
    return joined(_pieces(answer, body, size))


def _pieces(answer: BaseHTTPResponse, first: bytes, size: int) -> Iterator[bytes]:
    yield first
    piece, missing = first, size
    while piece:
        missing -= len(piece)
        piece = answer.read(min(missing, _CHUNK), decode_content=False) if missing else b""
        yield piece


def _skip(answer: BaseHTTPResponse, count: int) -> int:
    """Pass over `count` bytes, or all that come; returns how many."""
    passed = 0
    while passed < count:
        piece = len(answer.read(min(count - passed, _CHUNK), decode_content=False))
        if not piece:
            break
        passed += piece
    return passed
