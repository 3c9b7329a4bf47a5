"""Zstandard around any other serializer, byte-compatible with Booklet's `zstd`, `pickle_zstd`, …."""

from __future__ import annotations

import threading
from typing import Any, Final

import zstandard

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.core.serializer_names import BOOKLET_LEVEL, ZstdOptions, wrapped_name
from ebooklet.ports.serializer import Buffer, Serializer
from ebooklet.serializers.zstd.frames import decompress, padded, written_by

__all__ = ["ZstdSerializer"]


class _Contexts(threading.local):
    """One compressor a level and thread, one decompressor: not for sharing, and 30 µs to make."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_contexts: Final = _Contexts()


class ZstdSerializer:
    """Compresses what another serializer writes.

    Args:
        inner: the other one.
        level: 1 to 22; Booklet's is 1.
    """

    def __init__(self, inner: Serializer, level: int = BOOKLET_LEVEL) -> None:
        self.inner: Final = inner
        self.level: Final = level
        self._written = written_by(inner)

    def __reduce__(self) -> tuple[type[ZstdSerializer], tuple[Serializer, int]]:
        """Travel to another process by what it was made of."""
        return ZstdSerializer, (self.inner, self.level)

    @property
    def name(self) -> str:
        """The canonical name: `json+zstd`, `json+zstd:9`, or Booklet's own, as `pickle_zstd`."""
        return wrapped_name(self.inner.name, "zstd", str(ZstdOptions(self.level)))

    @property
    def safe(self) -> bool:
        """As safe as what it wraps."""
        return self.inner.safe

    def dumps(self, value: Any, /) -> bytes:
        """Serialise, then compress."""
        plain = self._written(value)
        try:
            compressor = _contexts.compressors.get(self.level)
            if compressor is None:
                compressor = zstandard.ZstdCompressor(level=self.level)
                _contexts.compressors[self.level] = compressor
            frame = compressor.compress(plain)
        except (zstandard.ZstdError, MemoryError) as exc:
            raise encoding_failed(self.name, value, exc) from exc
        return padded(frame, len(plain))

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> Any:
        """Decompress within `inflated_limit`, then deserialise."""
        try:
            plain = decompress(_contexts.decompressor, data)
        except (zstandard.ZstdError, ValueError, MemoryError) as exc:
            raise decoding_failed(self.name, data, exc) from exc
        return self.inner.loads(plain)
