"""Turns the items of one level into placed nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from ebooklet.core.entry import Entry
from ebooklet.core.index.codec import encode_inner, encode_leaf
from ebooklet.core.index.cut import Cutter
from ebooklet.core.index.node import Child
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef

Placer: TypeAlias = Callable[[bytes], BlockRef]
"""Takes a node's bytes and says where they will lie, with length and crc of what is stored."""

ItemT = TypeVar("ItemT", Entry, Child)
Encode: TypeAlias = Callable[[Sequence[ItemT]], Child]


def leaf_encoder(params: TreeParams, place: Placer) -> Encode[Entry]:
    """A function that encodes and places one leaf, and returns it as an item of its parent."""

    def encode(entries: Sequence[Entry]) -> Child:
        data, digest = encode_leaf(entries, params)
        return Child(entries[-1].key, NodeRef(place(data), digest, len(entries), 0))

    return encode


def inner_encoder(level: int, params: TreeParams, place: Placer) -> Encode[Child]:
    """A function that encodes and places one inner node, and returns it as an item."""

    def encode(children: Sequence[Child]) -> Child:
        data, digest = encode_inner(children, level, params)
        count = sum([child.ref.count for child in children])
        return Child(children[-1].key, NodeRef(place(data), digest, count, level))

    return encode


class LevelWriter(Generic[ItemT]):
    """Takes the items of one level in key order and hands each finished node on.

    Args:
        level: of the nodes, 0 = leaf.
        params: of the tree.
        encode: makes the items of one node an item of the level above.
        done: takes that item.
    """

    __slots__ = ("_cutter", "_done", "_encode", "pending", "written")

    def __init__(
        self,
        level: int,
        params: TreeParams,
        encode: Encode[ItemT],
        done: Callable[[Child], None],
    ) -> None:
        self._cutter = Cutter(level, params)
        self._encode: Encode[ItemT] = encode
        self._done = done
        self.pending: list[ItemT] = []  # items since the last cut
        self.written = 0  # nodes

    def feed(self, items: list[ItemT], uncut: int = 0) -> None:
        """Add the next items; the first `uncut` of them are known to end no node."""
        start = 0
        for end in self._cutter.cut([item[0] for item in items], uncut):
            self._write(self.pending + items[start:end] if self.pending else items[start:end])
            self.pending = []
            start = end
        self.pending += items[start:]

    def put(self, items: list[ItemT]) -> None:
        """Add the items of one whole node, known to begin and end at cuts."""
        self._write(items)

    def flush(self) -> None:
        """End the level: what is left, if anything, is its last node."""
        if self.pending:
            self._write(self.pending)
        self.clear()

    def clear(self) -> None:
        """Forget what is left, without a node for it."""
        self.pending = []
        self._cutter.count = self._cutter.weight = 0

    def _write(self, items: list[ItemT]) -> None:
        self.written += 1
        self._done(self._encode(items))
