"""Changes a tree at a cost that follows the changes, never the number of keys.

Level by level, from the leaves up. In each level only the nodes that edits touch are read; their
items are cut again from the cut before them until a new cut equals an old one. The nodes that went
and came are the edits of the level above, whose keys are last keys. As a cut depends on nothing
but the keys since the last one, the result is the tree that `build` makes of the same content.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic

from ebooklet.core.entry import Entry
from ebooklet.core.index.cut import Cutter
from ebooklet.core.index.edits import Edits, Moved, changes_keys, splice
from ebooklet.core.index.frontier import Frontier
from ebooklet.core.index.limits import check_params
from ebooklet.core.index.need import Need, Nodes, TreeOp
from ebooklet.core.index.node import Child, InnerNode, Node
from ebooklet.core.index.walk import inner, leaf
from ebooklet.core.index.write import (
    Encode,
    ItemT,
    LevelWriter,
    Placer,
    inner_encoder,
    leaf_encoder,
)
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef

Discard = Callable[[list[Entry]], None]
"""Takes old entries that an update overwrote or deleted."""


@dataclass(frozen=True, slots=True)
class Update:
    """What an update did."""

    root: NodeRef | None  # of the new tree; the very ref given when nothing changed
    added_nodes: int  # nodes placed
    dropped_nodes: list[NodeRef]  # nodes of the old tree that are not in the new one
    replaced: list[Entry]  # old entries overwritten or deleted, unless `discard` took them


@dataclass(slots=True)
class _Tally:
    """What all levels of one update know, and add to."""

    leaving: Collection[bytes]
    added: int = 0
    dropped: list[NodeRef] = field(default_factory=list)
    known: dict[NodeRef, InnerNode] = field(default_factory=dict)


def update(
    root: NodeRef | None,
    edits: Iterable[tuple[str, Entry | None]],
    params: TreeParams,
    place: Placer,
    *,
    discard: Discard | None = None,
    leaving: Collection[bytes] = (),
) -> TreeOp[Update]:
    """Apply edits to a tree.

    Nodes are asked for in a few rounds per 1,024 edits: one for each level, and one for the right
    neighbours into which new cuts run.

    Args:
        root: of the old tree, None = empty.
        edits: strictly increasing by key, taken as they are needed; None = delete, which is
            nothing where the key is absent, as is an entry that equals the old one. An entry that
            differs in its place or timestamp alone rewrites its leaf.
        params: of the tree.
        place: called with each new node, children before parents.
        discard: takes the replaced entries as they occur, for edits too many to hold.
        leaving: sids of segments in which no node is to stay that an edit leads to, whether or not
            it changes anything.

    Raises:
        ValueError: the edits are not in order, or an entry does not fit the format.
        InvalidKeyError: a key that UTF-8 cannot encode, or longer than 65,535 bytes.
        RemoteIntegrityError: the old tree contradicts itself.
    """
    check_params(params)
    tally = _Tally(leaving)
    replaced: list[Entry] = []
    leaves = _Level(0, root, Edits(edits), params, leaf_encoder(params, place), tally)
    yield from leaves.run(_leaf_items, replaced.extend if discard is None else discard)
    level: _Level[Entry] | _Level[Child] = leaves
    sole: Child | None = None
    while level.outcome and (
        (root is not None and level.number < root.level) or len(level.fresh_nodes()) > 1
    ):
        number = level.number + 1
        encode = inner_encoder(number, params, place)
        parents = _Level(number, root, Edits(level.changes()), params, encode, tally)
        yield from parents.run(_inner_items, None)
        sole = sole or parents.sole
        level = parents
    if level.outcome:
        fresh = level.fresh_nodes()
        root = sole.ref if sole else fresh[0] if fresh else None
    return Update(root, tally.added, tally.dropped, replaced)


def _leaf_items(node: Node) -> list[Entry]:
    return leaf(node).items()


def _inner_items(node: Node) -> list[Child]:
    return inner(node).items()


class _Level(Generic[ItemT]):
    """One level of an update."""

    def __init__(
        self,
        number: int,
        root: NodeRef | None,
        edits: Edits[ItemT],
        params: TreeParams,
        encode: Encode[ItemT],
        tally: _Tally,
    ) -> None:
        self.number = number
        self.outcome: dict[str, Child | None] = {}  # last key -> new node; None: it went
        self.sole: ItemT | None = None  # the root, when this level would hold nothing else
        self._edits: Edits[ItemT] = edits
        self._params = params
        self._tally = tally
        self._frontier = Frontier(root, number, tally.known)
        self._encode: Encode[ItemT] = encode
        self._writer: LevelWriter[ItemT] = LevelWriter(number, params, self._write, self._came)
        self._passing: tuple[NodeRef, list[ItemT]] | None = None  # the old node at hand
        self._passed: list[tuple[str, NodeRef]] = []  # old nodes cut anew, by last key

    def changes(self) -> list[tuple[str, Child | None]]:
        """The edits of the level above."""
        return sorted(self.outcome.items(), key=lambda change: change[0])

    def fresh_nodes(self) -> list[NodeRef]:
        """The new nodes, in no order that matters."""
        return [child.ref for child in self.outcome.values() if child is not None]

    def _write(self, items: Sequence[ItemT]) -> Child:
        # A key that came between two nodes can let a cut fall where the old one was, and the
        # items after it be those of the old node.
        if self._passing is not None and items == self._passing[1]:
            ref = self._passing[0]
            if ref.block.sid not in self._tally.leaving:
                return Child(items[-1][0], ref)
        self._tally.added += 1
        return self._encode(items)

    def _came(self, child: Child) -> None:
        self.outcome[child.key] = child

    def _drop(self) -> None:
        for last, ref in self._passed:
            now = self.outcome.setdefault(last, None)
            if now is None or now.ref != ref:
                self._tally.dropped.append(ref)

    def run(
        self,
        items_of: Callable[[Node], list[ItemT]],
        discard: Callable[[list[ItemT]], None] | None,
    ) -> Generator[Need, Nodes, None]:
        """Apply the edits."""
        edits, frontier, writer = self._edits, self._frontier, self._writer
        while True:
            key = edits.peek()
            if edits.fresh and not frontier.empty:
                yield from self._prefetch()
            edits.fresh = False
            if not writer.pending:
                if key is None:
                    frontier.skip_rest()
                    break
                if not frontier.empty:
                    frontier.skip_to(key)
            if frontier.empty:
                self._append()
                break
            ref, node, final = yield from frontier.pop()
            items = items_of(node)
            self._passing = ref, items
            self._recut(ref, node, items, final, discard)
        if self.number and len(writer.pending) == 1 and not frontier.kept and not writer.written:
            # A level of one node under which there is one node: that one is the root.
            self.sole = writer.pending[0]
            writer.clear()
        else:
            writer.flush()
        self._drop()

    def _prefetch(self) -> Generator[Need, Nodes, None]:
        """Load what the batch of edits touches, and the neighbours that new cuts will run into.

        The second part is a forecast, for fewer rounds: what it misses is loaded when needed.
        """
        keys, items = self._edits.ahead()
        frontier = self._frontier
        touched = yield from frontier.load(keys)
        moves = {}
        for at, lo, hi in touched:
            node = frontier.node(at)
            moved = changes_keys(node.keys, keys[lo:hi], items[lo:hi])
            if moved is not None:
                moves[node.last] = moved
        open_ends: dict[str, Cutter] = {}  # by a key of the node that is wanted
        reached = -1
        for at, _, _ in touched:
            node = frontier.node(at)
            if at > reached and node.last in moves:
                cutter = Cutter(self.number, self._params)
                moved = moves[node.last]
                cutter.cut(moved.keys, _known_uncut(moved.first, len(node)))
                reached = self._run_on(cutter, at, moves, open_ends)
        while open_ends:
            wanted = sorted(open_ends)
            neighbours = yield from frontier.load(wanted)
            cutters = [open_ends[key] for key in wanted]
            open_ends = {}
            for (at, _, _), cutter in zip(neighbours, cutters, strict=True):
                cutter.cut(frontier.node(at).keys)
                self._run_on(cutter, at, moves, open_ends)

    def _run_on(
        self, cutter: Cutter, at: int, moves: dict[str, Moved], open_ends: dict[str, Cutter]
    ) -> int:
        """Cut on behind the node `at` until a cut is an old one or the next node is missing."""
        frontier = self._frontier
        while cutter.count and not frontier.final(at):
            if not frontier.loaded(at + 1):
                open_ends[frontier.following(at)] = cutter
                break
            at += 1
            node = frontier.node(at)
            cutter.cut(moves[node.last].keys if node.last in moves else node.keys)
        return at

    def _append(self) -> None:
        """Feed what lies beyond the old level."""
        while True:
            chunk = self._edits.take(None)
            self._writer.feed([item for item in chunk.items if item is not None])
            if chunk.complete:
                break

    def _recut(
        self,
        ref: NodeRef,
        node: Node,
        items: list[ItemT],
        final: bool,
        discard: Callable[[list[ItemT]], None] | None,
    ) -> None:
        """Pass one old node through the writer, with the edits that belong to it."""
        writer = self._writer
        bound = None if final else node.last
        stays = ref.block.sid not in self._tally.leaving
        untouched = not writer.pending  # the last cut is where this node begins
        lo = 0
        while True:
            chunk = self._edits.take(bound)
            hi = len(items) if chunk.complete else bisect_right(node.keys, chunk.keys[-1])
            new = splice(node.keys[lo:hi], items[lo:hi], chunk.keys, chunk.items)
            if new.old and discard is not None:
                discard(new.old)
            if untouched and new.first is None and (stays or not chunk.complete):
                if not chunk.complete:
                    continue
                self._frontier.kept = True
                if self._tally.leaving:
                    self.outcome[node.last] = Child(node.last, ref)  # leads to those above it
                return
            whole = untouched and chunk.complete and not new.reshaped
            if whole and not (self.number and len(new.items) == 1):
                writer.put(new.items)
            else:
                uncut = _known_uncut(new.first, len(items)) if untouched else 0
                writer.feed(new.items, uncut)
            if chunk.complete:
                break
            lo, untouched = hi, False
        self._passed.append((node.last, ref))


def _known_uncut(first: int | None, n: int) -> int:
    """How many items of an old node of n end no node now, the first difference being at `first`.

    Those before it end none, as they did not before; but the last of all may have ended this one.
    """
    return n - 1 if first is None else min(first, n - 1)
