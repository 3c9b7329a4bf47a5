"""Zstandard around any other serializer, byte-compatible with Booklet's `zstd`, `pickle_zstd`, ….

A frame is zstd level 1 with its content size, as Booklet writes it. What comes back is bounded, as
a few bytes of a hostile frame may claim, or truly inflate to, terabytes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

import zstandard

from ebooklet.core.serialization import (
    MAX_INFLATION,
    canonical_name,
    decoding_failed,
    encoding_failed,
    inflated_limit,
)
from ebooklet.ports.serializer import Serializer

__all__ = ["ZstdSerializer", "wrap"]

_LEVEL: Final = 1  # Booklet's
_FIRST_GUESS: Final = 64 << 10  # bytes, for a frame that does not say its size
_SKIPPABLE_MAGIC: Final = 0x184D2A50  # RFC 8878 §3.1.2
_SKIPPABLE_HEADER: Final = 8  # bytes


class _Contexts(threading.local):
    """One compressor and decompressor a thread: they are not for sharing, and take 30 µs to make."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=_LEVEL).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_contexts: Final = _Contexts()


@dataclass(frozen=True, slots=True)
class ZstdSerializer:
    """Compresses what `inner` writes."""

    inner: Serializer

    @property
    def name(self) -> str:
        """The canonical name: `json+zstd`, or Booklet's own, as `pickle_zstd`."""
        return canonical_name(f"{self.inner.name}+zstd")

    @property
    def safe(self) -> bool:
        """As safe as what it wraps."""
        return self.inner.safe

    def dumps(self, value: Any, /) -> bytes:
        """Serialise, then compress."""
        plain = self.inner.dumps(value)
        try:
            frame = _contexts.compress(plain)
        except (zstandard.ZstdError, MemoryError) as exc:
            raise encoding_failed(self.name, value, exc) from exc
        if len(plain) > inflated_limit(len(frame)):
            return frame + _padding(len(plain) // MAX_INFLATION + 1 - len(frame))
        return frame

    def loads(self, data: bytes, /) -> Any:
        """Decompress within `inflated_limit`, then deserialise.

        Only the first frame counts, and what follows it is ignored, as in Booklet.
        """
        try:
            plain = _decompress(data)
        except (zstandard.ZstdError, ValueError, MemoryError) as exc:
            raise decoding_failed(self.name, data, exc) from exc
        return self.inner.loads(plain)


def wrap(inner: Serializer) -> Serializer:
    """Put zstd around `inner`: the entry point `+zstd`."""
    return ZstdSerializer(inner)


def _decompress(data: bytes) -> bytes:
    limit = inflated_limit(len(data))
    size = zstandard.frame_content_size(data)
    if size >= 0:
        if size > limit:
            raise ValueError(f"claims {size} bytes; at most {limit} are allowed for its length")
        return _contexts.decompress(data)
    # The size is not given. zstandard allocates the bound it is told, so the bound starts small;
    # a truncated frame fails at each, and the last failure is the one reported.
    bound = min(limit, max(_FIRST_GUESS, 8 * len(data)))
    while True:
        try:
            return _contexts.decompress(data, max_output_size=bound)
        except zstandard.ZstdError:
            if bound == limit:
                raise
        bound = min(limit, 4 * bound)


def _padding(size: int) -> bytes:
    """A skippable frame of at least `size` bytes, which every decoder ignores.

    A value that compresses better than `_MAX_RATIO` is stored long enough to be read back within
    the limit that protects readers from hostile frames.
    """
    body = max(0, size - _SKIPPABLE_HEADER)
    return b"".join(
        (_SKIPPABLE_MAGIC.to_bytes(4, "little"), body.to_bytes(4, "little"), bytes(body))
    )
