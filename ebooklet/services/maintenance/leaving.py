"""Leaving segments: finding what of a snapshot lies there, to be laid down anew elsewhere."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from ebooklet.core.index.residents import residents
from ebooklet.core.refs import NodeRef
from ebooklet.services.draft import Edit, Leave
from ebooklet.services.nodes import NodeReader


def find_leave(
    nodes: NodeReader, root: NodeRef | None, sids: Sequence[bytes], *, max_bytes: int
) -> Leave | None:
    """Look through a snapshot's index for what lies in these segments, or in as many as fit.

    Args:
        nodes: reads the index.
        root: of the snapshot.
        sids: those wanted most come first.
        max_bytes: that may be added; the first segment may be left whatever it adds.

    Returns:
        None where there are none.

    Raises:
        EBookletError: the index cannot be read.
    """
    order = {sid: number for number, sid in enumerate(sids)}
    # Of each leaf: which segments it takes part in, its size, and its entries by their segment.
    leaves = [
        (sorted(order[sid] for sid in found.sids), found.size, found.entries)
        for found in nodes.scan(residents(root, frozenset(sids)))
    ]
    costs = [0] * len(sids)
    for numbers, size, entries in leaves:
        costs[numbers[0]] += size  # laid down once, for the first segment that needs it
        for entry in entries:
            if entry.place is not None and entry.place.sid in order:
                costs[order[entry.place.sid]] += entry.place.length
    n_bytes = n_left = 0
    for cost in costs:
        if n_left and n_bytes + cost > max_bytes:
            break
        n_bytes += cost
        n_left += 1
    if not n_left:
        return None
    chosen = frozenset(sids[:n_left])
    kept = [entry for numbers, _, entries in leaves if numbers[0] < n_left for entry in entries]
    return Leave(chosen, kept, n_bytes)


def with_moves(edits: Iterable[Edit], moves: Iterable[Edit]) -> Iterator[Edit]:
    """Merge two sorted runs of edits; where both speak of a key, only the first does."""
    last: str | None = None
    for edit in heapq.merge(edits, moves, key=itemgetter(0)):
        if edit[0] != last:
            last = edit[0]
            yield edit
