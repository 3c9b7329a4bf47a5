"""Multipart uploads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Protocol, TypeVar

from ebooklet.adapters.outgoing import PARTS_AT_ONCE, Outgoing, content_md5
from ebooklet.adapters.parallel import ordered_map
from ebooklet.errors import EBookletError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, CreateMultipartUploadRequestTypeDef

__all__ = ["Repeat", "send_in_parts"]

T = TypeVar("T")


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
        sent = list(ordered_map(pool, send, outgoing.parts(), ahead=PARTS_AT_ONCE))
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
