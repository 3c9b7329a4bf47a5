"""Bulk reads: the values of whole index leaves, in large requests, each value verified.

Many keys that follow one another are read without an object for each of them: requests are planned
for runs of values that lie back to back, and an answer is cut up by the columns of the leaves.
`fetching` does the same for single entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Final, NamedTuple

from ebooklet.core.entry import Place
from ebooklet.core.index.lookup import LeafSlice
from ebooklet.core.index.node import LeafNode
from ebooklet.core.index.runs import Run, are_fetchable, runs
from ebooklet.core.index.slices import grouped
from ebooklet.core.sealing import Content, Sealer
from ebooklet.errors import EBookletError, ObjectNotFound
from ebooklet.services.explaining import explaining
from ebooklet.services.fetched import FetchedItem
from ebooklet.services.fetching import fetch_values, mismatch
from ebooklet.services.parts import read_again
from ebooklet.services.working_copy import WorkingCopy

__all__ = ["MAX_KEYS", "Fetched", "fetch_leaves"]

MAX_KEYS: Final = 131_072  # whose places are sorted at once
_SINGLE: Final = (1024, 1 << 22)  # keys and bytes of values that are fetched one by one at a time


class Fetched(NamedTuple):
    """What became of some entries that were to be fetched."""

    items: list[FetchedItem]
    failures: dict[str, EBookletError]  # by key


def fetch_leaves(copy: WorkingCopy, slices: Iterable[LeafSlice]) -> Iterator[Fetched]:
    """Fetch and verify the values of all entries of `slices`: large requests, many in parallel.

    Yields each entry once, in the order of their places: of what was pushed at once that is the
    order of keys.
    """
    sealer = copy.sealer
    placed: list[tuple[Place, Run]] = []
    single: list[LeafSlice] = []
    for one in slices:
        if are_fetchable(*one, sealer):
            placed += [(run.place, run) for run in runs(*one)]
        else:
            single.append(one)
    yield from _one_by_one(copy, single)
    if not placed:
        return
    placed.sort(key=_place)
    at = 0
    for plan, part, body in copy.reads.read((place for place, _ in placed), bulk=True):
        if isinstance(body, ObjectNotFound):
            with explaining(copy):
                raise body
        mine = [run for _, run in placed[at : at + len(plan.pieces)]]
        at += len(plan.pieces)
        found = _cut(mine, plan.start, body, sealer)
        if found.failures and isinstance(body, bytes):
            found = _cut(mine, plan.start, read_again(copy.segments, part), sealer)
        yield found


def _place(placed: tuple[Place, Run]) -> Place:
    return placed[0]


def _one_by_one(copy: WorkingCopy, slices: Iterable[LeafSlice]) -> Iterator[Fetched]:
    """Fetch what is in no run: values that lie in the index itself, and claims that cannot be true."""
    for group in grouped(slices, repeat(_SINGLE)):
        found = Fetched([], {})
        entries = chain.from_iterable(leaf.slice(lo, hi) for leaf, lo, hi in group)
        for entry, value in fetch_values(copy, entries):
            if isinstance(value, EBookletError):
                found.failures[entry.key] = value
            else:
                found.items.append((entry.key, value, entry.timestamp))
        yield found


def _cut(pieces: Iterable[Run], start: int, body: bytes | EBookletError, sealer: Sealer) -> Fetched:
    """The values in the bytes from `start` of a segment, each verified; or why there are none."""
    found = Fetched([], {})
    for leaf, lo, hi in pieces:
        if isinstance(body, EBookletError):
            found.failures.update(dict.fromkeys(leaf.keys[lo:hi], body))
        else:
            _cut_run(leaf, lo, hi, start, body, sealer, found)
    return found


def _cut_run(
    leaf: LeafNode, lo: int, hi: int, start: int, body: bytes, sealer: Sealer, found: Fetched
) -> None:
    """Add the values of one run; a tight loop, through which every value of a bulk read passes."""
    size, digests = leaf.digest_size, leaf.digests
    digest, seals = sealer.digest, sealer.seals
    add = found.items.append
    stop = leaf.offsets[lo] - start
    columns = zip(
        *(column[lo:hi] for column in (leaf.keys, leaf.lengths, leaf.stored, leaf.timestamps)),
        range(lo * size, hi * size, size),
        strict=True,
    )
    for key, length, stored, timestamp, mark in columns:
        at, stop = stop, stop + stored
        value = body[at:stop]
        if seals:
            try:
                value = bytes(sealer.open(Content.VALUE, value))
            except EBookletError as exc:
                exc.op, exc.key = "get", key
                found.failures[key] = exc
                continue
        if digest(value) == digests[mark : mark + size] and len(value) == length:
            add((key, value, timestamp))
        else:
            found.failures[key] = mismatch(key)
