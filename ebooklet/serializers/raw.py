"""Bytes as they are: Booklet's `None` and `bytes`."""

from __future__ import annotations

from typing import Final

from ebooklet.core.serialization import encoding_failed
from ebooklet.ports.serializer import Buffer

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

    def dumps_buffer(self, value: object, /) -> Buffer:
        """Return `value` itself, whichever of the three it is."""
        if isinstance(value, memoryview) and value.c_contiguous:
            return value.cast("B")
        return value if isinstance(value, bytearray) else self.dumps(value)

    def loads(self, data: Buffer, /) -> bytes:
        """Return `data` itself, or a copy of a bytearray or memoryview."""
        return data if type(data) is bytes else bytes(data)


BYTES: Final = BytesSerializer()
