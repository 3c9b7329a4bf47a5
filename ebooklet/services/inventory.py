"""Which objects of a bucket belong to a database."""

from __future__ import annotations

from ebooklet.core.names import alternate_key, is_segment_key, segment_prefix
from ebooklet.errors import ObjectNotFound
from ebooklet.ports.remote_store import ObjectMeta
from ebooklet.services.place import RemotePlace


def list_segments(place: RemotePlace) -> list[ObjectMeta]:
    """The segments under the database's key, those that no head names included."""
    return [
        meta
        for meta in place.store.list(segment_prefix(place.db_key))
        if is_segment_key(place.db_key, meta.key)
    ]


def list_objects(place: RemotePlace) -> list[ObjectMeta]:
    """The head, its second copy where there is one, and the segments; locks are left out."""
    objects: list[ObjectMeta] = []
    for key in (place.db_key, alternate_key(place.db_key)):
        try:
            objects.append(place.store.head(key))
        except ObjectNotFound:
            continue
    return objects + list_segments(place)
