"""JSON by orjson, with the options of Booklet's `orjson`: fast, and knows dates and numpy arrays."""

from __future__ import annotations

from typing import Any, Final

import orjson

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["ORJSON", "OrjsonSerializer"]

_OPTIONS: Final = (
    orjson.OPT_NON_STR_KEYS | orjson.OPT_OMIT_MICROSECONDS | orjson.OPT_SERIALIZE_NUMPY
)


class OrjsonSerializer:
    """What JSON can say. NaN and the infinities come back as None, dates and UUIDs as str, arrays as lists."""

    name: Final = "orjson"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Encode as UTF-8 JSON, dicts in their own order."""
        try:
            return orjson.dumps(value, option=_OPTIONS)
        except (TypeError, ValueError, RecursionError) as exc:
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> Any:
        """Decode UTF-8 JSON, at most 1,024 levels deep."""
        try:
            return orjson.loads(data)
        except (ValueError, RecursionError) as exc:  # JSONDecodeError is a ValueError
            raise decoding_failed(self.name, data, exc) from exc


ORJSON: Final = OrjsonSerializer()
