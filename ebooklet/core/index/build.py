"""Builds a tree bottom-up from sorted entries, in memory that does not grow with them."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Final

from ebooklet.core.entry import Entry
from ebooklet.core.index.limits import check_params
from ebooklet.core.index.node import Child
from ebooklet.core.index.write import LevelWriter, Placer, inner_encoder, leaf_encoder
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef

_CHUNK: Final = 1024  # entries held beside the open nodes


def build(entries: Iterable[Entry], params: TreeParams, place: Placer) -> NodeRef | None:
    """Build the tree of `entries`: the one tree that these parameters and this content have.

    Args:
        entries: strictly increasing by key.
        params: of the tree.
        place: called with each node as it completes, children before parents.

    Returns:
        The root, or None for no entries.

    Raises:
        ValueError: the entries are not in order, or one does not fit the format.
        InvalidKeyError: a key that UTF-8 cannot encode, or longer than 65,535 bytes.
    """
    tower = _Tower(check_params(params), place)
    source = iter(entries)
    last: str | None = None
    while chunk := list(islice(source, _CHUNK)):
        keys = [entry[0] for entry in chunk]
        if (last is not None and keys[0] <= last) or not all(map(operator.lt, keys, keys[1:])):
            raise ValueError("entries must be strictly increasing by key")
        last = keys[-1]
        tower.leaves.feed(chunk)
    return tower.finish()


class _Tower:
    """One writer per level; a level begins when the one below completes its first node."""

    def __init__(self, params: TreeParams, place: Placer) -> None:
        self._params = params
        self._place = place
        self._inner: list[LevelWriter[Child]] = []  # of levels 1, 2, …
        self.leaves = LevelWriter(0, params, leaf_encoder(params, place), partial(self._rise, 1))

    def _rise(self, level: int, child: Child) -> None:
        """Give a finished node to the level above it."""
        if level > len(self._inner):
            encode = inner_encoder(level, self._params, self._place)
            up = partial(self._rise, level + 1)
            self._inner.append(LevelWriter(level, self._params, encode, up))
        self._inner[level - 1].feed([child])

    def finish(self) -> NodeRef | None:
        """End every level, bottom up; the first level of a single node holds the root."""
        self.leaves.flush()
        for writer in self._inner:  # grows while it is walked
            if not writer.written and len(writer.pending) == 1:
                return writer.pending[0].ref
            writer.flush()
        return None
