"""Text as UTF-8: Booklet's `str`."""

from __future__ import annotations

from typing import Final

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["STR", "StrSerializer"]


class StrSerializer:
    """Any `str` that UTF-8 can hold, code point by code point; nothing is normalised."""

    name: Final = "str"
    safe: Final = True

    def dumps(self, value: object, /) -> bytes:
        """Encode as UTF-8."""
        if not isinstance(value, str):
            raise encoding_failed(self.name, value, TypeError("only str can"))
        try:
            return value.encode()
        except UnicodeEncodeError as exc:
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> str:
        """Decode UTF-8, strictly."""
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as exc:
            raise decoding_failed(self.name, data, exc) from exc


STR: Final = StrSerializer()
