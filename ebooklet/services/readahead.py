"""Reading ahead: a program that reads one key after another shares requests, as a scan would.

Each value that is not here costs a request of its own. Where a program turns out to walk along the
keys, what comes next is fetched with it: one more at first, then twice as many each time. Whoever
reads here and there fetches nothing in vain; a walk along n keys takes log n requests and a few.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from ebooklet.core.entry import Entry
from ebooklet.core.index.lookup import LeafSlice, scan_leaves
from ebooklet.core.refs import NodeRef
from ebooklet.services.working_copy import WorkingCopy

__all__ = ["with_neighbours"]

_MAX_BYTES: Final = 1 << 20  # of values that nobody has asked for yet
_LEAVES: Final = 8  # index nodes fetched at once


def with_neighbours(copy: WorkingCopy, entry: Entry) -> list[Entry]:
    """What to fetch along with one entry, which comes first; often that one alone.

    Args:
        copy: the working copy that does not have the value.
        entry: of the base commit.
    """
    root = copy.view_root
    first = next(copy.nodes.scan(scan_leaves(root, entry.key, window=1)), None)
    if first is None:  # a pull has moved the base since
        return [entry]
    run = copy.walks.run_from(first.node.keys, first.lo)
    wanted = [entry]
    last, rest = entry.key, first.hi - first.lo - 1
    ahead = 0  # bytes
    for following, after in islice(_entries(copy, root, first), 1, run):
        if not _is_here(copy, following.key):
            ahead += following.length
            if ahead > _MAX_BYTES:
                break
            wanted.append(following)
        last, rest = following.key, after
    copy.walks.note(last, run, rest)
    return wanted


def _entries(
    copy: WorkingCopy, root: NodeRef | None, first: LeafSlice
) -> Iterator[tuple[Entry, int]]:
    """Entries from the first of a leaf on, and how many follow in the leaf of each.

    Later leaves are fetched when they are come to.
    """
    beyond = f"{first.node.last}\0"  # the very next key that there could be
    later = copy.nodes.scan(scan_leaves(root, beyond, window=_LEAVES))
    for leaf in chain((first,), later):
        for i in range(leaf.lo, leaf.hi):
            yield leaf.node.entry(i), leaf.hi - i - 1


def _is_here(copy: WorkingCopy, key: str) -> bool:
    return key in copy.fetched or key in copy.pending or copy.local.contains(key)
