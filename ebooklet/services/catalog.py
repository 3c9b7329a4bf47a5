"""What a remote database says of itself to those who do not open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ebooklet.core.head import DatabaseType
from ebooklet.services.metadata import decode_metadata, metadata_of
from ebooklet.services.place import RemotePlace
from ebooklet.services.snapshot import Snapshot

TYPE_NAMES: Final[Mapping[DatabaseType, str]] = {
    "database": "EVariableLengthValue",
    "group": "RemoteConnGroup",
}
"""The names of the classes, as users and group entries know them."""


@dataclass(frozen=True, slots=True)
class Member:
    """A database as its head describes it."""

    uuid: UUID
    type: str  # name of its class
    timestamp: int  # µs of its last commit


def describe(snapshot: Snapshot) -> Member:
    """What a head says of its database."""
    head = snapshot.head
    return Member(head.uuid, TYPE_NAMES[head.type], snapshot.commit.ms * 1000)


def user_metadata(place: RemotePlace, snapshot: Snapshot) -> Any:
    """The user's metadata, decoded; None if never set.

    Where they are too large for the head, one more request.

    Raises:
        EncryptionError: the database is encrypted, and there is no key for it.
    """
    sealer = place.keyring.sealer_of(snapshot.head)
    stored = metadata_of(place.store, place.db_key, snapshot.head, sealer)
    return None if stored is None else decode_metadata(stored[0])
