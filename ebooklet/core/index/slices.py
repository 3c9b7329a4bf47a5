"""Slices of leaves: how entries that follow one another are shared out, and cut to what is wanted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain

from ebooklet.core.index.lookup import LeafSlice

__all__ = ["between", "grouped", "without"]


def grouped(
    slices: Iterable[LeafSlice], limits: Iterable[tuple[int, int]]
) -> Iterator[list[LeafSlice]]:
    """Share slices out among groups of bounded size, in order; a slice may be cut in two.

    Args:
        slices: in order.
        limits: for the first group, the second and so on: its most keys, and its most bytes of
            values, which only its last value may exceed. At least as many as there are groups.
    """
    following = iter(limits)
    keys_left, bytes_left = next(following)
    group: list[LeafSlice] = []
    for leaf, begin, hi in slices:
        lo = begin
        while lo < hi:
            stop = min(hi, lo + keys_left)
            sizes = list(accumulate(leaf.lengths[lo:stop]))
            stop = min(stop, lo + bisect_left(sizes, bytes_left) + 1)
            group.append(LeafSlice(leaf, lo, stop))
            keys_left -= stop - lo
            bytes_left -= sizes[stop - lo - 1]
            lo = stop
            if keys_left <= 0 or bytes_left <= 0:
                yield group
                group = []
                keys_left, bytes_left = next(following)
    if group:
        yield group


def without(slices: Iterable[LeafSlice], is_here: Callable[[str], bool]) -> Iterator[LeafSlice]:
    """The parts of slices that have only keys for which `is_here` is false."""
    for one in slices:
        leaf, lo, hi = one
        here = list(map(is_here, leaf.keys[lo:hi]))
        if True not in here:
            yield one
            continue
        begin = None
        for i, is_in in enumerate(chain(here, (True,)), lo):
            if not is_in and begin is None:
                begin = i
            elif is_in and begin is not None:
                yield LeafSlice(leaf, begin, i)
                begin = None


def between(slices: Iterable[LeafSlice], first: str, last: str) -> Iterator[LeafSlice]:
    """The parts of slices that have the keys from `first` to `last`, both inclusive."""
    for leaf, lo, hi in slices:
        begin = max(lo, bisect_left(leaf.keys, first))
        end = min(hi, bisect_right(leaf.keys, last))
        if begin < end:
            yield LeafSlice(leaf, begin, end)
