"""Which commits a tip descends from, where only their records are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

from ebooklet.core.commit import Commit
from ebooklet.core.refs import CommitRef

__all__ = ["Descent", "FoundCommit", "ancestors", "descent", "loose_ends"]


class FoundCommit(NamedTuple):
    """A commit record, and where it was found."""

    ref: CommitRef
    commit: Commit
    uuid: bytes  # of the database whose segment it lies in

    @property
    def age(self) -> tuple[int, int, bytes]:
        """What commits are ordered by, the newest last."""
        return self.commit.seq, self.commit.ms, self.ref.id


class Descent(NamedTuple):
    """What can be retained of the history of a tip."""

    commits: list[FoundCommit]  # newest first, and the parents of those that are retained
    oldest_seq: int  # commits below cannot be


def descent(
    tip: FoundCommit, known: Mapping[bytes, FoundCommit], whole: Callable[[FoundCommit], bool]
) -> Descent:
    """Follow a tip to its ancestors, up to the first commit one of whose parents is not whole.

    Seqs fall from child to parent, so that what comes in falling order has met all its children.

    Args:
        tip: where to begin.
        known: every record that was found, by its id.
        whole: whether all that a commit needs is there.
    """
    heap = [(-tip.commit.seq, tip.ref.id)]
    met = {tip.ref.id}
    kept: list[FoundCommit] = []
    while heap:
        _, number = heappop(heap)
        each = known[number]
        kept.append(each)
        parents = [known.get(parent) for parent in each.commit.parents]
        for parent in parents:
            if parent is None or parent.commit.seq >= each.commit.seq or not whole(parent):
                rest = [known[number] for _, number in sorted(heap)]
                return Descent([*kept, *rest], each.commit.seq)
        for parent in parents:
            if parent is not None and parent.ref.id not in met:
                met.add(parent.ref.id)
                heappush(heap, (-parent.commit.seq, parent.ref.id))
    return Descent(kept, kept[-1].commit.seq)


def ancestors(tip: FoundCommit, known: Mapping[bytes, FoundCommit]) -> set[bytes]:
    """Ids of a tip and of every commit that its records lead to."""
    met = {tip.ref.id}
    left = [tip]
    while left:
        for parent in left.pop().commit.parents:
            if parent in known and parent not in met:
                met.add(parent)
                left.append(known[parent])
    return met


def loose_ends(
    commits: Iterable[FoundCommit], known: Mapping[bytes, FoundCommit], met: set[bytes]
) -> list[FoundCommit]:
    """Of these commits, those that neither `met` nor another of them descends from; newest first."""
    met = set(met)
    ends = []
    for each in sorted(commits, key=lambda one: one.age, reverse=True):
        if each.ref.id not in met:
            ends.append(each)
            met |= ancestors(each, known)
    return ends
