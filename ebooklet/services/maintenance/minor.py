"""Minor compaction: a commit lays small segments down anew in its own, so that they stay few.

Tables of segments and histories of a million small commits would otherwise grow without end (FORMAT
§4). A commit that meets a segment it cannot read leaves it where it is: none of this is needed to
push. Compaction of whole segments for the sake of garbage is a commit of its own (`compaction`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ebooklet.core.refs import NodeRef
from ebooklet.core.sealing import Content
from ebooklet.core.tiers import EXTRA_BYTES, crowded, worth_reading
from ebooklet.errors import EBookletError
from ebooklet.services.draft import Draft, Edit, Leave
from ebooklet.services.fetching import values_of
from ebooklet.services.maintenance.leaving import find_leave, with_moves
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.push")

_FEWEST: Final = 2  # fewer segments make no difference


@dataclass(frozen=True, slots=True)
class MinorCompaction:
    """What a commit lays down beside its own changes: the segments to leave, and their values."""

    leave: Leave
    values: Mapping[str, bytes]

    def edits(self, copy: WorkingCopy, uploader: SegmentUploader) -> Iterator[Edit]:
        """Yield the edits, in key order, laying down values on the way."""
        for entry in self.leave.entries:
            value = self.values.get(entry.key)
            if value is None:
                yield entry.key, entry
            else:
                place = uploader.add_value(copy.sealer.seal(Content.VALUE, value))
                yield entry.key, entry._replace(place=place)


def plan_minor(copy: WorkingCopy, base: Snapshot | None) -> MinorCompaction | None:
    """Choose and fetch what the next commit on `base` compacts; None for nothing."""
    if base is None or not worth_reading(base.commit.segs, base.count):
        return None
    sids = crowded(base.commit.segs, max_bytes=EXTRA_BYTES)
    if not sids:
        return None
    try:
        leave = find_leave(copy.nodes, base.root, sids, max_bytes=EXTRA_BYTES)
        if leave is None or len(leave.sids) < _FEWEST:
            return None
        values = values_of(copy, filter(leave.moves, leave.entries))
    except EBookletError as exc:
        logger.warning("small segments were not compacted: %s", exc)
        return None
    return MinorCompaction(leave, values)


def build_compacting(
    copy: WorkingCopy,
    draft: Draft,
    edits: Iterable[Edit],
    base: Snapshot | None,
    uploader: SegmentUploader,
) -> NodeRef | None:
    """Build the index of the next commit on `base`, laying down beside it what it compacts."""
    minor = plan_minor(copy, base)
    if minor is None:
        return draft.build(edits)
    return draft.build(with_moves(edits, minor.edits(copy, uploader)), minor.leave)
