"""Bytes as they are: Booklet's `None` and `bytes`."""

from __future__ import annotations

from typing import Final

from ebooklet.core.serialization import encoding_failed

__all__ = ["BYTES", "BytesSerializer"]


class BytesSerializer:
    """Bytes in, the same bytes out; a bytearray or memoryview comes back as bytes."""

    name: Final = "bytes"
    safe: Final = True

    def dumps(self, value: object, /) -> bytes:
        """Return `value` itself, or a copy of a bytearray or memoryview."""
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise encoding_failed(self.name, value, TypeError("only bytes can"))

    def loads(self, data: bytes, /) -> bytes:
        """Return `data` itself."""
        return data


BYTES: Final = BytesSerializer()
