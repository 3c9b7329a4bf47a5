"""Reading much of a file by its layout: one pass over the blocks' heads, then exact reads."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ebooklet.adapters.local.booklet.layout import TIMESTAMP_BYTES, Header, live_blocks
from ebooklet.errors import LocalFileError

Places: TypeAlias = dict[bytes, int]  # key -> payload position << 32 | bytes of the value

_SELECTIVE = 7  # measured: a lookup costs about as much as passing over this many blocks
_FEW = 64
_BRIDGED = 2  # bytes read for one that is wanted, rather than many reads


def is_worth_a_pass(wanted: int, total: int) -> bool:
    """Whether one pass over `total` blocks is cheaper than `wanted` lookups."""
    return wanted >= _FEW and wanted * _SELECTIVE >= total


def keys_and_stamps(fd: int, header: Header) -> tuple[list[str], array[int]]:
    """All keys and their timestamps (µs), in file order.

    Raises:
        LocalFileError: the blocks do not fit together.
    """
    names: list[str] = []
    stamps = array("Q")
    add_name, add_stamp = names.append, stamps.append
    try:
        for key, timestamp, _, _ in live_blocks(fd, header):
            add_name(key.decode())
            add_stamp(timestamp)
    except UnicodeDecodeError as exc:  # where one was looked for, no block begins
        raise LocalFileError(
            "the local file has a key that is no text: it was changed since it was last in order, "
            "or is damaged; open it again",
            op="keys",
        ) from exc
    return names, stamps


def locate(fd: int, header: Header, keys: Iterable[str]) -> Places:
    """Where the values of those keys lie that are there."""
    wanted = {key.encode() for key in keys}
    return {
        key: place << 32 | size for key, _, place, size in live_blocks(fd, header) if key in wanted
    }


def read_places(
    fd: int, wanted: Sequence[tuple[bytes, int | None]]
) -> list[tuple[int, bytes] | None]:
    """Timestamps and values from places that `locate` gave, in one read where they lie together.

    Args:
        fd: of the file.
        wanted: encoded keys, each with its place, or None.

    Returns:
        For each key what it has; None where it has no place, or is not there whole.
    """
    pieces = [
        (key, place >> 32, TIMESTAMP_BYTES + len(key) + (place & 0xFFFF_FFFF))
        for key, place in wanted
        if place is not None
    ]
    if not pieces:
        return [None] * len(wanted)
    start = min(at for _, at, _ in pieces)
    stop = max(at + length for _, at, length in pieces)
    if stop - start <= _BRIDGED * sum(length for _, _, length in pieces):
        data = os.pread(fd, stop - start, start)
        found = iter([_cut(key, data[at - start : at - start + n], n) for key, at, n in pieces])
    else:
        found = iter([_cut(key, os.pread(fd, n, at), n) for key, at, n in pieces])
    return [None if place is None else next(found) for _, place in wanted]


def _cut(key: bytes, data: bytes, length: int) -> tuple[int, bytes] | None:
    value_at = TIMESTAMP_BYTES + len(key)
    if len(data) != length or data[TIMESTAMP_BYTES:value_at] != key:
        return None
    return int.from_bytes(data[:TIMESTAMP_BYTES], "little"), data[value_at:]
