"""The user's metadata: JSON beside the keys, invisible to them."""

from __future__ import annotations

from typing import Any

import orjson

from ebooklet.services.working_copy import WorkingCopy


def encode_metadata(data: Any) -> bytes:
    """JSON as Booklet writes it: other keys than str become str, NaN becomes null.

    Raises:
        TypeError: JSON cannot hold it.
    """
    try:
        return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as exc:
        raise TypeError(f"metadata must be something JSON can hold: {exc}") from exc


def set_metadata(copy: WorkingCopy, data: Any, timestamp: int) -> None:
    """Replace the metadata locally; the next push carries them."""
    encoded = encode_metadata(data)
    with copy.lock:
        copy.pending.metadata = True
        copy.journal.metadata(pending=True)
        copy.local.set_metadata(encoded, timestamp)


def get_metadata(copy: WorkingCopy, *, include_timestamp: bool) -> Any:
    """The metadata as this copy sees them: the pending ones, else the base commit's."""
    copy.require_open()
    with copy.lock:
        head = copy.base.head if copy.base else None
        if copy.pending.metadata or head is None:
            stored = copy.local.get_metadata()
        elif head.metadata is None:
            stored = None
        else:
            stored = (head.metadata, head.metadata_timestamp or 0)
    if stored is None:
        return None
    data = orjson.loads(stored[0])
    return (data, stored[1]) if include_timestamp else data
