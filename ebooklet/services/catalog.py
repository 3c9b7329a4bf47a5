"""What a connection group says of its members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from ebooklet.core.head import DatabaseType
from ebooklet.services.metadata import metadata_of
from ebooklet.services.place import RemotePlace


@dataclass(frozen=True, slots=True)
class Member:
    """A database as its head describes it."""

    uuid: UUID
    type: DatabaseType
    timestamp: int  # µs of its last commit
    metadata: Any  # the user's, decoded; None if never set


def look_at(place: RemotePlace) -> Member | None:
    """Read a database's head; None when there is none.

    One request in mode cas; a second one, for the other copy of the head, in mode lock and where
    no head is found; and one for metadata too large for the head.

    Raises:
        UnsupportedFormatError: the object is not a database of ours.
        RemoteIntegrityError: the head is damaged, and so is its copy or there is none.
    """
    snapshot = place.heads().read()
    if snapshot is None:
        return None
    head = snapshot.head
    found = metadata_of(place.store, place.db_key, head)
    metadata = None if found is None else orjson.loads(found[0])
    return Member(head.uuid, head.type, head.ms * 1000, metadata)
