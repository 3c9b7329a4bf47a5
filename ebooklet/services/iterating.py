"""Iterating: the set of keys, pending changes laid over the index, as long as it stands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat, takewhile
from typing import Final, NamedTuple, TypeVar

from ebooklet.core.index.lookup import LeafSlice, count, scan_keys, scan_leaves
from ebooklet.core.index.slices import grouped
from ebooklet.core.refs import NodeRef
from ebooklet.services.bulkreads import MAX_KEYS
from ebooklet.services.entries import iter_entries, resolve_pending
from ebooklet.services.explaining import asked, explaining
from ebooklet.services.fetched import FetchedItem
from ebooklet.services.itemreads import ItemReader
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

T = TypeVar("T")

# Keys, and bytes of values, that are read at once: a reader that stops soon has moved little.
_FIRST_ITEMS: Final = ((16, 1 << 20), (1024, 4 << 20))
_ITEMS: Final = (MAX_KEYS, 128 << 20)


def iterate(copy: WorkingCopy, start: str | None = None, stop: str | None = None) -> Iterator[str]:
    """Yield the keys in [start, stop), sorted.

    Raises:
        RuntimeError: a key was added or deleted under the iteration, at its next step.
    """
    return _while_unchanged(copy, iter_keys(copy, start, stop), "keys")


def iterate_items(
    copy: WorkingCopy, start: str | None = None, stop: str | None = None
) -> Iterator[FetchedItem]:
    """Yield the keys in [start, stop), sorted, with values and timestamps; fetches many at once.

    Raises:
        RuntimeError: a key was added or deleted under the iteration, at its next step.
        EBookletError: a fetch failed.
    """
    return _while_unchanged(copy, iter_items(copy, start, stop), "items")


def iter_timestamps(copy: WorkingCopy, *, values: bool) -> Iterator[tuple[str, int, bytes | None]]:
    """Yield (key, timestamp in µs, value or None) of every key, sorted by key.

    Raises:
        RuntimeError: a key was added or deleted under the iteration, at its next step.
        EBookletError: a fetch failed.
    """
    if values:
        items = iterate_items(copy)
        return ((key, timestamp, value) for key, value, timestamp in items)
    pages = _timestamp_pages(copy)
    return (
        (key, timestamp, None) for key, timestamp in _while_unchanged(copy, pages, "timestamps")
    )


def _timestamp_pages(copy: WorkingCopy) -> Iterator[list[tuple[str, int]]]:
    with copy.lock:
        copy.pending.absorb()
        changed = {
            key: found.timestamp
            for key in copy.pending.sets
            if (found := copy.local.get_entry(key)) is not None
        }
        deleted = set(copy.pending.deletes)
    left = dict(sorted(changed.items()))
    for entries in iter_entries(copy):
        page = {
            e.key: e.timestamp for e in entries if e.key not in deleted and e.key not in changed
        }
        due = list(takewhile(entries[-1].key.__ge__, left))
        page.update((key, left.pop(key)) for key in due)
        yield sorted(page.items())
    yield list(left.items())


def iter_keys(
    copy: WorkingCopy, start: str | None = None, stop: str | None = None
) -> Iterator[Sequence[str]]:
    """Yield all keys in [start, stop), sorted, in pages; touches only index nodes in range."""
    view = _view(copy, start, stop)
    if view.root is None:
        if view.added:
            yield view.added
        return
    with explaining(copy):
        pages = copy.nodes.scan(scan_keys(view.root, start, stop))
        yield from merge_keys(pages, view.added, view.deleted)


def iter_items(
    copy: WorkingCopy, start: str | None = None, stop: str | None = None
) -> Iterator[Sequence[FetchedItem]]:
    """Yield all items in [start, stop), sorted, in pages, few at first; see `ItemReader`."""
    view = _view(copy, start, stop)
    reader, added = ItemReader(copy, view.base, view.deleted), view.added
    groups: Iterable[list[LeafSlice]] = ()
    if view.root is not None:
        leaves = copy.nodes.scan(scan_leaves(view.root, start, stop))
        groups = grouped(leaves, chain(_FIRST_ITEMS, repeat(_ITEMS)))
    with explaining(copy):
        begin = 0
        for group in groups:
            last = group[-1].node.keys[group[-1].hi - 1]
            end = bisect_right(added, last, begin)
            yield from reader.pages(group, added[begin:end])
            begin = end
        yield from reader.pages([], added[begin:])


class _View(NamedTuple):
    """What an iteration begins with, of one moment."""

    base: Snapshot | None
    root: NodeRef | None  # of the index
    added: list[str]  # keys that are pending as set, sorted
    deleted: set[str]


def _view(copy: WorkingCopy, start: str | None, stop: str | None) -> _View:
    with copy.lock:
        copy.pending.absorb()
        added = [k for k in copy.pending.sets if _within(k, start, stop)]
        return _View(copy.base, copy.view_root, sorted(added), set(copy.pending.deletes))


def merge_keys(
    pages: Iterable[Sequence[str]], added: Sequence[str], deleted: set[str]
) -> Iterator[Sequence[str]]:
    """Lay sorted additions and deletions over sorted pages of keys; additions may repeat keys."""
    position = 0
    for keys in pages:
        if position < len(added) and keys and added[position] <= keys[-1]:
            upto = position
            while upto < len(added) and added[upto] <= keys[-1]:
                upto += 1
            keys = sorted({*keys, *added[position:upto]})
            position = upto
        if deleted:
            keys = [key for key in keys if key not in deleted]
        if keys:
            yield keys
    if position < len(added):
        yield added[position:]


def _within(key: str, start: str | None, stop: str | None) -> bool:
    return (start is None or key >= start) and (stop is None or key < stop)


def length(copy: WorkingCopy) -> int:
    """Exact number of keys, unsynced writes included; O(1) once pending keys are resolved."""
    copy.notice()
    with asked("len", None, "the number of keys"), _resolved(copy):
        return copy.view_count + copy.pending.delta


def length_within(copy: WorkingCopy, start: str | None, stop: str | None) -> int:
    """Exact number of keys in [start, stop); reads the index nodes at both ends of the range."""
    copy.notice()
    with asked("len", None, "the number of keys"):
        with _resolved(copy):
            root = copy.view_root
            delta = copy.pending.delta_of(partial(_within, start=start, stop=stop))
        with explaining(copy):
            return copy.nodes.run(count(root, start, stop)) + delta


@contextmanager
def _resolved(copy: WorkingCopy) -> Iterator[None]:
    """Hold the lock while it is known of every pending key whether the base has it."""
    while True:
        resolve_pending(copy)
        with copy.lock:
            if not copy.pending.unresolved():
                yield
                return


def shape(copy: WorkingCopy) -> int:
    """A number that changes when the set of keys does; overwriting a key leaves it alone."""
    if copy.pending.touched or copy.pending.undecided:
        resolve_pending(copy)
    return copy.pending.shape


def _while_unchanged(copy: WorkingCopy, pages: Iterable[Iterable[T]], what: str) -> Iterator[T]:
    """Yield what the pages hold as long as the set of keys stands as it does at this call.

    `pages` must look at the pending changes only once they are asked for the first page.

    Raises:
        RuntimeError: a key was added or deleted since, at the next step, the last included.
    """
    copy.notice()
    # Before the shape is noted: what is resolved later, by a `len`, changes it without any key.
    with asked(what, None, what):
        resolve_pending(copy)
        began = shape(copy)
    return _watched(copy, pages, began, what)


def _watched(copy: WorkingCopy, pages: Iterable[Iterable[T]], began: int, what: str) -> Iterator[T]:
    pending, undecided = copy.pending, copy.pending.undecided
    with asked(what, None, what):
        for page in pages:
            for item in page:
                if pending.touched or undecided or pending.shape != began:
                    _check_shape(copy, began)
                yield item
        _check_shape(copy, began)


def _check_shape(copy: WorkingCopy, began: int) -> None:
    if copy.closed:
        copy.require_open()  # closing changes the shape as well
    if shape(copy) != began:
        raise RuntimeError("keys of the database were added or deleted during iteration")
