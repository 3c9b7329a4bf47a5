"""What all serializers share: how their failures read, and what a stored value may inflate to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ebooklet.core.merge import Special
from ebooklet.errors import SerializationError

__all__ = [
    "decoding_failed",
    "encoding_failed",
    "inflated_limit",
    "no_value",
    "special_in",
]

_MAX_REASON_CHARS: Final = 200

FREE_INFLATION: Final = 128 << 20  # bytes that any stored value may inflate to
MAX_INFLATION: Final = 1024  # beyond that: bytes out per byte in


def inflated_limit(stored_bytes: int) -> int:
    """Largest size in bytes that a compressed value of `stored_bytes` may inflate to.

    A few bytes from a stranger may claim, or truly inflate to, terabytes; no useful value does.
    """
    return max(FREE_INFLATION, stored_bytes * MAX_INFLATION)


def encoding_failed(name: str, value: object, cause: BaseException) -> SerializationError:
    """The error for a value that the format `name` cannot hold; the value itself is not shown."""
    if (special := special_in(value)) is not None:
        return no_value(special)
    return SerializationError(
        f"a value of type {type(value).__name__} cannot be stored as {name}: {_reason(cause)}; "
        "change the value, or create the database with another value_serializer",
        op="dumps",
    )


def no_value(special: Special) -> SerializationError:
    """The error for what was to be stored and stands for no value, or has that in it."""
    return SerializationError(
        f"{special!r} is no value, and can be no part of one: delete the key where it is to be "
        "absent, or, in a conflict= function, return ebooklet.ABSENT by itself",
        op="dumps",
    )


def special_in(value: object) -> Special | None:
    """A stand-in for a value in `value`, or in the plain containers that it is made of."""
    seen: set[int] = set()  # a container may hold itself
    left: list[object] = [value]
    while left:
        part = left.pop()
        if isinstance(part, Special):
            return part
        if isinstance(part, Mapping | list | tuple | set | frozenset) and id(part) not in seen:
            seen.add(id(part))
            left.extend(part)
            left.extend(part.values() if isinstance(part, Mapping) else ())
    return None


def decoding_failed(name: str, data: object, cause: BaseException) -> SerializationError:
    """The error for bytes that the format `name` cannot read; the bytes are not shown."""
    size = f"{len(data)} bytes" if isinstance(data, (bytes, bytearray, memoryview)) else "a value"
    return SerializationError(
        f"{size} cannot be read as {name}: {_reason(cause)}; "
        "they were written by another serializer, or are damaged",
        op="loads",
    )


def _reason(cause: BaseException) -> str:
    kind = type(cause).__name__
    text = str(cause)[:_MAX_REASON_CHARS]
    return f"{kind}: {text}" if text else kind
