"""What of a local file was flushed: all that a power cut is sure to leave.

Behind that, anything may be missing, or be zeros, or be there; before it, only what is changed in
place. A state is known by the file's inode, as a file is replaced by another in one step, and of those
of one inode the newest counts, as the system gives numbers of removed files to new ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from struct import Struct, error
from typing import Final, NamedTuple

POSITION: Final = Struct("<Q")
_MAX_LISTED: Final = 100_000
_FIELDS: Final = 5
_LIMIT: Final = 1 << 63  # of each number: one more, and a sum of a few, still fits `POSITION`


class Flushed(NamedTuple):
    """A file as it was flushed."""

    serial: int  # the newer, the greater
    inode: int
    size: int  # bytes
    listed: int  # which list of dead blocks it goes with
    dead: int  # bytes of that list which count for it
    more: tuple[int, ...] = ()  # positions of dead blocks beside those of the list


def encode_states(states: Iterable[Flushed]) -> bytes:
    """As JSON."""
    return json.dumps([list(state) for state in states]).encode()


def decode_states(data: bytes | None) -> list[Flushed]:
    """Read `encode_states`' output; none in anything else."""
    try:
        return [checked_state(one) for one in json.loads(data or b"[]")]
    except (ValueError, TypeError, RecursionError):
        return []


def checked_state(found: list[object]) -> Flushed:
    """One state out of JSON. Raises `ValueError` or `TypeError` for anything else."""
    *fields, more = found
    if not isinstance(more, list) or len(more) > _MAX_LISTED:
        raise ValueError("no list of dead blocks")
    numbers = [
        number for number in (*fields, *more) if isinstance(number, int) and 0 <= number < _LIMIT
    ]
    if len(fields) != _FIELDS or len(numbers) != _FIELDS + len(more):
        raise ValueError("not a state")
    serial, inode, size, listed, dead = numbers[:_FIELDS]
    return Flushed(serial, inode, size, listed, dead, tuple(numbers[_FIELDS:]))


def encode_positions(positions: Iterable[int]) -> bytes:
    """The list of dead blocks, or a part of it."""
    return b"".join(map(POSITION.pack, positions))


def decode_positions(data: bytes) -> frozenset[int]:
    """Read `encode_positions`' output. Raises `ValueError` for a list that was cut."""
    try:
        return frozenset(position for (position,) in POSITION.iter_unpack(data))
    except error as exc:
        raise ValueError("the list of dead blocks was cut") from exc
