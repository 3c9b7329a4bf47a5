"""What all serializers share: how they are named, and how their failures read.

A name is a base format and perhaps the wrapper `zstd`: `json`, `json+zstd`. Booklet has names of its
own for some of these pairs (`pickle_zstd`), which its file header stores as a number; those stay the
canonical spelling, so that plain Booklet opens the same file.
"""

from __future__ import annotations

from typing import Final

from ebooklet.errors import SerializationError, UnknownNameError

__all__ = [
    "BOOKLET_NAMES",
    "CUSTOM_NAME",
    "canonical_name",
    "decoding_failed",
    "encoding_failed",
    "inflated_limit",
    "split_name",
]

MAX_NAME_CHARS: Final = 64
_MAX_REASON_CHARS: Final = 200

FREE_INFLATION: Final = 128 << 20  # bytes that any stored value may inflate to
MAX_INFLATION: Final = 1024  # beyond that: bytes out per byte in

BOOKLET_NAMES: Final = (
    None,  # 1
    *("str", "pickle", "json", "orjson"),  # 2 to 5
    *("uint1", "int1", "uint2", "int2", "uint4", "int4", "uint5", "int5", "uint8", "int8"),
    *("pickle_zstd", "orjson_zstd"),  # 16, 17
    *("numpy_int1", "numpy_int2", "numpy_int4", "numpy_int8"),
    *("numpy_int2_zstd", "numpy_int4_zstd", "numpy_int8_zstd"),
    *("pd_zstd", "gpd_zstd", "zstd", "wkb", "wkb_zstd", "msgpack", "msgpack_zstd", "bytes"),
)
"""Booklet's serializers; the number in its file header is the place in this list, from 1."""

CUSTOM_NAME: Final = "custom"
"""Stands in heads for a class of the user's own, which nothing stored can name."""

# Booklet's own spellings of "format, then zstd level 1". Its pd_zstd and gpd_zstd are formats that
# compress inside, and so bases of their own.
_WRAPPED: Final = {
    "zstd": ("bytes", "zstd"),
    "pickle_zstd": ("pickle", "zstd"),
    "orjson_zstd": ("orjson", "zstd"),
    "msgpack_zstd": ("msgpack", "zstd"),
    "wkb_zstd": ("wkb", "zstd"),
    "numpy_int2_zstd": ("numpy_int2", "zstd"),
    "numpy_int4_zstd": ("numpy_int4", "zstd"),
    "numpy_int8_zstd": ("numpy_int8", "zstd"),
}
_SPELLED: Final = {"+".join(parts): name for name, parts in _WRAPPED.items()}


def canonical_name(name: str | None) -> str:
    """Spell a serializer's name in the one way in which names may be compared and stored.

    Raises:
        UnknownNameError: not a name at all, whatever is installed.

    Example:
        >>> [canonical_name(n) for n in (None, "json", "pickle+zstd", "pickle_zstd")]
        ['bytes', 'json', 'pickle_zstd', 'pickle_zstd']
    """
    base, wrapper = split_name(name)
    if wrapper is None:
        return base
    plain = f"{base}+{wrapper}"
    return _SPELLED.get(plain, plain)


def split_name(name: str | None) -> tuple[str, str | None]:
    """Take a name apart into its base format and its wrapper, if it has one.

    Raises:
        UnknownNameError: not a name at all, whatever is installed.
    """
    if name is None:
        return "bytes", None
    if not isinstance(name, str):
        raise UnknownNameError(f"a serializer's name is a str, not {type(name).__name__}")
    if len(name) > MAX_NAME_CHARS or not name.isascii() or not name.isprintable():
        raise UnknownNameError(f"not a serializer's name: {name[:MAX_NAME_CHARS]!r}")
    if name in _WRAPPED:
        return _WRAPPED[name]
    base, plus, wrapper = name.partition("+")
    if not base or (plus and not wrapper) or "+" in wrapper:
        raise UnknownNameError(
            f"not a serializer's name: {name!r}; give a format, or a format and one wrapper, "
            "as in 'json+zstd'"
        )
    if base in _WRAPPED:
        raise UnknownNameError(f"not a serializer's name: {name!r}; {base!r} is wrapped already")
    return base, wrapper or None


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
