r"""The body of a database's object: a frame around manifest, user metadata and index.

`ebooklet-db\0` | version u16 | u16 of zeros | lengths of manifest, metadata and index, u64 each | the
three, one after another; all big endian. The manifest is JSON that gives the generation of each
group, the metadata are JSON `{"timestamp": µs, "data": …}` or nothing, the index is a Booklet.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any, Final

from ebooklet.core.timestamps import MAX_TIMESTAMP
from ebooklet.errors import RemoteIntegrityError, UnsupportedFormatError

FRAME: Final = struct.Struct(">12sHHQQQ")
MAGIC: Final = b"ebooklet-db\0"
MAX_MANIFEST_BYTES: Final = 16 << 20
MAX_METADATA_BYTES: Final = 17 << 20  # above what a new database may have: that one is told apart
MAX_INDEX_BYTES: Final = 8 << 30
MAX_GROUP_ID: Final = (1 << 32) - 1
_VERSION: Final = 2
_GROUP_ID: Final = re.compile(r"0|[1-9]\d{0,9}")
_GENERATION: Final = re.compile(r"[0-9a-f]{13}")


@dataclass(frozen=True, slots=True)
class Sections:
    """Where the parts of the body are, in bytes from its start."""

    manifest: tuple[int, int]
    metadata: tuple[int, int]
    index: tuple[int, int]


def read_frame(data: bytes, size: int, key: str) -> Sections:
    """Read the frame.

    Args:
        data: the first bytes of the body.
        size: bytes of the whole body.
        key: the object, for messages.

    Raises:
        UnsupportedFormatError: it is no such body, or one of another version.
        RemoteIntegrityError: its parts do not add up, or are above all bounds.
    """
    if len(data) < FRAME.size or data[: len(MAGIC)] != MAGIC:
        raise UnsupportedFormatError(
            "the body of this object is no database of EBooklet 0.11; correct its key",
            op="migrate",
            key=key,
        )
    _, version, _, manifest, metadata, index = FRAME.unpack_from(data)
    if version != _VERSION:
        raise UnsupportedFormatError(
            f"the body of this object has version {version}, which EBooklet 0.11 does not write: "
            "upgrade ebooklet",
            op="migrate",
            key=key,
        )
    for name, length, limit in (
        ("manifest", manifest, MAX_MANIFEST_BYTES),
        ("user metadata", metadata, MAX_METADATA_BYTES),
        ("index", index, MAX_INDEX_BYTES),
    ):
        if length > limit:
            raise damaged(f"its {name} would have {length} bytes, above the limit of {limit}", key)
    first, second = FRAME.size + manifest, FRAME.size + manifest + metadata
    if second + index != size:
        raise damaged("its length differs from what it says", key)
    return Sections((FRAME.size, first), (first, second), (second, size))


def read_manifest(data: bytes, key: str) -> dict[int, str]:
    """Read the generation of each group, by the group's number.

    Raises:
        RemoteIntegrityError: it is none.
    """
    manifest: dict[int, str] = {}
    found = _json(data, "manifest", key)
    for group, generation in found.items() if isinstance(found, dict) else ((None, None),):
        if (
            not isinstance(group, str)
            or not isinstance(generation, str)
            or not _GROUP_ID.fullmatch(group)
            or not _GENERATION.fullmatch(generation)
            or int(group) > MAX_GROUP_ID
        ):
            raise damaged("its manifest is none", key)
        manifest[int(group)] = generation
    return manifest


def read_metadata(data: bytes, key: str) -> tuple[Any, int] | None:
    """Read the user's metadata and their timestamp (µs); None if they were never set.

    Raises:
        RemoteIntegrityError: they cannot be read.
    """
    if not data:
        return None
    found = _json(data, "user metadata", key)
    if isinstance(found, dict) and {"timestamp", "data"} <= found.keys():
        timestamp = found["timestamp"]
        if type(timestamp) is int and 0 <= timestamp <= MAX_TIMESTAMP:
            return found["data"], timestamp
    raise damaged("its user metadata are none", key)


def damaged(why: str, key: str) -> RemoteIntegrityError:
    """The error for a database of 0.11 that does not hold together."""
    return RemoteIntegrityError(
        f"the old database is damaged: {why}; let the fsck of EBooklet 0.11 look at it",
        op="migrate",
        key=key,
    )


def _json(data: bytes, name: str, key: str) -> object:
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        raise damaged(f"its {name} is no JSON", key) from None
    return found
