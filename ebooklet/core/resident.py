"""The `resident` log: which keys are stored locally (FORMAT §6).

From it a deletion made by plain Booklet is noticed. Frames and their rules: `core.frames`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ebooklet.core.cbor import Malformed
from ebooklet.core.frames import encode_frame, key_batches, read_frames, read_keys

__all__ = [
    "Gone",
    "Reset",
    "Resident",
    "ResidentRecord",
    "ResidentReplay",
    "encode_resident",
    "replay_resident",
]


@dataclass(frozen=True, slots=True)
class Resident:
    """These keys are stored locally."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Gone:
    """These keys are no longer stored locally."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Reset:
    """No key is stored locally."""


ResidentRecord: TypeAlias = Resident | Gone | Reset


def encode_resident(records: Iterable[ResidentRecord]) -> bytes:
    """The frames of records of the `resident` log."""
    frames: list[bytes] = []
    for record in records:
        match record:
            case Resident(keys):
                frames.extend(encode_frame([1, list(keys[s])]) for s in key_batches(keys))
            case Gone(keys):
                frames.extend(encode_frame([2, list(keys[s])]) for s in key_batches(keys))
            case Reset():
                frames.append(encode_frame([3]))
    return b"".join(frames)


class ResidentReplay(NamedTuple):
    """What a `resident` log says, as far as it can be read."""

    keys: set[str]
    intact: bool
    length: int


def replay_resident(data: bytes) -> ResidentReplay:
    """Add up a `resident` log; never raises, whatever the bytes."""
    keys: set[str] = set()
    length = 0
    for record, end in read_frames(data, _resident_record):
        match record:
            case Resident(added):
                keys.update(added)
            case Gone(removed):
                keys.difference_update(removed)
            case Reset():
                keys.clear()
        length = end
    return ResidentReplay(keys, length == len(data), length)


def _resident_record(items: list[object]) -> ResidentRecord:
    match items:
        case [1, keys]:
            return Resident(read_keys(keys))
        case [2, keys]:
            return Gone(read_keys(keys))
        case [3]:
            return Reset()
        case _:
            raise Malformed("a record of a newer version")
