"""What the tests of repair and rescue share: a database in a bucket, its objects at their mercy."""

from __future__ import annotations

from typing import Any

import ebooklet
from ebooklet.core.head import Head, decode_head
from tests.contract.conftest import Place


def put(place: Place, objects: dict[str, bytes | None]) -> None:
    """Store these objects, or delete those that are None."""
    store, _ = place.store()
    for name, body in objects.items():
        if body is None:
            store.delete([name])
        else:
            store.put(name, body)
    store.close()


def head_of(place: Place) -> Head:
    """What the head in the bucket says."""
    return decode_head(place.objects()["db"], key="db")


def check(place: Place, **options: Any) -> ebooklet.FsckReport:
    """What fsck finds, and does."""
    return ebooklet.fsck(place.connect("db"), **options)


def content(place: Place) -> dict[str, Any]:
    """All that a new reader finds."""
    with place.open("db", None, "r") as db:
        return dict(db.items())
