"""Sorted edits of one level, taken in batches, and how they change a node's items."""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Generic, NamedTuple

from ebooklet.core.index.write import ItemT

BATCH: Final = 1024  # edits looked at ahead of their use: what bounds memory


class Chunk(NamedTuple, Generic[ItemT]):
    """Some edits, in key order."""

    keys: list[str]
    items: list[ItemT | None]  # parallel; None = delete
    complete: bool  # no more edits up to the bound asked for


class Edits(Generic[ItemT]):
    """A look-ahead over edits that are strictly increasing by key."""

    __slots__ = ("_at", "_last", "_source", "fresh", "items", "keys")

    def __init__(self, source: Iterable[tuple[str, ItemT | None]]) -> None:
        self._source: Iterator[tuple[str, ItemT | None]] = iter(source)
        self._at = 0
        self._last: str | None = None
        self.keys: list[str] = []
        self.items: list[ItemT | None] = []
        self.fresh = False  # a new batch came since this was last cleared

    def peek(self) -> str | None:
        """The key of the next edit, or None."""
        if self._at == len(self.keys):
            self._refill()
        return self.keys[self._at] if self.keys else None

    def ahead(self) -> tuple[list[str], list[ItemT | None]]:
        """The edits of the present batch that are not yet taken."""
        return self.keys[self._at :], self.items[self._at :]

    def take(self, bound: str | None) -> Chunk[ItemT]:
        """Take edits up to and including the key `bound`, None = all; at most a batch of them."""
        self.peek()
        keys, items, start = self.keys, self.items, self._at
        end = len(keys) if bound is None else bisect_right(keys, bound, start)
        self._at = end
        if end < len(keys):
            complete = True
        else:
            following = self.peek()
            complete = following is None or (bound is not None and following > bound)
        return Chunk(keys[start:end], items[start:end], complete)

    def _refill(self) -> None:
        batch = list(islice(self._source, BATCH))
        self.keys = [key for key, _ in batch]
        self.items = [item for _, item in batch]
        self._at = 0
        if not batch:
            return
        self.fresh = True
        keys = self.keys
        if (self._last is not None and keys[0] <= self._last) or not all(
            map(operator.lt, keys, islice(keys, 1, None))
        ):
            raise ValueError("edits must be strictly increasing by key")
        self._last = keys[-1]


class Spliced(NamedTuple, Generic[ItemT]):
    """Items after some edits."""

    items: list[ItemT]
    first: int | None  # index of the first difference; None: the edits changed nothing
    reshaped: bool  # a key came or went
    old: list[ItemT]  # what was overwritten or deleted


def splice(
    keys: Sequence[str],
    items: list[ItemT],
    edit_keys: Sequence[str],
    edit_items: Sequence[ItemT | None],
) -> Spliced[ItemT]:
    """Apply edits to the items of a node.

    Args:
        keys: n, of the items.
        items: n, in key order; left as they are.
        edit_keys: m, strictly increasing.
        edit_items: m; None = delete. Deleting an absent key, or setting an equal item, is nothing.
    """
    if not items:
        new = [item for item in edit_items if item is not None]
        return Spliced(new, 0 if new else None, bool(new), [])
    result = items.copy()
    old: list[ItemT] = []
    first: int | None = None
    reshaped = False
    n = len(keys)
    shift = at = 0
    for key, item in zip(edit_keys, edit_items, strict=True):
        at = bisect_left(keys, key, at)
        now = at + shift
        if at < n and keys[at] == key:
            before = items[at]
            if item is None:
                del result[now]
                shift -= 1
                reshaped = True
            elif item == before:
                continue
            else:
                result[now] = item
            old.append(before)
        elif item is None:
            continue
        else:
            result.insert(now, item)
            shift += 1
            reshaped = True
        if first is None:
            first = now
    return Spliced(result, first, reshaped, old)


class Moved(NamedTuple):
    """The keys of a node after edits that added or removed some."""

    keys: list[str]
    first: int  # index of the first difference


def changes_keys(
    keys: Sequence[str], edit_keys: Sequence[str], edit_items: Sequence[object | None]
) -> Moved | None:
    """The keys of a node after some edits, or None if they stay as they are."""
    result: list[str] | None = None
    first = shift = at = 0
    for key, item in zip(edit_keys, edit_items, strict=True):
        at = bisect_left(keys, key, at)
        there = at < len(keys) and keys[at] == key
        if there is (item is not None):
            continue
        now = at + shift
        if result is None:
            result = list(keys)
            first = now
        if there:
            del result[now]
            shift -= 1
        else:
            result.insert(now, key)
            shift += 1
    return None if result is None else Moved(result, first)
