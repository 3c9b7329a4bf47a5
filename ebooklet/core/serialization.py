"""What all serializers share: how their failures read, and what a stored value may inflate to."""

from __future__ import annotations

from typing import Final

from ebooklet.errors import SerializationError

__all__ = [
    "decoding_failed",
    "encoding_failed",
    "inflated_limit",
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
    return SerializationError(
        f"a value of type {type(value).__name__} cannot be stored as {name}: {_reason(cause)}; "
        "change the value, or create the database with another value_serializer",
        op="dumps",
    )


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
