"""Bodies on their way out: as one request, or in parts where they are too large for one."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeVar

from ebooklet.adapters.parallel import ordered_map
from ebooklet.adapters.remote.boto3.client import content_md5
from ebooklet.errors import EBookletError
from ebooklet.ports.remote_store import Body

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CreateMultipartUploadRequestTypeDef

__all__ = ["MAX_PUT_BYTES", "Outgoing", "Repeat", "send_in_parts"]

T = TypeVar("T")

MAX_PUT_BYTES: Final = 80 << 20  # a segment, with room to spare; one request holds it in memory
_PART_BYTES: Final = 16 << 20
_MAX_PARTS: Final = 10_000  # S3's limit
_PARTS_AT_ONCE: Final = 4  # of which each is held in memory


class Outgoing:
    """A body that can be sent more than once.

    Args:
        body: bytes, or a seekable file, of which the rest is the body.
    """

    def __init__(self, body: Body | BinaryIO) -> None:
        self._file: BinaryIO | None = None
        self._bytes = b""
        if isinstance(body, (bytes, bytearray, memoryview)):
            self._bytes = bytes(body)  # no copy of bytes; botocore takes no views
        else:
            self._file = body
            self._start = body.tell()
            self.size = body.seek(0, os.SEEK_END) - self._start
            body.seek(self._start)
            if self.size <= _PART_BYTES:
                self._bytes, self._file = body.read(), None
        if self._file is None:
            self.size = len(self._bytes)

    def whole(self) -> bytes:
        """All of it, for one request."""
        if self._file is None:
            return self._bytes
        self._file.seek(self._start)
        return self._file.read(self.size)

    def parts(self) -> Iterator[tuple[int, bytes]]:
        """Parts and their numbers from 1, of sizes that S3 accepts, read as they are asked for."""
        step = max(_PART_BYTES, -(-self.size // _MAX_PARTS))
        file = self._file or io.BytesIO(self._bytes)
        start = self._start if self._file else 0
        file.seek(start)
        for number in range(1, -(-self.size // step) + 1):
            yield number, file.read(min(step, self.size - (number - 1) * step))


class Repeat(Protocol):
    """Calls a request, again where that may help, with its errors translated."""

    def __call__(self, request: Callable[[], T], /) -> T:
        """Return what the request returns."""
        ...


def send_in_parts(
    client: S3Client,
    target: CreateMultipartUploadRequestTypeDef,
    outgoing: Outgoing,
    pool: Executor,
    repeat: Repeat,
) -> None:
    """Multipart upload; what was sent of it is dropped when it fails.

    Args:
        client: botocore's.
        target: Bucket, Key and headers of the object.
        outgoing: the body.
        pool: where parts are sent from.
        repeat: how requests are made.
    """
    begun = repeat(lambda: client.create_multipart_upload(**target))
    bucket, key, upload_id = target["Bucket"], target["Key"], begun["UploadId"]

    def send(part: tuple[int, bytes]) -> CompletedPartTypeDef:
        number, body = part
        answer = repeat(
            lambda: client.upload_part(
                Bucket=bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,
                ContentMD5=content_md5(body),
            )
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        sent = list(ordered_map(pool, send, outgoing.parts(), ahead=_PARTS_AT_ONCE))
        repeat(
            lambda: client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": sent}
            )
        )
    except BaseException:
        with contextlib.suppress(EBookletError):
            repeat(
                lambda: client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            )
        raise
