"""Deterministic CBOR, and field readers that let nothing unexpected through.

Only RFC 8949 §4.2.1 encodings are accepted: what was read encodes to the same bytes again. That
alone refuses trailing data, duplicate keys, indefinite lengths and wide integers; semantic tags
(shared references, dates, patterns, big numbers) are refused before anything is built from them.

Maps of the format have keys of one type each, where cbor2's canonical order (RFC 7049) and the
order of RFC 8949 are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

import cbor2

__all__ = [
    "Malformed",
    "blob",
    "decode",
    "encode",
    "flag",
    "mapping",
    "row",
    "rows",
    "text",
    "uint",
]

MAX_DEPTH: Final = 12
U32: Final = (1 << 32) - 1
U48: Final = (1 << 48) - 1
U63: Final = (1 << 63) - 1
_EMBEDDED_CBOR: Final = 55799


class Malformed(ValueError):
    """Stored bytes break the format; decoders turn it into an error that names the object."""


def encode(value: object) -> bytes:
    """Encode plain values (int, bytes, str, bool, None, lists and maps of them)."""
    return cbor2.dumps(value, canonical=True)


def _refuse(*_: object) -> NoReturn:
    raise Malformed("it uses a CBOR tag")


# Every tag that cbor2 would act upon; `tag_hook` gets all others.
_NO_TAGS: Final = dict.fromkeys(
    (*range(64), 100, *range(256, 300), 1004, 43000, _EMBEDDED_CBOR), _refuse
)


def decode(data: bytes) -> object:
    """Decode what `encode` wrote; the caller has bounded its size.

    Raises:
        Malformed: anything but the deterministic encoding of plain values.
    """
    try:
        value: object = cbor2.loads(
            data, tag_hook=_refuse, semantic_decoders=_NO_TAGS, max_depth=MAX_DEPTH
        )
        same = cbor2.dumps(value, canonical=True) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise Malformed("it is not plain CBOR") from exc
    if not same:
        raise Malformed("its CBOR is not deterministic")
    return value


def uint(value: object, name: str, limit: int = U63) -> int:
    """`value` if it is an integer in 0 to `limit`."""
    if type(value) is int and 0 <= value <= limit:
        return value
    raise Malformed(f"{name} is not an integer in range")


def blob(value: object, name: str, size: int | None = None, *, limit: int = U32) -> bytes:
    """`value` if it is a byte string of `size` bytes, or of at most `limit`."""
    if type(value) is bytes and (len(value) <= limit if size is None else len(value) == size):
        return value
    raise Malformed(f"{name} is not a byte string of the right size")


def text(value: object, name: str, limit: int = 200) -> str:
    """`value` if it is a string of at most `limit` UTF-8 bytes."""
    if type(value) is str and (
        4 * len(value) <= limit or (len(value) <= limit and len(value.encode()) <= limit)
    ):
        return value
    raise Malformed(f"{name} is not a string of at most {limit} bytes")


def flag(value: object, name: str) -> bool:
    """`value` if it is a boolean."""
    if type(value) is bool:
        return value
    raise Malformed(f"{name} is not a boolean")


def rows(value: object, name: str, limit: int) -> list[object]:
    """`value` if it is a list of at most `limit` items."""
    if isinstance(value, list) and len(value) <= limit:
        return value
    raise Malformed(f"{name} is not a list of at most {limit} items")


def row(value: object, name: str, width: int) -> list[object]:
    """`value` if it is a list of exactly `width` items."""
    if isinstance(value, list) and len(value) == width:
        return value
    raise Malformed(f"{name} is not a list of {width} items")


def mapping(value: object, name: str, limit: int) -> Mapping[str, object]:
    """`value` if it is a map with string keys and at most `limit` items."""
    if isinstance(value, dict) and len(value) <= limit and all(type(k) is str for k in value):
        return value
    raise Malformed(f"{name} is not a map of at most {limit} names")


def body(value: object) -> dict[int, object]:
    """`value` if it is a map with unsigned integer keys: the shape of every record."""
    if isinstance(value, dict) and all(type(k) is int and 0 <= k <= U32 for k in value):
        return value
    raise Malformed("it is not a map with integer keys")


def split_unknown(fields: dict[int, object], known: frozenset[int]) -> dict[int, bytes]:
    """Encodings of the fields this version does not know, to be carried through unchanged."""
    return {key: encode(value) for key, value in fields.items() if key not in known}


def join_unknown(fields: dict[int, object], unknown: Mapping[int, bytes]) -> dict[int, object]:
    """Put the fields of `split_unknown` back."""
    return fields | {key: cbor2.loads(data) for key, data in unknown.items()}
