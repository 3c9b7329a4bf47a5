"""Integers of one width, little endian, as Booklet's `uint1` to `int8`: a value is 1 to 8 bytes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Final

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = [
    "INT1",
    "INT2",
    "INT4",
    "INT5",
    "INT8",
    "UINT1",
    "UINT2",
    "UINT4",
    "UINT5",
    "UINT8",
    "IntegerSerializer",
]


@dataclass(frozen=True, slots=True)
class IntegerSerializer:
    """Integers that fit into a fixed number of bytes; they come back as `int`.

    Booklet cuts fractions off and parses text; here only an integer is one, numpy's included.
    """

    width: int  # bytes
    signed: bool

    @property
    def name(self) -> str:
        """Booklet's name: `uint4`, `int8`, …."""
        return f"{'' if self.signed else 'u'}int{self.width}"

    @property
    def safe(self) -> bool:
        """True: reading an integer runs nothing."""
        return True

    def dumps(self, value: Any, /) -> bytes:
        """Encode an integer that fits."""
        try:
            return operator.index(value).to_bytes(self.width, "little", signed=self.signed)
        except Exception as exc:  # too large, no integer, or a failing __index__
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> int:
        """Decode exactly `width` bytes."""
        if len(data) != self.width:
            raise decoding_failed(self.name, data, ValueError(f"it takes {self.width} bytes"))
        return int.from_bytes(data, "little", signed=self.signed)


UINT1: Final = IntegerSerializer(1, signed=False)
INT1: Final = IntegerSerializer(1, signed=True)
UINT2: Final = IntegerSerializer(2, signed=False)
INT2: Final = IntegerSerializer(2, signed=True)
UINT4: Final = IntegerSerializer(4, signed=False)
INT4: Final = IntegerSerializer(4, signed=True)
UINT5: Final = IntegerSerializer(5, signed=False)
INT5: Final = IntegerSerializer(5, signed=True)
UINT8: Final = IntegerSerializer(8, signed=False)
INT8: Final = IntegerSerializer(8, signed=True)
