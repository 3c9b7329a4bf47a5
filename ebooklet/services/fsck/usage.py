"""Walking the trees of many commits for the segments they use, each node once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from ebooklet.core.advance import LiveBytes
from ebooklet.core.audit import Expectations
from ebooklet.core.index.node import InnerNode, LeafNode, Node
from ebooklet.core.index.walk import Span, children, verify
from ebooklet.core.names import segment_key
from ebooklet.core.refs import NodeRef
from ebooklet.errors import EBookletError
from ebooklet.services.nodes import NodeReader, cache_key

_WINDOW: Final = 256  # nodes asked for at once


class TreeWalk:
    """Visits the nodes of trees that share most of them, and notes what is wrong.

    A node is told from others by where it lies, never by its digest: equal nodes can lie in several
    places, and each place needs its segment.

    Args:
        nodes: reads them.
        db_key: of the database, for messages.
        expectations: told what lies where; None if nobody is going to compare it.

    Attributes:
        used: every segment that a node or a value of them lies in.
        problems: object names, and what is wrong there.
    """

    def __init__(
        self, nodes: NodeReader, db_key: str, expectations: Expectations | None = None
    ) -> None:
        self._nodes = nodes
        self._db_key = db_key
        self._expectations = expectations
        self._visited: set[bytes] = set()
        self.used: set[bytes] = set()
        self.problems: dict[str, str] = {}

    def walk(
        self,
        root: NodeRef | None,
        listed: Collection[bytes],
        owner: str,
        tally: LiveBytes | None = None,
    ) -> list[Span]:
        """Visit what was not visited before of one tree.

        Args:
            root: of the tree.
            listed: the segments that it may use.
            owner: whose tree it is, for messages.
            tally: counts what was visited.

        Returns:
            The subtrees whose topmost node cannot be read.
        """
        broken: list[Span] = []
        left = [] if root is None else [Span(root, None, None)]
        while left:
            window: list[Span] = []
            while left and len(window) < _WINDOW:
                span = left.pop()
                mark = cache_key(span.ref.block)
                if mark not in self._visited:
                    self._visited.add(mark)
                    window.append(span)
            for span, node in zip(window, self._fetch([s.ref for s in window]), strict=True):
                self._note_segment(span.ref.block.sid, listed, owner)
                if isinstance(node, EBookletError):
                    self._report(span.ref.block.sid, f"an index node cannot be read: {_text(node)}")
                    broken.append(span)
                    continue
                try:
                    verify(span, node)
                except EBookletError as exc:
                    self._report(span.ref.block.sid, _text(exc))
                    broken.append(span)
                    continue
                if tally is not None:
                    tally.add_node(span.ref.block)
                if self._expectations is not None:
                    self._expectations.block(span.ref.block)
                if isinstance(node, InnerNode):
                    left += children(span, node)
                    continue
                for sid in node.sids:
                    self._note_segment(sid, listed, owner)
                if tally is not None:
                    for entry in node.items():
                        tally.add_entry(entry)
                if self._expectations is not None:
                    self._expect(span.ref, node, self._expectations)
        return broken

    def leaves(self, root: NodeRef | None) -> Iterator[LeafNode]:
        """The leaves of a tree that can be read, in key order, whether visited before or not."""
        left = [] if root is None else [Span(root, None, None)]
        while left:
            span = left.pop()
            node = self._fetch_one(span.ref)
            if isinstance(node, InnerNode):
                left += reversed(children(span, node))
            elif isinstance(node, LeafNode):
                yield node

    def _fetch(self, refs: Sequence[NodeRef]) -> list[Node | EBookletError]:
        """The nodes, in order; those that cannot be read as the error of each."""
        try:
            found = self._nodes.fetch(refs)
            return [found[ref] for ref in refs]
        except EBookletError:
            return [self._fetch_one(ref) for ref in refs]

    def _fetch_one(self, ref: NodeRef) -> Node | EBookletError:
        try:
            return self._nodes.fetch([ref])[ref]
        except EBookletError as exc:
            return exc

    def _expect(self, ref: NodeRef, leaf: LeafNode, expectations: Expectations) -> None:
        for entry in leaf.items():
            if entry.place is None:
                inline = entry.inline or b""
                if len(inline) != entry.length or self._nodes.sealer.digest(inline) != entry.digest:
                    self._report(
                        ref.block.sid, f"the value of {entry.key!r} does not match its digest"
                    )
            elif entry.place.length != self._nodes.sealer.stored_length(entry.length):
                self._report(ref.block.sid, f"{entry.key!r} has two lengths")
            elif entry.length:
                expectations.value(entry.place, entry.digest)

    def _note_segment(self, sid: bytes, listed: Collection[bytes], owner: str) -> None:
        self.used.add(sid)
        if sid not in listed:
            self._report(sid, f"{owner} uses it, but does not list it among its segments")

    def _report(self, sid: bytes, what: str) -> None:
        self.problems.setdefault(segment_key(self._db_key, sid), what)


def _text(error: EBookletError) -> str:
    return str(error.args[0])
