"""Reading much of a file by its layout: one pass over the blocks' heads, then exact reads."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from typing import TypeAlias

from ebooklet.adapters.local.booklet.layout import TIMESTAMP_BYTES, Header, live_blocks

Places: TypeAlias = dict[bytes, int]  # key -> payload position << 32 | bytes of the value

_SELECTIVE = 7  # measured: a lookup costs about as much as passing over this many blocks
_FEW = 64


def is_worth_a_pass(wanted: int, total: int) -> bool:
    """Whether one pass over `total` blocks is cheaper than `wanted` lookups."""
    return wanted >= _FEW and wanted * _SELECTIVE >= total


def keys_and_stamps(fd: int, header: Header) -> tuple[list[str], array[int]]:
    """All keys and their timestamps (µs), in file order."""
    names: list[str] = []
    stamps = array("Q")
    add_name, add_stamp = names.append, stamps.append
    for key, timestamp, _, _ in live_blocks(fd, header):
        add_name(key.decode())
        add_stamp(timestamp)
    return names, stamps


def locate(fd: int, header: Header, keys: Iterable[str]) -> Places:
    """Where the values of those keys lie that are there."""
    wanted = {key.encode() for key in keys}
    return {
        key: place << 32 | size for key, _, place, size in live_blocks(fd, header) if key in wanted
    }


def read_at(fd: int, key: bytes, place: int) -> tuple[int, bytes] | None:
    """Timestamp and value from a place that `locate` gave; None when they are not there whole."""
    value_at = TIMESTAMP_BYTES + len(key)
    length = value_at + (place & 0xFFFF_FFFF)
    data = os.pread(fd, length, place >> 32)
    if len(data) != length or data[TIMESTAMP_BYTES:value_at] != key:
        return None
    return int.from_bytes(data[:TIMESTAMP_BYTES], "little"), data[value_at:]
