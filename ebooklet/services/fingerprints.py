"""The fingerprint of what a working copy shows: pushed, pending, or both (FORMAT §3)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.build import build
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.index.update import update
from ebooklet.core.refs import BlockRef
from ebooklet.services.explaining import explaining
from ebooklet.services.working_copy import WorkingCopy

_NOWHERE: Final = bytes(16)  # a segment that is never sent: places make no difference


def fingerprint_of(copy: WorkingCopy) -> bytes:
    """The fingerprint of what the mapping shows, as the commit of a push would have it.

    Nothing pending costs nothing. Otherwise the index is worked out as a push does it, and thrown
    away: the cost follows what is pending.

    Returns:
        32 bytes.
    """
    copy.require_open()
    with copy.lock:
        copy.pending.absorb()
        root = copy.view_root
        sets, deletes = sorted(copy.pending.sets), sorted(copy.pending.deletes)
    if sets or deletes:
        place = _Nowhere().place
        edits = _edits(copy, sets, deletes)
        if root is None:
            entries = (entry for _, entry in edits if entry is not None)
            root = build(entries, copy.params, place)
        else:
            with explaining(copy):
                root = copy.nodes.run(update(root, edits, copy.params, place)).root
    return fingerprint(copy.params, root)


def _edits(
    copy: WorkingCopy, sets: list[str], deletes: list[str]
) -> Iterator[tuple[str, Entry | None]]:
    entries = (
        (
            key,
            Entry(
                key,
                len(value),
                copy.sealer.digest(value),
                timestamp,
                None,
                Place(_NOWHERE, 0, len(value)),
            ),
        )
        for key, (timestamp, value) in copy.local.get_many(sets)
    )
    gone = ((key, None) for key in deletes)
    yield from heapq.merge(entries, gone, key=lambda edit: edit[0])


class _Nowhere:
    """Gives each node a place of its own, where nobody will look for it."""

    def __init__(self) -> None:
        self._end = 0

    def place(self, data: bytes) -> BlockRef:
        """Forget the node."""
        self._end += len(data)
        return BlockRef(_NOWHERE, self._end - len(data), len(data), 0)
