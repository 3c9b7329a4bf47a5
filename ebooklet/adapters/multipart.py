"""Multipart uploads, as botocore's and s3fs's calls make them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, Protocol

from ebooklet.adapters.outgoing import PARTS_AT_ONCE, Outgoing, content_md5
from ebooklet.adapters.parallel import ordered_map
from ebooklet.errors import EBookletError

__all__ = ["Ask", "send_in_parts"]


class Ask(Protocol):
    """Makes one of S3's calls, again where that may help, with its errors translated."""

    def __call__(self, method: str, **arguments: object) -> Mapping[str, Any]:
        """Return the answer to `method`, in the spelling of botocore's clients."""
        ...


def send_in_parts(
    ask: Ask, key: str, outgoing: Outgoing, pool: Executor, headers: Mapping[str, str]
) -> None:
    """Send a body in parts; what was sent of it is dropped when it fails.

    Args:
        ask: how requests are made; it knows the bucket.
        key: the object.
        outgoing: the body.
        pool: where parts are sent from.
        headers: of the object, in botocore's spelling.
    """
    upload_id = ask("create_multipart_upload", Key=key, **headers)["UploadId"]

    def send(part: tuple[int, bytes]) -> dict[str, object]:
        number, body = part
        answer = ask(
            "upload_part",
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ContentMD5=content_md5(body),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        sent = list(ordered_map(pool, send, outgoing.parts(), ahead=PARTS_AT_ONCE))
        ask(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": sent},
        )
    except BaseException as exc:
        try:
            ask("abort_multipart_upload", Key=key, UploadId=upload_id)
        except EBookletError as failure:
            exc.add_note(f"the parts sent are still in the bucket: {failure}")
        raise
