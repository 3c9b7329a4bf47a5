"""What a migration did, and what it could not do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ebooklet.core.headtypes import DatabaseType
from ebooklet.errors import LocalFileError


@dataclass(frozen=True, slots=True)
class PendingFound:
    """Changes in a local file of 0.11 that were never pushed. False when there are none.

    Attributes:
        sets: keys written there, sorted.
        deletes: keys deleted there, sorted.
        metadata: whether the user's metadata were set there.
        replaces: whether they replace the whole remote (flag "n", not pushed).
    """

    sets: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    metadata: bool = False
    replaces: bool = False

    def __bool__(self) -> bool:
        return bool(self.sets or self.deletes or self.metadata or self.replaces)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What `migrate` did. True only if all that was found is in the new database.

    Attributes:
        old_uuid: identity of the old database.
        new_uuid: identity of the new one.
        kind: "database", or "group" for a connection group.
        value_serializer: name of the serializer, carried over; "custom" for a class.
        commit: id of the one commit, in hexadecimal.
        keys: number of keys in the new database.
        value_bytes: bytes of their serialised values.
        bytes_up: bytes that were uploaded; 0 where an earlier call had done so before it broke off.
        failures: what was left out, by key, with the reason.
        notes: what could not be read or told and belongs to no key.
        pending: changes found in the local file that 0.11 never pushed.
        pending_applied: whether these are part of the new database.
    """

    old_uuid: UUID
    new_uuid: UUID
    kind: DatabaseType
    value_serializer: str
    commit: str
    keys: int
    value_bytes: int
    bytes_up: int
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pending: PendingFound = field(default_factory=PendingFound)
    pending_applied: bool = False

    def __bool__(self) -> bool:
        return not (self.failures or self.notes or (self.pending and not self.pending_applied))


@dataclass(frozen=True, slots=True)
class Findings:
    """The part of a report that only reading the old database tells."""

    failures: dict[str, str]
    notes: tuple[str, ...]
    pending: PendingFound

    def to_json(self) -> dict[str, Any]:
        """Plain values, to be kept beside the local file until the commit is known to stand."""
        found = self.pending
        return {
            "failures": self.failures,
            "notes": self.notes,
            "pending": [found.sets, found.deletes, found.metadata, found.replaces],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Findings:
        """Take them back."""
        sets, deletes, metadata, replaces = kept["pending"]
        pending = PendingFound(tuple(sets), tuple(deletes), metadata, replaces)
        return cls(dict(kept["failures"]), tuple(kept["notes"]), pending)


def encode_slot(source: str, findings: Findings | None) -> bytes:
    """What lies beside the new local file while the migration is not finished."""
    return json.dumps({"source": source, "found": findings and findings.to_json()}).encode()


def decode_slot(data: bytes) -> tuple[str, Findings | None]:
    """The source that is being migrated, and what was found once all of it had been read.

    Raises:
        LocalFileError: it cannot be read.
    """
    try:
        kept = json.loads(data)
        return str(kept["source"]), kept["found"] and Findings.from_json(kept["found"])
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise LocalFileError(
            "what an earlier migration left beside the local file cannot be read: remove the file "
            "and the folder beside it, and migrate again",
            op="migrate",
        ) from exc
