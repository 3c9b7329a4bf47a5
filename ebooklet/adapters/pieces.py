"""Bodies that come in pieces."""

from __future__ import annotations

import io
from collections.abc import Iterable

__all__ = ["joined"]


def joined(pieces: Iterable[bytes | memoryview]) -> bytes:
    """Put pieces together as they come, so that the whole is held once.

    `b"".join` holds it twice: all pieces, and what it makes of them. A BytesIO grows in place, and
    CPython's gives away its buffer as it is.
    """
    whole = io.BytesIO()
    for piece in pieces:
        whole.write(piece)
    return whole.getvalue()
