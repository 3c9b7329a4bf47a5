"""Bodies on their way out: as one request, or in parts where they are too large for one."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from ebooklet.errors import RemoteIntegrityError, StoreError, UnsupportedOperation
from ebooklet.ports.remote_store import Body, Condition, IfMatch, ObjectMeta

__all__ = [
    "MAX_PUT_BYTES",
    "PARTS_AT_ONCE",
    "PART_BYTES",
    "Outgoing",
    "check_condition",
    "content_md5",
    "etag_header",
    "stored_whole",
]

MAX_PUT_BYTES: Final = 80 << 20  # a segment, with room to spare; one request holds it in memory
PART_BYTES: Final = 16 << 20
PARTS_AT_ONCE: Final = 4  # of which each is held in memory
_MAX_PARTS: Final = 10_000  # S3's limit


class Outgoing:
    """A body that can be sent more than once.

    Args:
        body: bytes, or a seekable file, of which the rest is the body.
    """

    def __init__(self, body: Body | BinaryIO) -> None:
        self._file: BinaryIO | None = None
        self._bytes = b""
        if isinstance(body, (bytes, bytearray, memoryview)):
            self._bytes = bytes(body)  # no copy of bytes; client libraries take no views
        else:
            self._file = body
            self._start = body.tell()
            self.size = body.seek(0, os.SEEK_END) - self._start
            body.seek(self._start)
            if self.size <= PART_BYTES:
                self._bytes, self._file = body.read(), None
        if self._file is None:
            self.size = len(self._bytes)

    @property
    def is_large(self) -> bool:
        """Whether it takes more than one request."""
        return self.size > MAX_PUT_BYTES

    @property
    def part_bytes(self) -> int:
        """The size of parts that S3 accepts."""
        return max(PART_BYTES, -(-self.size // _MAX_PARTS))

    def whole(self) -> bytes:
        """All of it, for one request."""
        if self._file is None:
            return self._bytes
        self._file.seek(self._start)
        return self._file.read(self.size)

    def stream(self) -> BinaryIO:
        """A file that stands at the first byte."""
        if self._file is None:
            return io.BytesIO(self._bytes)
        self._file.seek(self._start)
        return self._file

    def parts(self) -> Iterator[tuple[int, bytes]]:
        """Parts and their numbers from 1, read as they are asked for."""
        step, file = self.part_bytes, self.stream()
        for number in range(1, -(-self.size // step) + 1):
            yield number, file.read(min(step, self.size - (number - 1) * step))


def content_md5(body: bytes | bytearray) -> str:
    """The `Content-MD5` header: the one checksum that every server of S3's kind knows."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def check_condition(condition: Condition | None, outgoing: Outgoing, key: str) -> None:
    """Refuse a condition on a body that takes more than one request.

    Raises:
        UnsupportedOperation: such a body goes in parts, and conditions hold for one request.
    """
    if condition is not None and outgoing.is_large:
        raise UnsupportedOperation(
            f"a conditional put takes at most {MAX_PUT_BYTES} bytes", op="put", key=key
        )


def etag_header(condition: IfMatch, key: str) -> str:
    """The value of `If-Match`.

    Raises:
        StoreError: it would break the request.
    """
    etag = condition.etag
    if not etag or not etag.isprintable() or not etag.isascii():
        raise StoreError("the ETag to be matched cannot be sent", op="put", key=key)
    return etag


def stored_whole(meta: ObjectMeta, outgoing: Outgoing) -> ObjectMeta:
    """Return what was found after a put in parts, if it is as long as what was sent.

    Raises:
        RemoteIntegrityError: it is not.
    """
    if meta.size != outgoing.size:
        raise RemoteIntegrityError(
            f"sent {outgoing.size} bytes, but {meta.size} are stored", op="put", key=meta.key
        )
    return meta
