"""The part of one level that a walk in key order has yet to pass."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from ebooklet.core.index.need import Need, Nodes, need
from ebooklet.core.index.node import InnerNode, Node
from ebooklet.core.index.walk import Span, children, verify
from ebooklet.core.refs import NodeRef

_REMEMBERED: Final = 1024  # inner nodes kept at hand, so that each is asked for once


class Touched(NamedTuple):
    """A span, by its index, and the keys[lo:hi] that belong to it."""

    at: int
    lo: int
    hi: int


class Frontier:
    """Spans in key order, opened only where a key needs it.

    Every key belongs to the first span whose last key is not below it; keys beyond all belong to
    the last span.

    Args:
        root: of the tree; None, or a root below `level`: the level is empty.
        level: the level walked.
        known: inner nodes seen before, shared by the walks of one update.
    """

    def __init__(self, root: NodeRef | None, level: int, known: dict[NodeRef, InnerNode]) -> None:
        empty = root is None or root.level < level
        self._spans = [] if root is None or empty else [Span(root, None, None)]
        self._at = 0  # spans before this one are passed
        self._level = level
        self._known = known
        self._loaded: dict[NodeRef, Node] = {}
        self.kept = False  # a node was passed over, and stays as it is

    @property
    def empty(self) -> bool:
        """Nothing of the level is left."""
        return self._at == len(self._spans)

    def skip_to(self, key: str) -> None:
        """Pass over all before the span that `key` belongs to."""
        at = self._index(key, self._at)
        if at > self._at:
            self.kept = True
            self._at = at

    def skip_rest(self) -> None:
        """Pass over all that is left."""
        self.kept = self.kept or not self.empty
        self._at = len(self._spans)

    def pop(self) -> Generator[Need, Nodes, tuple[NodeRef, Node, bool]]:
        """Pass the next node of the level: its ref, the node, and whether it is the last."""
        while self._spans[self._at].ref not in self._loaded:
            yield from self._open([self._at])
        ref = self._spans[self._at].ref
        self._at += 1
        return ref, self._loaded.pop(ref), self.empty

    def load(self, keys: Sequence[str]) -> Generator[Need, Nodes, list[Touched]]:
        """Load the nodes that sorted keys belong to, all of one depth at once."""
        while True:
            touched = self._touched(keys)
            closed = [span.at for span in touched if not self.loaded(span.at)]
            if not closed:
                return touched
            yield from self._open(closed)

    def final(self, index: int) -> bool:
        """Whether this span is the last of the level."""
        return index + 1 == len(self._spans)

    def following(self, index: int) -> str:
        """A key that belongs to the first node behind this span."""
        return _last(self._spans[index]) + "\0"

    def loaded(self, index: int) -> bool:
        """Whether this span is a node of the level, and at hand."""
        return self._spans[index].ref in self._loaded

    def node(self, index: int) -> Node:
        """The node of a loaded span."""
        return self._loaded[self._spans[index].ref]

    def _index(self, key: str, start: int) -> int:
        # The last span takes all keys beyond; its own last key is never looked at.
        end = len(self._spans) - 1
        return bisect_left(self._spans, key, start, end, key=_last)

    def _touched(self, keys: Sequence[str]) -> list[Touched]:
        touched = []
        lo, end = 0, len(keys)
        index = self._at
        final = len(self._spans) - 1
        while lo < end:
            index = self._index(keys[lo], index)
            hi = end if index == final else bisect_right(keys, _last(self._spans[index]), lo)
            touched.append(Touched(index, lo, hi))
            lo = hi
        return touched

    def _open(self, indices: Sequence[int]) -> Generator[Need, Nodes, None]:
        """Load the nodes of the level, and replace those above it by their children."""
        wanted = [self._spans[i].ref for i in indices]
        missing = [ref for ref in wanted if ref not in self._known]
        nodes: Nodes = (yield need(missing)) if missing else {}
        spans: list[Span] = []
        done = self._at
        for i in indices:
            span = self._spans[i]
            node = self._known.get(span.ref) or nodes[span.ref]
            verify(span, node)
            spans += self._spans[done:i]
            if span.ref.level == self._level:
                self._loaded[span.ref] = node
                spans.append(span)
            elif isinstance(node, InnerNode):
                spans += children(span, node)
            if isinstance(node, InnerNode):
                self._remember(span.ref, node)
            done = i + 1
        self._spans = spans + self._spans[done:]
        self._at = 0

    def _remember(self, ref: NodeRef, node: InnerNode) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[ref] = node


def _last(span: Span) -> str:
    return span.last or ""
