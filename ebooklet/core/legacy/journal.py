"""What a local file of 0.11 knows of changes not yet pushed: two of Booklet's slots, JSON both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from ebooklet.errors import LocalFileError, UnsupportedFormatError

METADATA_KEY: Final = b"adb01ebc1ba3433eb043527"
JOURNAL_KEY: Final = b"7c40d2ea915b4f3a8e6d201"
REMOTE_STATE_KEY: Final = b"f19a5c3d7e2b48069ab34c5"
_JOURNAL_VERSION: Final = 2
_STATE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class LegacyJournal:
    """Changes that were written down as such; 0.11 finds others by their timestamps.

    Attributes:
        written: keys set and not pushed.
        deletes: keys deleted and not pushed.
        metadata: the user's metadata were set and not pushed.
        replaces: the next push replaces the whole remote (flag "n").
    """

    written: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    metadata: bool = False
    replaces: bool = False


def read_journal(data: bytes | None, location: str) -> LegacyJournal:
    """Read the journal's slot; None stands for a file that has none.

    Raises:
        LocalFileError: it cannot be read: what is pending is unknown.
        UnsupportedFormatError: a later version wrote it.
    """
    if data is None:
        return LegacyJournal()
    found = _record(data, _JOURNAL_VERSION, location)
    return LegacyJournal(
        written=_keys(found.get("written", []), location),
        deletes=_keys(found.get("deletes", []), location),
        metadata=_flag(found.get("meta_pending", False), location),
        replaces=_flag(found.get("replace_pending", False), location),
    )


def read_remote_timestamp(data: bytes | None, location: str) -> int | None:
    """When the remote was committed that the file was last in step with, in µs; None if never.

    Raises:
        LocalFileError, UnsupportedFormatError: as `read_journal`.
    """
    if data is None:
        return None
    timestamp = _record(data, _STATE_VERSION, location).get("remote_ts")
    if timestamp is not None and (type(timestamp) is not int or timestamp < 0):
        raise _unreadable(location)
    return timestamp


def _record(data: bytes, known: int, location: str) -> dict[str, object]:
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        raise _unreadable(location) from None
    if not isinstance(found, dict):
        raise _unreadable(location)
    version = found.get("v")
    if type(version) is not int or version < 1:
        raise _unreadable(location)
    if version > known:
        raise UnsupportedFormatError(
            f"{location} was written by a later version of EBooklet 0.x: upgrade ebooklet",
            op="migrate",
        )
    return found


def _keys(found: object, location: str) -> frozenset[str]:
    if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
        raise _unreadable(location)
    return frozenset(found)


def _flag(found: object, location: str) -> bool:
    if not isinstance(found, bool):
        raise _unreadable(location)
    return found


def _unreadable(location: str) -> LocalFileError:
    return LocalFileError(
        f"what {location} says of changes not yet pushed cannot be read: push them with EBooklet "
        "0.11, then migrate the remote alone",
        op="migrate",
    )
