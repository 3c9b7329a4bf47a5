"""The place with which a local half was last in step, as it is written down beside it.

A place is a remote store's `location` and the database's key: never a credential. It says nothing
of where the database *is*; it tells a key that was mistyped from a database that was deleted.
"""

from __future__ import annotations

from typing import Final

from ebooklet.core import cbor
from ebooklet.core.cbor import Malformed
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.remote_store import RemoteStore

_SLOT: Final = "place"
_MAX_BYTES: Final = 16 * 1024


class LastPlace:
    """Remembers where a local half was last in step.

    Args:
        local: the local half.
        remote: of the handle; None for one without.
        db_key: the database's key there.

    Attributes:
        here: the place that the handle was opened with; None without a remote.
    """

    def __init__(self, local: LocalStore, remote: RemoteStore | None, db_key: str) -> None:
        self._local = local
        self.here = None if remote is None else f"{remote.location}/{db_key}"
        self._writes_here = remote is not None and remote.capabilities.writable

    @property
    def elsewhere(self) -> str | None:
        """The remembered place, if that is not the one the handle was opened with."""
        place, _ = self._read()
        return None if self.here is None or place == self.here else place

    @property
    def due(self) -> bool:
        """Whether `note` would change what is remembered.

        A public URL of a bucket is a second name of a place that somebody writes to by another,
        and takes its place in the memory of nobody.
        """
        place, writes = self._read()
        return self.here not in (None, place) and (self._writes_here or not writes)

    def note(self) -> None:
        """Remember that the local half is in step with the place of this handle."""
        if self.due:
            self._local.write_slot(_SLOT, cbor.encode([self.here, self._writes_here]))

    def forget(self) -> None:
        """Remember none: the local half begins anew, or its database was deleted there."""
        if self._local.read_slot(_SLOT) is not None:
            self._local.write_slot(_SLOT, None)

    def _read(self) -> tuple[str | None, bool]:
        data = self._local.read_slot(_SLOT)
        if data is None:
            return None, False
        try:
            place, writes = cbor.row(cbor.decode(data), "place", 2)
            return cbor.text(place, "place", _MAX_BYTES), cbor.flag(writes, "a flag")
        except Malformed:
            return None, False  # as in the local files of earlier versions, which have none
