"""Runs: entries of one leaf whose values lie back to back, so that they are read in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from ebooklet.core.entry import Place
from ebooklet.core.index.limits import MAX_VALUE_BYTES
from ebooklet.core.index.node import LeafNode
from ebooklet.core.sealing import Sealer

__all__ = ["Run", "are_fetchable", "runs"]

_MAX_BYTES: Final = 1 << 20  # of a run, unless one value has more: requests are cut between runs


class Run(NamedTuple):
    """Entries lo to hi, exclusive, of one leaf."""

    leaf: LeafNode
    lo: int
    hi: int

    @property
    def place(self) -> Place:
        """Where the stored bytes of all of them lie."""
        leaf, lo, hi = self
        start = leaf.offsets[lo]
        stop = leaf.offsets[hi - 1] + leaf.stored[hi - 1]
        return Place(leaf.sids[leaf.sid_index[lo]], start, stop - start)


def are_fetchable(leaf: LeafNode, lo: int, hi: int, sealer: Sealer) -> bool:
    """Whether all these entries have their values in segments, with lengths that can be true.

    What an index claims is only a bucket's word: asked for a piece that is larger than any value, a
    server could answer without end. `fetching.fetch_values` says so of the single entry.
    """
    lengths, stored = leaf.lengths[lo:hi], leaf.stored[lo:hi]
    if leaf.inline_ends is not None or max(lengths) > MAX_VALUE_BYTES or not min(stored):
        return False
    if not sealer.seals:
        return stored == lengths
    return list(stored) == list(map(sealer.stored_length, lengths))


def runs(leaf: LeafNode, lo: int, hi: int) -> Iterator[Run]:
    """Cut fetchable entries into runs: as few as their places and the bytes of a run allow.

    Args:
        leaf: whose entries they are.
        lo: position of the first.
        hi: position after the last.
    """
    offsets, stored, segment = leaf.offsets, leaf.stored, leaf.sid_index
    laid = list(accumulate(stored[lo : hi - 1], initial=offsets[lo]))
    if (
        laid == offsets[lo:hi]
        and laid[-1] + stored[hi - 1] - laid[0] <= _MAX_BYTES
        and segment[lo:hi].count(segment[lo]) == hi - lo
    ):
        yield Run(leaf, lo, hi)
        return
    begin = lo
    for i in range(lo + 1, hi):
        if (
            segment[i] != segment[begin]
            or offsets[i] != offsets[i - 1] + stored[i - 1]
            or offsets[i] + stored[i] - offsets[begin] > _MAX_BYTES
        ):
            yield Run(leaf, begin, i)
            begin = i
    yield Run(leaf, begin, hi)
