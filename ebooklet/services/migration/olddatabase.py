"""The old database as it was given: a remote, a local file, or both."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ebooklet.core.headtypes import DatabaseType
from ebooklet.core.legacy.description import serializer_name
from ebooklet.errors import UUIDMismatchError
from ebooklet.services.migration.localfile import OldFile
from ebooklet.services.migration.remote import OldRemote


@dataclass(frozen=True, slots=True)
class OldDatabase:
    """The halves of the old database that were given: one of them, or both.

    Raises:
        UUIDMismatchError: they belong to different databases.
    """

    remote: OldRemote | None
    file: OldFile | None

    def __post_init__(self) -> None:
        if self.remote and self.file and self.remote.description.uuid != self.file.uuid:
            raise UUIDMismatchError(
                f"{self.file.location} belongs to database {self.file.uuid}, the remote is "
                f"{self.remote.description.uuid}; nothing was read",
                op="migrate",
            )

    @property
    def uuid(self) -> UUID:
        """Its identity."""
        if self.remote is not None:
            return self.remote.description.uuid
        return self._file.uuid

    @property
    def type(self) -> DatabaseType | None:
        """What it is; None where only its remote could tell."""
        return self.remote.description.type if self.remote else None

    @property
    def value_serializer(self) -> str:
        """Name of its serializer; "custom" for a class."""
        if self.remote is not None:
            return self.remote.description.value_serializer
        return serializer_name(self._file.value_serializer, self._file.location)

    @property
    def expected_keys(self) -> int:
        """About how many keys it has; 0 where that is not known."""
        return self.remote.index.expected_keys if self.remote else 0

    @property
    def _file(self) -> OldFile:
        if self.file is None:
            raise ValueError("an old database is a remote, a local file, or both")
        return self.file
