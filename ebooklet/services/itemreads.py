"""Reading all items of a range in key order: from here, or fetched in bulk and kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Final

from ebooklet.core.index.lookup import LeafSlice
from ebooklet.core.index.slices import between, without
from ebooklet.services.bulkreads import fetch_leaves
from ebooklet.services.fetched import FetchedItem
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.streaming import read_many
from ebooklet.services.working_copy import WorkingCopy

__all__ = ["ItemReader"]

_PART_BYTES: Final = 16 * 1024 * 1024  # of values that are here, held at once


class ItemReader:
    """Reads the items of one iteration, by the leaves of the base that it began with.

    What is set or pulled meanwhile is seen from the next page on; keys that went are left out, as
    the iteration ends with an error anyway.

    Args:
        copy: the working copy.
        base: what the iteration began with, whose leaves are read.
        deleted: keys that are pending as deleted.
    """

    def __init__(self, copy: WorkingCopy, base: Snapshot | None, deleted: Collection[str]) -> None:
        self._copy = copy
        self._base = base
        self._deleted = deleted

    def pages(
        self, leaves: Sequence[LeafSlice], added: Sequence[str]
    ) -> Iterator[Sequence[FetchedItem]]:
        """Yield the items of some leaves and of other keys up to the last of these, in pages.

        Raises:
            EBookletError: a fetch failed.
        """
        deleted = self._deleted
        keys = list(chain.from_iterable(leaf.keys[lo:hi] for leaf, lo, hi in leaves))
        if added:
            keys = sorted({*keys, *added})
        if deleted:
            keys = [key for key in keys if key not in deleted]
        # The loop of `streaming.read_many`, with a tuple an item instead of two: a whole database
        # that is here is read 1.4 times as fast by it.
        here: list[FetchedItem] = []
        begin = end = size = 0
        for key, (timestamp, value) in self._copy.local.get_many(keys):
            while keys[end] != key:
                end += 1  # not stored here
            end += 1
            here.append((key, value, timestamp))
            size += len(value)
            if size >= _PART_BYTES:
                yield from self._completed(leaves, keys[begin:end], here)
                begin, size, here = end, 0, []
        if begin < len(keys):
            yield from self._completed(leaves, keys[begin:] if begin else keys, here)

    def _completed(
        self, leaves: Sequence[LeafSlice], keys: Sequence[str], here: Sequence[FetchedItem]
    ) -> Iterator[Sequence[FetchedItem]]:
        """Fetch what is not here of some keys, and yield all in order as soon as it has come."""
        if len(here) == len(keys):
            yield here
            return
        copy = self._copy
        found = {item[0]: item for item in here}
        if copy.fetched:
            for key in keys:
                if key not in found and (held := copy.fetched.get(key)) is not None:
                    found[key] = (key, held.value, held.timestamp)
        is_here = {*found, *self._deleted}.__contains__ if self._deleted else found.__contains__
        missing = list(without(between(leaves, keys[0], keys[-1]), is_here))
        at = 0
        for items, failures in fetch_leaves(copy, missing):
            for failure in failures.values():
                raise failure
            copy.keep_fetched(self._base, items)
            if copy.base is not self._base:
                yield from self._anew(keys[at:])
                return
            found.update([(item[0], item) for item in items])
            page = []
            while at < len(keys) and (item := found.pop(keys[at], None)) is not None:
                page.append(item)
                at += 1
            if page:
                yield self._latest(page)
        yield self._latest([found[key] for key in keys[at:] if key in found])

    def _latest(self, page: list[FetchedItem]) -> list[FetchedItem]:
        """The items with what was set since they were read."""
        copy = self._copy
        if not copy.pending:
            return page
        with copy.lock:
            copy.pending.absorb()
            changed = [key for key, _, _ in page if key in copy.pending.sets]
            now = {key: (key, *found[::-1]) for key, found in copy.local.get_many(changed)}
        return [now.get(item[0], item) for item in page] if now else page

    def _anew(self, keys: Sequence[str]) -> Iterator[list[FetchedItem]]:
        """The items as another base has them, which this copy has moved to meanwhile."""
        for part, values in read_many(self._copy, keys):
            yield [
                (key, found.value, found.timestamp) for key in part if (found := values.get(key))
            ]
