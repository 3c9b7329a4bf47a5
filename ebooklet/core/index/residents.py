"""What of a tree lies in some segments: its nodes, and the values that its leaves name."""

from __future__ import annotations

from typing import Final, NamedTuple

from ebooklet.core.entry import Entry
from ebooklet.core.index.need import TreeScan, need
from ebooklet.core.index.node import InnerNode
from ebooklet.core.index.walk import Span, children, sent, verify
from ebooklet.core.refs import NodeRef

_WINDOW: Final = 256  # nodes asked for at once


class Residents(NamedTuple):
    """What has to be written again of one leaf so that segments can be left."""

    size: int  # bytes of the leaf
    sids: frozenset[bytes]  # of the segments, those that it, or a value or a node of it, lies in
    entries: list[Entry]  # in key order: those whose values lie there, and one to find the nodes by


def residents(root: NodeRef | None, sids: frozenset[bytes]) -> TreeScan[Residents, None]:
    """Yield, for each leaf in key order that has to do with these segments, what lies there.

    An inner node counts with the last leaf below it.

    Args:
        root: of the tree, None = empty.
        sids: of the segments.
    """
    level = [] if root is None else [Span(root, None, None)]
    above: dict[str, set[bytes]] = {}  # last key below an inner node -> the segments it lies in
    while level:
        below: list[Span] = []
        for at in range(0, len(level), _WINDOW):
            window = level[at : at + _WINDOW]
            nodes = sent((yield need([span.ref for span in window])))
            for span in window:
                node = nodes[span.ref]
                verify(span, node)
                own = {span.ref.block.sid} & sids
                if isinstance(node, InnerNode):
                    if own:
                        above.setdefault(node.last, set()).update(own)
                    below += children(span, node)
                    continue
                own |= above.pop(node.last, set())
                placed = sids.intersection(node.sids)
                if not own and not placed:
                    continue
                found = [
                    entry
                    for entry in (node.items() if placed else ())
                    if entry.place is not None and entry.place.sid in placed
                ]
                if own and (not found or found[-1].key != node.last):
                    found.append(node.entry(len(node) - 1))
                yield Residents(span.ref.block.length, frozenset(own | placed), found)
        level = below
