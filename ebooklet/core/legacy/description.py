"""What the user metadata of a database's object say of it: identity, type, serializer, layout."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from ebooklet.core.headtypes import DatabaseType
from ebooklet.core.legacy.payload import damaged
from ebooklet.core.serializer_names import BOOKLET_NAMES, CUSTOM_NAME
from ebooklet.errors import UnsupportedFormatError

Layout = Literal["grouped", "per key"]

_TYPES: Final[dict[str, DatabaseType]] = {
    "EVariableLengthValue": "database",
    "RemoteConnGroup": "group",
}
_LAYOUTS: Final[dict[str, Layout]] = {"3": "grouped", "2": "per key"}
_UUID: Final = re.compile(r"[0-9a-f]{32}")
_TIMESTAMP: Final = re.compile(r"\d{1,17}")
_VARIABLE: Final = bytes.fromhex("4f7e8a3fe75c4750ad430a728fe31cfe")
_HEADER_BYTES: Final = 200
_STR: Final = 2  # Booklet's number of the serializer "str"
_MAX_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Description:
    """A database of 0.11 as its object describes it."""

    uuid: UUID
    type: DatabaseType
    value_serializer: str  # our name; "custom" for a class of the user's own
    layout: Layout
    timestamp: int  # µs since the Unix epoch, of the last commit


def read_description(user_metadata: Iterable[tuple[str, str]], key: str) -> Description:
    """Read the user metadata of a database's object.

    Args:
        user_metadata: names and values.
        key: the object, for messages.

    Raises:
        UnsupportedFormatError: not a database of 0.11, or one of an older or newer format.
        RemoteIntegrityError: one of 0.11, damaged.
    """
    # Some servers give names back in other letters, or with dashes.
    said = {name.lower().replace("-", "_"): value for name, value in user_metadata}
    version = said.get("format_version", "1" if "init_bytes" in said else "")
    if not {"uuid", "type", "init_bytes", "timestamp"} <= said.keys():
        raise UnsupportedFormatError(
            "this object is no database of EBooklet 0.11: what 0.11 writes beside its body is not "
            "there, or the server does not show it; open it with ebooklet.open, or correct its key",
            op="migrate",
            key=key,
        )
    if version == "1" or "num_groups" in said:
        raise UnsupportedFormatError(
            "this database has the layout of EBooklet before 0.11: load all of it with that "
            "version (load_items), push it with 0.11, then migrate it",
            op="migrate",
            key=key,
        )
    layout = _LAYOUTS.get(version)
    if layout is None:
        raise UnsupportedFormatError(
            f"storage format {version[:_MAX_SHOWN]!r} is none of EBooklet 0.11: upgrade ebooklet",
            op="migrate",
            key=key,
        )
    database_type = _TYPES.get(said["type"])
    if database_type is None:
        raise damaged(f"its type is {said['type'][:_MAX_SHOWN]!r}", key)
    if not _UUID.fullmatch(said["uuid"]) or not _TIMESTAMP.fullmatch(said["timestamp"]):
        raise damaged("its uuid or its timestamp cannot be read", key)
    uuid = UUID(said["uuid"])
    header = _header(said["init_bytes"], key)
    if header[49:65] != uuid.bytes:
        raise damaged("the header of its local file has another uuid", key)
    number = int.from_bytes(header[29:31], "little")
    return Description(
        uuid, database_type, serializer_name(number, key), layout, int(said["timestamp"])
    )


def serializer_name(number: int, key: str) -> str:
    """Our name of the serializer that Booklet stores as `number`; "custom" for a class.

    Raises:
        UnsupportedFormatError: Booklet had no serializer of that number.
    """
    if number == 0:
        return CUSTOM_NAME
    if number > len(BOOKLET_NAMES):
        raise UnsupportedFormatError(
            f"its values are serialised in a way that this version does not know (number {number} "
            "of booklet): upgrade ebooklet",
            op="migrate",
            key=key,
        )
    return BOOKLET_NAMES[number - 1] or "bytes"


def read_timestamp(user_metadata: Iterable[tuple[str, str]]) -> int | None:
    """The timestamp (µs) that 0.11 writes beside a value; None if there is none to be read."""
    for name, value in user_metadata:
        if name.lower() == "timestamp":
            return int(value) if _TIMESTAMP.fullmatch(value) else None
    return None


def _header(text: str, key: str) -> bytes:
    try:
        header = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise damaged("the header of its local file cannot be read", key) from None
    if len(header) != _HEADER_BYTES or header[:16] != _VARIABLE:
        raise damaged("the header of its local file is none", key)
    if int.from_bytes(header[31:33], "little") != _STR:
        raise damaged("its keys are no strings", key)
    return header
