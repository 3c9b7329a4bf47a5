"""Leaving segments: an update after which nothing of a tree lies in them any more."""

from __future__ import annotations

import random
from collections.abc import Mapping
from zlib import crc32

import pytest

from ebooklet.core.commit import SegmentRow
from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.need import drive, drive_scan
from ebooklet.core.index.residents import residents
from ebooklet.core.index.update import update
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.core.tiers import TIER_ROWS, crowded
from ebooklet.testing.trees import SMALL, Bucket, entry


class Segmented(Bucket):
    """A bucket in which the leaves and the other nodes of a write lie in a segment each."""

    sid = bytes(16)

    def place(self, data: bytes) -> BlockRef:
        block = super().place(data)
        moved = BlockRef(self.sid[:-1] + data[1:2], block.offset, block.length, crc32(data))
        self.stored[moved] = self.stored.pop(block)
        return moved


def used(bucket: Bucket, root: NodeRef | None) -> set[bytes]:
    """Every segment that a node or a value of the tree lies in."""
    sids = {ref.block.sid for ref in bucket.nodes(root)}
    return sids | {e.place.sid for e in bucket.entries(root) if e.place is not None}


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_left_behind(seed: int) -> None:
    """Whatever was written when, edits of what `residents` names and of other keys besides leave
    the very tree of the same content, and no node and no value in the segments that were left.

    Fails without: the edits that only lead to a node; those above a node that stays; nodes that
    are laid down anew although nothing in them changes.
    """
    chance = random.Random(seed)
    bucket = Segmented(SMALL)
    content: dict[str, Entry] = {}
    root: NodeRef | None = None
    for number in range(9):
        bucket.sid = bytes([number]) * 16
        edits: dict[str, Entry | None] = {}
        for _ in range(150 if number == 0 else chance.choice([1, 2, 4])):
            key = f"{chance.randrange(400):03}"
            edits[key] = None
            if chance.random() < 0.8:
                edits[key] = entry(key, number)._replace(place=Place(bucket.sid, 64, 1000))
        root = bucket.update(root, edits).root
        content = {k: e for k, e in {**content, **edits}.items() if e is not None}
    assert sorted(content) == [e.key for e in bucket.entries(root)]
    inner = sorted({ref.block.sid for ref in bucket.nodes(root) if ref.level == 1})
    leaving = frozenset(chance.sample(sorted(used(bucket, root)), 2) + chance.sample(inner, 1))
    bucket.sid = b"z" * 16
    moves: dict[str, Entry | None] = {}
    for found in drive_scan(residents(root, leaving), bucket.fetch):
        assert found.sids <= leaving
        for old in found.entries:
            moves[old.key] = old
            if old.place is not None and old.place.sid in leaving:
                moves[old.key] = old._replace(place=Place(bucket.sid, 64, 1000))
    other: Mapping[str, Entry | None] = {"000a": entry("000a"), "399": None}
    edits = {**moves, **other}
    result = drive(
        update(root, sorted(edits.items()), SMALL, bucket.place, leaving=leaving), bucket.fetch
    )
    assert leaving.isdisjoint(used(bucket, result.root))
    expected = bucket.update(root, other).root
    assert (result.root and result.root.digest) == (expected and expected.digest)
    old_nodes, new_nodes = bucket.nodes(root).keys(), bucket.nodes(result.root).keys()
    assert set(result.dropped_nodes) == old_nodes - new_nodes


def test_only_crowded_tiers_are_merged() -> None:
    """Eight in a tier stay; of nine the cheapest go, as far as the bytes allow."""
    rows = [SegmentRow(bytes([n]) * 16, 90_000, 40_000 + n, 3) for n in range(TIER_ROWS + 1)]
    assert crowded(rows[:-1], max_bytes=1 << 30) == []
    assert crowded(rows, max_bytes=1 << 30) == [row.sid for row in rows]
    assert crowded(rows, max_bytes=100_000) == [rows[0].sid, rows[1].sid]
    assert crowded(rows, max_bytes=50_000) == []
