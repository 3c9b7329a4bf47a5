"""Parts of segments whose bytes did not hold what they should: asked for once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ebooklet.errors import EBookletError, RemoteIntegrityError
from ebooklet.ports.remote_store import ByteRange, RemoteStore

T = TypeVar("T")


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
