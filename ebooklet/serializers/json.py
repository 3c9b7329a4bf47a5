"""JSON by the standard library, as Booklet's `json`."""

from __future__ import annotations

import json
from typing import Any, Final

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["JSON", "JsonSerializer"]


class JsonSerializer:
    """What JSON can say, and NaN. Tuples come back as lists, keys of dicts as str."""

    name: Final = "json"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Encode as ASCII-only JSON, dicts in their own order."""
        try:
            return json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> Any:
        """Decode UTF-8 JSON."""
        try:
            return json.loads(str(data, "utf-8"))
        except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
            raise decoding_failed(self.name, data, exc) from exc


JSON: Final = JsonSerializer()
