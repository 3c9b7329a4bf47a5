"""A few values of a plain database, to see whether they are what they are said to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ebooklet.core.digest import value_digest
from ebooklet.core.names import segment_key
from ebooklet.core.refs import NodeRef
from ebooklet.services.fsck.usage import TreeWalk
from ebooklet.services.nodes import NodeReader
from ebooklet.services.place import RemotePlace

_TRIED: Final = 8
_MAX_BYTES: Final = 1024 * 1024


def sample(place: RemotePlace, root: NodeRef | None) -> Iterator[tuple[str, bytes]]:
    """Yield some of the first values of a tree that are whole and not large, with their keys.

    Raises:
        EBookletError: one cannot be fetched.
    """
    walk = TreeWalk(NodeReader(place.store, place.db_key), place.db_key)
    first = next(walk.leaves(root), None)
    tried = 0
    for entry in () if first is None else first.items():
        if tried == _TRIED:
            return
        value, at = entry.inline or b"", entry.place
        if at is not None:
            if at.length > _MAX_BYTES:
                continue
            key = segment_key(place.db_key, at.sid)
            value = place.store.get(key, start=at.offset, stop=at.offset + at.length).body
        if value_digest(value) == entry.digest:
            tried += 1
            yield entry.key, value
