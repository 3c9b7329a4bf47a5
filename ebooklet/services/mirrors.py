"""A database that is written in one place and read in two: both have to show the same one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from ebooklet.core.head import decode_head
from ebooklet.errors import EBookletError, UUIDMismatchError
from ebooklet.ports.remote_store import RemoteStore

LookAtMirror: TypeAlias = Callable[[], bytes | None]
"""Reads the head as the mirror shows it; None if there is nothing, or it does not answer."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a database can be read for less than from the remote it is written to.

    Attributes:
        segments: the remote, but that segments are read from the mirror as long as it serves. Only
            for reading what is checked: to learn how the remote itself is, ask the remote.
        look: shows the mirror's head.
    """

    segments: RemoteStore
    look: LookAtMirror


def uuid_at(look: LookAtMirror, db_key: str) -> UUID | None:
    """The database that a mirror shows, an old state of it or a new one.

    None where nothing is yet, and for what is no head: a page that says so, or a damaged copy. What
    is read there later is checked against digests, so that it can do no harm.
    """
    data = look()
    try:
        return None if data is None else decode_head(data, key=db_key).uuid
    except EBookletError:
        return None


def check_mirror(shown: UUID | None, uuid: UUID | None, db_key: str) -> None:
    """Refuse a mirror of another database.

    Args:
        shown: see `uuid_at`.
        uuid: of the database that is to be written; None for one that is yet to be made.
        db_key: its key.

    Raises:
        UUIDMismatchError: readers of the mirror would not see what is written.
    """
    if shown is None or shown == uuid:
        return
    written = "no database is there yet" if uuid is None else f"the one to be written is {uuid}"
    raise UUIDMismatchError(
        f"the mirror at db_url shows database {shown}, but {written}; nothing was changed. "
        "Correct db_url or db_key, or leave db_url out; if the database was deleted just now, "
        "wait until the mirror follows",
        op="open",
        key=db_key,
    )
