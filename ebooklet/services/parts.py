"""Parts of segments: checked, and asked for once more if they do not hold what they should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ebooklet.core.names import segment_key
from ebooklet.core.refs import BlockRef
from ebooklet.core.sealing import MAX_OVERHEAD, Content, Sealer
from ebooklet.core.segment import check_block
from ebooklet.errors import EBookletError, RemoteIntegrityError
from ebooklet.ports.remote_store import ByteRange, RemoteStore

T = TypeVar("T")
_CALLED: Final = {Content.METADATA: "the metadata are", Content.DICTIONARY: "a dictionary is"}


def checked(
    remote: RemoteStore, part: ByteRange, body: bytes | EBookletError, check: Callable[[bytes], T]
) -> T:
    """What `check` makes of the bytes that `get_ranges` brought.

    `get_ranges` may be answered by a copy of the objects, and a damaged copy must not make a
    database unreadable: before damage is reported, the bytes are asked for by `get`.

    Args:
        remote: where they came from.
        part: what was asked for.
        body: what came.
        check: raises `RemoteIntegrityError` for bytes that are damaged.

    Raises:
        RemoteIntegrityError: they are damaged where they were written, too.
        EBookletError: `body` is one, or they could not be asked for again.
    """
    if isinstance(body, EBookletError):
        raise body
    try:
        return check(body)
    except RemoteIntegrityError:
        again = read_again(remote, part)
        if isinstance(again, EBookletError):
            raise again from None
        return check(again)


def read_again(remote: RemoteStore, part: ByteRange) -> bytes | EBookletError:
    """The bytes of a part as they were written, or why they cannot be had."""
    try:
        return remote.get(part.key, start=part.start, stop=part.stop).body
    except EBookletError as exc:
        return exc


def read_block(
    remote: RemoteStore, db_key: str, ref: BlockRef, sealer: Sealer, content: Content, *, limit: int
) -> bytes:
    """One block that a head points to, opened.

    Args:
        remote: where the segments are.
        db_key: whose they are.
        ref: where it lies.
        sealer: of the database.
        content: what it holds.
        limit: most bytes that it may have in the clear.

    Raises:
        RemoteIntegrityError: it is larger than that, or damaged.
        EBookletError: it cannot be fetched.
    """
    key = segment_key(db_key, ref.sid)
    if ref.length > limit + MAX_OVERHEAD:
        raise RemoteIntegrityError(
            f"{_CALLED[content]} above the limit; run fsck", op="get", key=key
        )
    part = ByteRange(key, ref.offset, ref.offset + ref.length)
    (body,) = remote.get_ranges([part])

    def check(data: bytes) -> bytes:
        check_block(data, ref, key)
        return bytes(sealer.open(content, data))

    return checked(remote, part, body, check)
