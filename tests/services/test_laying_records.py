"""A commit record says how long the segment is that it ends."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from ebooklet.core.commit import Commit, SegmentRow, decode_commit
from ebooklet.core.segment import SegmentKind, SegmentWriter
from ebooklet.services.committing import lay_record

SID = bytes(range(16))


def test_a_size_that_does_not_settle_by_itself() -> None:
    """Two sizes may lead to one another for ever; the record is then dated a little later.

    With 740 bytes said, the checksum of this one begins with two bytes of zeros, and the segment
    has 738; with 738 said, it does not, and the segment has 740.
    """
    writer = SegmentWriter(UUID(int=1), SID, bytes(16), SegmentKind.MIXED)
    writer.add_value(b"v" * 500)
    ms = 1_700_000_006_421
    commit = Commit(
        seq=1,
        parents=(),
        ms=ms,
        author="",
        message="",
        root=None,
        count=0,
        value_bytes=0,
        segs=(),
        fingerprint=bytes(32),
        op="push",
        write_id=bytes(16),
    )
    sizes: list[int] = []

    def completed(commit: Commit, size: int) -> Commit:
        sizes.append(size)
        return replace(commit, segs=(SegmentRow(SID, size, 500, SegmentKind.MIXED),))

    stored, ref = lay_record(commit, writer, completed)
    segment = writer.finish()
    assert sizes[3:6] == [738, 740, 738]
    assert ms < stored.ms < ms + 10
    assert stored.segs[0].length == len(segment)
    laid = segment[ref.block.offset : ref.block.offset + ref.block.length]
    assert decode_commit(bytes(laid), ref.id) == stored
