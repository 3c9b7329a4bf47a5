"""Reads of a tree: many keys at once, or a range in key order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

from ebooklet.core.entry import Entry
from ebooklet.core.index.need import TreeOp, TreeScan, need
from ebooklet.core.index.node import InnerNode, LeafNode
from ebooklet.core.index.walk import Span, children, sent, verify
from ebooklet.core.refs import NodeRef

Out = TypeVar("Out")

_LOOKUP_NODES: Final = 1024  # most nodes asked for at once: what bounds memory
_FIRST_WINDOW: Final = 32  # leaves, ~100 KB; a reader that stops soon has fetched little
_REST: Final = 3  # windows: if no more leaves than that are left, all of them come at once
_FEW_LEAVES: Final = 16  # about what a thousand keys take
MAX_WINDOW: Final = 1024  # leaves, ~148,000 keys and 3 MB


def lookup(root: NodeRef | None, keys: Iterable[str]) -> TreeOp[dict[str, Entry]]:
    """Find many keys, level by level: as many rounds as the tree is high.

    Args:
        root: of the tree, None = empty.
        keys: in any order; repeats are fine.

    Returns:
        The entries of those that are there; absent keys are missing from the dict.
    """
    found: dict[str, Entry] = {}
    wanted = sorted(set(keys))
    if root is None or not wanted:
        return found
    level = [(Span(root, None, None), 0, len(wanted))]
    while level:
        below: list[tuple[Span, int, int]] = []
        for at in range(0, len(level), _LOOKUP_NODES):
            window = level[at : at + _LOOKUP_NODES]
            nodes = yield need([span.ref for span, _, _ in window])
            for span, lo, hi in window:
                node = nodes[span.ref]
                verify(span, node)
                if isinstance(node, InnerNode):
                    below += _route(span, node, wanted, lo, hi)
                else:
                    for key in wanted[lo:hi]:
                        entry = node.find(key)
                        if entry is not None:
                            found[key] = entry
        level = below
    return found


def _route(
    span: Span, node: InnerNode, wanted: list[str], lo: int, hi: int
) -> list[tuple[Span, int, int]]:
    """Share wanted[lo:hi] out among the children of a node."""
    routes = []
    while lo < hi:
        i = bisect_left(node.keys, wanted[lo])
        if i == len(node):
            break
        end = bisect_right(wanted, node.keys[i], lo, hi)
        after = node.keys[i - 1] if i else span.after
        routes.append((Span(node.child(i), after, node.keys[i]), lo, end))
        lo = end
    return routes


class LeafSlice(NamedTuple):
    """Entries lo to hi, exclusive, of one leaf."""

    node: LeafNode
    lo: int
    hi: int


def scan(
    root: NodeRef | None,
    start: str | None = None,
    stop: str | None = None,
    *,
    window: int = MAX_WINDOW,
) -> TreeScan[list[Entry], None]:
    """Yield the entries of start <= key < stop in key order, a list per leaf.

    Args:
        root: of the tree, None = empty.
        start: first key wanted; None = from the first.
        stop: first key not wanted; None = to the end.
        window: most leaves asked for at once.
    """
    return _scan(root, start, stop, window, LeafNode.slice)


def scan_keys(
    root: NodeRef | None,
    start: str | None = None,
    stop: str | None = None,
    *,
    window: int = MAX_WINDOW,
) -> TreeScan[tuple[str, ...], None]:
    """Like `scan`, of the keys only: makes no entries."""
    return _scan(root, start, stop, window, _keys)


def scan_leaves(
    root: NodeRef | None,
    start: str | None = None,
    stop: str | None = None,
    *,
    window: int = MAX_WINDOW,
    first: int = _FIRST_WINDOW,
) -> TreeScan[LeafSlice, None]:
    """Like `scan`, of leaves and the part of each that is in range: for reading single columns.

    Args:
        root: see `scan`.
        start: see `scan`.
        stop: see `scan`.
        window: see `scan`.
        first: most leaves asked for at first.
    """
    return _scan(root, start, stop, window, LeafSlice, first)


def count(root: NodeRef | None, start: str | None = None, stop: str | None = None) -> TreeOp[int]:
    """Number of keys with start <= key < stop, from the nodes on the way to both ends alone.

    Args:
        root: of the tree, None = empty.
        start: first key counted; None = from the first.
        stop: first key not counted; None = to the end.
    """
    total = 0
    if root is None or (start is not None and stop is not None and start >= stop):
        return total
    level = [Span(root, None, None)]
    while level:
        nodes = yield need([span.ref for span in level])
        below: list[Span] = []
        for span in level:
            node = nodes[span.ref]
            verify(span, node)
            if isinstance(node, LeafNode):
                lo, hi = _bounds(node, start, stop)
                total += hi - lo
                continue
            within = _within(children(span, node), start, stop)
            # What follows a count is often a scan, as in `list(db.keys(prefix))`. A few leaves lie
            # between the two at the ends, and come with them; else each would be another round.
            few = node.level == 1 and len(within) <= _FEW_LEAVES
            for child in within:
                if not few and _is_inside(child, start, stop):
                    total += child.ref.count
                else:
                    below.append(child)
        level = below
    return total


def _is_inside(span: Span, start: str | None, stop: str | None) -> bool:
    """Whether all keys of a subtree are in the range."""
    return (start is None or (span.after is not None and span.after >= start)) and (
        stop is None or (span.last is not None and span.last < stop)
    )


def _bounds(node: LeafNode, start: str | None, stop: str | None) -> tuple[int, int]:
    lo = 0 if start is None else bisect_left(node.keys, start)
    hi = len(node) if stop is None else bisect_left(node.keys, stop)
    return lo, hi


def _keys(node: LeafNode, lo: int, hi: int) -> tuple[str, ...]:
    return node.keys[lo:hi]  # the tuple itself when it is the whole


def _scan(
    root: NodeRef | None,
    start: str | None,
    stop: str | None,
    window: int,
    view: Callable[[LeafNode, int, int], Out],
    first: int = _FIRST_WINDOW,
) -> TreeScan[Out, None]:
    if root is None or (start is not None and stop is not None and start >= stop):
        return
    ahead = [Span(root, None, None)]  # in reverse key order: the next span is the last
    size = min(first, window)
    while ahead:
        if ahead[0].ref.level == 0 and len(ahead) <= min(_REST * size, window):
            size = len(ahead)  # a few leaves more are all: not worth another round
        batch = _next_batch(ahead, size)
        nodes = sent((yield need([span.ref for span in batch])))
        expanded: list[Span] = []
        for span in batch:
            node = nodes[span.ref]
            verify(span, node)
            if isinstance(node, InnerNode):
                expanded += _within(children(span, node), start, stop)
                continue
            lo, hi = _bounds(node, start, stop)
            if lo < hi:
                yield view(node, lo, hi)
        if batch[0].ref.level == 0:
            size = window
        ahead += reversed(expanded)


def _next_batch(ahead: list[Span], size: int) -> list[Span]:
    """Take the next nodes off `ahead`: leaves, and the inner nodes that follow if there is room.

    Nothing after an inner node is taken except more inner nodes, as its leaves come first; so a
    batch is consumed at once and its order is the order of keys. An inner node counts as one leaf:
    it is hardly larger, and to have those of a level at once saves a round trip for each.
    """
    batch: list[Span] = []
    while ahead and size > 0:
        span = ahead[-1]
        if batch and batch[-1].ref.level > span.ref.level:
            break
        size -= 1
        batch.append(ahead.pop())
    return batch


def _within(spans: list[Span], start: str | None, stop: str | None) -> list[Span]:
    """Those of the children that can hold keys of the range."""
    lo, hi = 0, len(spans)
    lasts = [span.last or "" for span in spans]
    if start is not None:
        lo = bisect_left(lasts, start)
    if stop is not None:
        # The child whose last key is the first >= stop may begin below it.
        hi = min(bisect_left(lasts, stop) + 1, hi)
    return spans[lo:hi]


_LAST_CODE_POINT: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


def prefix_range(prefix: str) -> tuple[str, str | None]:
    """The range (start, stop) of the keys that begin with `prefix`; stop None = no upper bound.

    >>> prefix_range("user/")
    ('user/', 'user0')
    """
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if code > _LAST_CODE_POINT:
            continue
        if code in _SURROGATES:  # no key holds one, and not every encoder takes one
            code = _SURROGATES.stop
        return prefix, prefix[: end - 1] + chr(code)
    return prefix, None
