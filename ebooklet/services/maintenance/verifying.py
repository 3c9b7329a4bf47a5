"""Verifying, before anything is deleted, that a commit's table names all that its tree uses."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from ebooklet.core.index.node import InnerNode, Node
from ebooklet.core.index.walk import Span, children, verify
from ebooklet.core.refs import NodeRef
from ebooklet.services.nodes import NodeReader, cache_key

_WINDOW: Final = 256  # nodes asked for at once


class UsedSegments:
    """Works out which segments trees use, which share most of their nodes; reads each node once.

    A node is told from others by where it lies, never by its digest: after a compaction equal
    nodes lie in several places, and each place needs its segment.

    Args:
        nodes: reads them.
    """

    def __init__(self, nodes: NodeReader) -> None:
        self._nodes = nodes
        self._below: dict[bytes, frozenset[bytes]] = {}  # by node: what it and all below it use
        self._known: dict[frozenset[bytes], frozenset[bytes]] = {}  # equal sets, once in memory
        self._sids: dict[bytes, bytes] = {}

    def unlisted(self, root: NodeRef | None, listed: Collection[bytes]) -> frozenset[bytes]:
        """The segments that a tree uses and that are not among those listed.

        Raises:
            EBookletError: a node cannot be read.
        """
        return frozenset() if root is None else self._used(root).difference(listed)

    def _used(self, root: NodeRef) -> frozenset[bytes]:
        levels: list[list[tuple[Span, Node]]] = []
        spans = [Span(root, None, None)]
        while spans:
            level = list(self._unseen(spans))
            levels.append(level)
            spans = [
                child
                for span, node in level
                if isinstance(node, InnerNode)
                for child in children(span, node)
            ]
        for level in reversed(levels):
            for span, node in level:
                used = {span.ref.block.sid, *node.sids}
                if isinstance(node, InnerNode):
                    for child in node.children():
                        used |= self._below[cache_key(child.block)]
                self._below[cache_key(span.ref.block)] = self._shared(used)
        return self._below[cache_key(root.block)]

    def _unseen(self, spans: list[Span]) -> Iterator[tuple[Span, Node]]:
        for at in range(0, len(spans), _WINDOW):
            window = [
                span
                for span in spans[at : at + _WINDOW]
                if cache_key(span.ref.block) not in self._below
            ]
            nodes = self._nodes.fetch([span.ref for span in window]) if window else {}
            for span in window:
                verify(span, nodes[span.ref])
                yield span, nodes[span.ref]

    def _shared(self, used: set[bytes]) -> frozenset[bytes]:
        few = frozenset(self._sids.setdefault(sid, sid) for sid in used)
        return self._known.setdefault(few, few)
