"""CBOR (RFC 8949): JSON's shapes and bytes, sets, dates, decimals, in a compact binary form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

import cbor2

from ebooklet.core.serialization import decoding_failed, encoding_failed
from ebooklet.ports.serializer import Buffer

__all__ = ["CBOR", "CborSerializer"]

MAX_DEPTH: Final = 400  # containers inside one another that may be stored
# A container may be a tag and an array (a set is), so twice the depth of what is stored, and more.
_MAX_DECODED_DEPTH: Final = 1000
_LEAVES: Final = frozenset({int, float, str, bytes, bool, type(None)})


class CborSerializer:
    """What CBOR can say. Tuples come back as lists, frozensets as sets, bytearrays as bytes."""

    name: Final = "cbor"
    safe: Final = True

    def dumps(self, value: Any, /) -> bytes:
        """Encode, dicts in their own order; at most 400 levels deep."""
        if type(value) not in _LEAVES and _is_too_deep(value):
            raise encoding_failed(
                self.name, value, RecursionError(f"nested deeper than {MAX_DEPTH} levels")
            )
        try:
            return cbor2.dumps(value)
        except Exception as exc:  # cbor2's errors, and those of the value's own methods
            raise encoding_failed(self.name, value, exc) from exc

    dumps_buffer = dumps

    def loads(self, data: Buffer, /) -> Any:
        """Decode; lengths that the bytes only claim cost nothing."""
        try:
            return cbor2.loads(data, max_depth=_MAX_DECODED_DEPTH)
        except Exception as exc:  # the decoders of tags may raise nearly anything
            raise decoding_failed(self.name, data, exc) from exc


def _is_too_deep(value: object) -> bool:
    """Whether containers stand deeper than `MAX_DEPTH`, seen without recursion.

    cbor2 6.3 crashes the process on values nested some 100,000 levels deep, and would write values
    that its own decoder then refuses.
    """
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for container in level
            for child in _children(container)
            if type(child) not in _LEAVES
        ]
        if not level:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    if isinstance(value, (list, tuple, Set)):
        return value
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values())
    if isinstance(value, cbor2.CBORTag):
        return (value.value,)
    return ()


CBOR: Final = CborSerializer()
