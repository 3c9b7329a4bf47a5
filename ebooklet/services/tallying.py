"""Counting what a commit changes that was not made key by key."""

from __future__ import annotations

from typing import NamedTuple

from ebooklet.core.commit import Commit
from ebooklet.core.index.diff import diff
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError
from ebooklet.services.nodes import NodeReader


class Tally(NamedTuple):
    """How many keys lead from one state to another."""

    n_set: int
    n_deleted: int


def tally(nodes: NodeReader, old: Commit, new: Commit) -> Tally:
    """Count the keys whose values differ, at a cost that follows them.

    Where part of either index is gone, which a revert may be the way out of, what there was counts
    as deleted and what there is as set, as in a replacement.

    Args:
        nodes: reads both trees.
        old: what stood.
        new: what is to stand.

    Raises:
        EBookletError: a request failed.
    """
    n_set = n_deleted = 0
    try:
        for changes in nodes.scan(diff(old.root, new.root)):
            gone = sum(change.new is None for change in changes)
            n_deleted += gone
            n_set += len(changes) - gone
    except (ObjectNotFound, RemoteIntegrityError):
        return Tally(new.count, old.count)
    return Tally(n_set, n_deleted)
