"""Zstandard frames as Booklet writes them: with their content size, and bounded when read.

What comes back is bounded, as a few bytes of a hostile frame may claim, or truly inflate to,
terabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import zstandard

from ebooklet.core.serialization import MAX_INFLATION, inflated_limit
from ebooklet.ports.serializer import Buffer, BufferSerializer, Serializer

__all__ = ["decompress", "padded", "written_by"]

_FIRST_GUESS: Final = 64 << 10  # bytes, for a frame that does not say its size
_SKIPPABLE_MAGIC: Final = 0x184D2A50  # RFC 8878 §3.1.2
_SKIPPABLE_HEADER: Final = 8  # bytes


def written_by(inner: Serializer) -> Callable[[object], Buffer]:
    """How a serializer writes a value that is to be compressed at once: without a copy if it can."""
    return inner.dumps_buffer if isinstance(inner, BufferSerializer) else inner.dumps


def decompress(decompressor: zstandard.ZstdDecompressor, data: Buffer) -> bytes:
    """The content of the first frame, within `inflated_limit`.

    What follows that frame is ignored, as in Booklet.

    Raises:
        zstandard.ZstdError, ValueError, MemoryError: it is no frame, or inflates to too much.
    """
    limit = inflated_limit(len(data))
    size = zstandard.frame_content_size(data)
    if size >= 0:
        if size > limit:
            raise ValueError(f"claims {size} bytes; at most {limit} are allowed for its length")
        return decompressor.decompress(data)
    # The size is not given. zstandard allocates the bound it is told, so the bound starts small;
    # a truncated frame fails at each, and the last failure is the one reported.
    bound = min(limit, max(_FIRST_GUESS, 8 * len(data)))
    while True:
        try:
            return decompressor.decompress(data, max_output_size=bound)
        except zstandard.ZstdError:
            if bound == limit:
                raise
        bound = min(limit, 4 * bound)


def padded(frame: bytes, plain_bytes: int) -> bytes:
    """The frame, followed by a skippable one if it compresses too well to be read back.

    Every decoder ignores what follows. It makes the value long enough for the limit that protects
    readers from hostile frames.
    """
    if plain_bytes <= inflated_limit(len(frame)):
        return frame
    missing = plain_bytes // MAX_INFLATION + 1 - len(frame)
    body = max(0, missing - _SKIPPABLE_HEADER)
    return b"".join(
        (frame, _SKIPPABLE_MAGIC.to_bytes(4, "little"), body.to_bytes(4, "little"), bytes(body))
    )
