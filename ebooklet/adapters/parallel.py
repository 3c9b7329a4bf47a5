"""Work of many threads in the order it was asked for, with little held at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Final, TypeVar

from ebooklet.ports.remote_store import ByteRange

__all__ = ["held_at_once", "ordered_map"]

_HELD_BYTES: Final = 96 * 1024 * 1024

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], *, ahead: int
) -> Iterator[R]:
    """Yield `function(item)` for each item, in order, computed by `pool`.

    Unlike `Executor.map` it starts nothing before the first result is asked for, reads `items`
    as it goes, and holds few results: what it costs is bounded, however long `items` is.

    Args:
        pool: where the work runs.
        function: called once an item; its exception is raised in the item's place.
        items: read lazily, in the caller's thread.
        ahead: largest number of items under way or finished but not yet yielded, at least 1.

    Yields:
        The results, as many as there are items. Closing the iterator early cancels what has not
        begun and waits for what has, so that nothing runs on unseen.
    """
    waiting: deque[Future[R]] = deque()
    source = iter(items)
    try:
        for item in source:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    finally:
        for future in waiting:
            future.cancel()
        for future in waiting:
            if not future.cancelled():
                future.exception()


def _first(waiting: deque[Future[R]]) -> R:
    result = waiting[0].result()  # stays in the line: if Ctrl-C comes here, it runs on
    waiting.popleft()
    return result


def held_at_once(ranges: Sequence[ByteRange], threads: int) -> int:
    """How many of some bodies to have here or under way: few of large ones, or memory has no bound.

    Args:
        ranges: at least one.
        threads: that fetch them.
    """
    longest = max(part.stop - part.start for part in ranges)
    return min(threads, max(2, _HELD_BYTES // max(1, longest)))
