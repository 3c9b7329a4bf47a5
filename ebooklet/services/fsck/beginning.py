"""How whatever changes a database begins: it may be written, and what is there was looked at."""

from __future__ import annotations

from ebooklet.core.names import check_db_key
from ebooklet.errors import ReadOnlyError
from ebooklet.services.fsck.examining import Found, look
from ebooklet.services.place import RemotePlace


def begin(place: RemotePlace) -> Found:
    """Look at a database that is to be changed; no lock is taken.

    Raises:
        ReadOnlyError: the place can only be read.
        UnsupportedFormatError: the database may not be written by this version.
        EBookletError: see `examining.look`.
    """
    check_db_key(place.db_key)
    if not place.store.capabilities.writable:
        raise ReadOnlyError(
            f"{place.location} can only be read: pass a connection with credentials to change it",
            op="fsck",
            key=place.db_key,
        )
    found = look(place)
    if found.snapshot is not None:
        found.snapshot.head.require_writable("fsck", place.location, place.db_key)
    return found
