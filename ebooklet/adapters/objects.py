"""What every remote store checks in the same way: keys, spans and the parts of objects."""

from __future__ import annotations

from typing import BinaryIO, Final

from ebooklet.errors import EBookletError, RemoteIntegrityError, StoreError, UnsupportedOperation
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    IfMatch,
    Origin,
    RemoteStore,
    StoredObject,
)

__all__ = [
    "MAX_KEY_BYTES",
    "check_key",
    "check_span",
    "copies",
    "is_key",
    "no_copy",
    "quoted",
    "read_body",
    "read_part",
    "same_etag",
    "whole_part",
]

MAX_KEY_BYTES: Final = 1024  # S3's own limit
_FORBIDDEN_PARTS: Final = frozenset(("", ".", ".."))


def check_key(key: str, op: str) -> str:
    """Return `key` if promise 6 of the port covers it.

    Raises:
        StoreError: it is empty, too long, not UTF-8, or has an empty, `.` or `..` component;
            servers disagree on what such keys name, and on a file system they would escape.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise StoreError("object key cannot be encoded as UTF-8", op=op, key=ascii(key)) from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise StoreError(f"object key must have 1 to {MAX_KEY_BYTES} bytes", op=op, key=key)
    if not _FORBIDDEN_PARTS.isdisjoint(key.split("/")):
        raise StoreError("object key has an empty, '.' or '..' component", op=op, key=key)
    return key


def is_key(key: str) -> bool:
    """Whether promise 6 of the port covers `key`: others are no objects of ours."""
    try:
        check_key(key, "")
    except StoreError:
        return False
    return True


def check_span(start: int, stop: int | None, key: str) -> None:
    """Refuse a span that no object can have.

    Raises:
        StoreError: `start` is negative or `stop` lies before it.
    """
    if start < 0 or (stop is not None and stop < start):
        raise StoreError(f"impossible byte range {start} to {stop}", op="get", key=key)


def read_body(body: Body | BinaryIO) -> bytes:
    """The bytes of a body; a file is read from its position to its end."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    return body.read()


def read_part(store: RemoteStore, part: ByteRange) -> bytes | EBookletError:
    """Read one part of one object; a failure comes back as a value, so that others go on.

    A part that reaches past the object's end is a `RemoteIntegrityError`: such a range comes from
    an index, which says that the bytes exist.
    """
    try:
        return whole_part(store.get(part.key, start=part.start, stop=part.stop), part)
    except EBookletError as exc:
        return exc


def whole_part(found: StoredObject, part: ByteRange) -> bytes:
    """The body of a part that was found.

    Raises:
        RemoteIntegrityError: it reaches past the object's end.
    """
    if len(found.body) != part.stop - part.start:
        raise RemoteIntegrityError(
            f"object ends at byte {found.meta.size}, but bytes {part.start} to {part.stop} of it "
            "are in use: it was truncated or replaced",
            op="get",
            key=part.key,
        )
    return found.body


def quoted(etag: str | None) -> str:
    """An ETag as RFC 9110 §8.8.3 writes it; "" for none.

    Some servers leave the quotes out, rclone in lists only, and so do some libraries: one version
    would have two names.
    """
    if not etag:
        return ""
    return etag if etag.endswith('"') else f'"{etag}"'


def same_etag(condition: IfMatch, etag: str) -> bool:
    """Whether a condition names this ETag; quotes do not count, as on most servers."""
    return condition.etag.strip('"') == etag.strip('"')


def copies(own: Origin | None, origin: Origin | None) -> bool:
    """Whether two stores are of one server and identity."""
    return own is not None and origin is not None and origin.realm == own.realm


def no_copy(where: str, source: str) -> UnsupportedOperation:
    """The error for a copy from an origin that a store cannot reach."""
    return UnsupportedOperation(
        f"{where} cannot copy objects of that other store: read them there and put them here",
        op="copy",
        key=source,
    )
