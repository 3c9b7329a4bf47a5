"""Deleting many segments under the write lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ebooklet.core.names import segment_key
from ebooklet.ports.lock_service import Lease
from ebooklet.services.place import RemotePlace

_AT_ONCE: Final = 1000


def delete_segments(
    place: RemotePlace, sids: Sequence[bytes], lease: Lease | None
) -> Iterator[Sequence[bytes]]:
    """Delete segments, and yield those of each request when they are gone.

    Args:
        place: of the database.
        sids: of the segments.
        lease: looked at before each request; None where writers take no lock.

    Raises:
        LockLostError: the lock is another's by now; the rest is left.
        EBookletError: a request failed; the rest is left.
    """
    for at in range(0, len(sids), _AT_ONCE):
        if lease is not None:
            lease.check()
        part = sids[at : at + _AT_ONCE]
        place.store.delete(segment_key(place.db_key, sid) for sid in part)
        yield part
