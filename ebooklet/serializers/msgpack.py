"""MessagePack, as Booklet's `msgpack`: JSON's shapes and bytes, compact and fast."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["MSGPACK", "MsgpackSerializer"]


class MsgpackSerializer:
    """What MessagePack can say. Tuples come back as lists, integers have at most 64 bits."""

    name: Final = "msgpack"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Encode, dicts in their own order."""
        try:
            packed: bytes = msgpack.packb(value)
        except Exception as exc:  # msgpack's errors, and those of the value's own methods
            raise encoding_failed(self.name, value, exc) from exc
        return packed

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> Any:
        """Decode; lengths that the bytes only claim cost nothing.

        Unlike Booklet's, it also reads dicts with other keys than str, which both can write.
        """
        try:
            return msgpack.unpackb(data, strict_map_key=False)
        except Exception as exc:  # msgpack's errors, and those of unhashable keys
            raise decoding_failed(self.name, data, exc) from exc


MSGPACK: Final = MsgpackSerializer()
