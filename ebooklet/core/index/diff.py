"""What differs between two trees, at a cost that follows the differences."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from ebooklet.core.entry import Entry
from ebooklet.core.index.need import TreeScan, need
from ebooklet.core.index.node import InnerNode
from ebooklet.core.index.walk import Span, children, leaf, sent, verify
from ebooklet.core.refs import NodeRef

_NODES: Final = 256  # most nodes asked for at once: what bounds memory


class Change(NamedTuple):
    """One key whose value differs, or its timestamp where those were asked for."""

    key: str
    old: Entry | None  # None: the key was added
    new: Entry | None  # None: the key was deleted

    @property
    def same_value(self) -> bool:
        """Whether only the timestamp differs."""
        old, new = self.old, self.new
        return old is not None and new is not None and old[1:3] == new[1:3]


def diff(
    a: NodeRef | None, b: NodeRef | None, *, times: bool = False
) -> TreeScan[list[Change], None]:
    """Yield what leads from tree `a` to tree `b`, in key order, in lists that are never empty.

    Both trees are opened level by level. A digest that occurs on both sides stands for the same
    keys and values, wherever it hangs, and is not opened. Values decide: entries that differ in
    place or timestamp alone are no difference, unless `times` asks for the latter.

    Args:
        a: root of the old tree, None = empty.
        b: root of the new tree.
        times: yield keys whose timestamp alone differs, too. No digest tells of them, so nodes
            are opened unless both sides have the very same block: what was moved without a
            change (by a compaction) is read for nothing.

    Raises:
        RemoteIntegrityError: a tree contradicts itself.
    """
    olds, news = _side(a), _side(b)
    while True:
        olds, news = _differing(olds, news, times), _differing(news, olds, times)
        level = max((side[0].ref.level for side in (olds, news) if side), default=0)
        if level == 0:
            break
        olds, news = yield from _opened(olds, news, level)
    yield from _compared(olds, news, times)


def _side(root: NodeRef | None) -> list[Span]:
    return [] if root is None else [Span(root, None, None)]


def _differing(spans: list[Span], others: list[Span], times: bool) -> list[Span]:
    if times:
        refs = {other.ref for other in others}
        return [span for span in spans if span.ref not in refs]
    digests = {other.ref.digest for other in others}
    return [span for span in spans if span.ref.digest not in digests]


def _opened(
    olds: list[Span], news: list[Span], level: int
) -> TreeScan[list[Change], tuple[list[Span], list[Span]]]:
    """Replace the spans of this level, the highest of both sides, by their children."""
    sides: tuple[list[Span], list[Span]] = ([], [])
    todo: list[tuple[int, Span]] = []
    for side, spans in enumerate((olds, news)):
        if spans and spans[0].ref.level == level:
            todo += [(side, span) for span in spans]
        else:
            sides[side].extend(spans)
    for at in range(0, len(todo), _NODES):
        window = todo[at : at + _NODES]
        nodes = sent((yield need([span.ref for _, span in window])))
        for side, span in window:
            node = nodes[span.ref]
            verify(span, node)
            if isinstance(node, InnerNode):
                sides[side].extend(children(span, node))
    return sides


def _compared(olds: list[Span], news: list[Span], times: bool) -> TreeScan[list[Change], None]:
    """Yield the changes between the leaves of both sides.

    Leaves are read in the order in which they begin, so that all keys up to the beginning of the
    next one are at hand, and at most one leaf of each side reaches beyond.
    """
    todo = [(0, span) for span in olds] + [(1, span) for span in news]
    todo.sort(key=lambda item: item[1].after or "")
    pending: tuple[list[Entry], list[Entry]] = ([], [])
    for at in range(0, len(todo), _NODES):
        window = todo[at : at + _NODES]
        nodes = sent((yield need([span.ref for _, span in window])))
        for side, span in window:
            node = leaf(nodes[span.ref])
            verify(span, node)
            pending[side].extend(node.items())
        ready = pending
        if at + _NODES < len(todo):
            bound = todo[at + _NODES][1].after or ""
            cuts = [bisect_right(side, bound, key=_key) for side in pending]
            ready = pending[0][: cuts[0]], pending[1][: cuts[1]]
            pending = pending[0][cuts[0] :], pending[1][cuts[1] :]
        if changes := _changes(*ready, times):
            yield changes


def _key(entry: Entry) -> str:
    return entry[0]


def _changes(olds: list[Entry], news: list[Entry], times: bool) -> list[Change]:
    before = {entry[0]: entry for entry in olds}
    changes = []
    for new in news:
        old = before.pop(new[0], None)
        if old is None or old[2] != new[2] or old[1] != new[1] or (times and old[3] != new[3]):
            changes.append(Change(new[0], old, new))
    if before:
        changes += [Change(key, old, None) for key, old in before.items()]
        changes.sort(key=lambda change: change[0])
    return changes
