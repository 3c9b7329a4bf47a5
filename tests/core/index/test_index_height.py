"""How many round trips lead to one key of a database of any size, by the shape of its index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from zlib import crc32

import pytest

from ebooklet.core.head import MAX_ROOT_BYTES
from ebooklet.core.index.codec import encode_inner
from ebooklet.core.index.node import Child
from ebooklet.core.index.write import LevelWriter
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef

KEYS_PER_LEAF = 145  # what the rule of FORMAT §3 gives on average


def child(key: str, count: int, level: int) -> Child:
    place = BlockRef(key.encode().rjust(16), 64 + count, 3300, crc32(key.encode()))
    return Child(key, NodeRef(place, key.encode().rjust(32), count, level))


def top_of(n: int, params: TreeParams) -> tuple[int, Sequence[Child]]:
    """Level and children of the root over n keys, from their cuts alone: no node is encoded."""
    writers: dict[int, LevelWriter[Child]] = {}
    nodes: list[tuple[int, Sequence[Child]]] = []

    def encode(level: int, children: Sequence[Child]) -> Child:
        nodes.append((level, children))
        return child(children[-1].key, sum(one.ref.count for one in children), level)

    def rise(level: int, item: Child) -> None:
        if level not in writers:
            up = partial(rise, level + 1)
            writers[level] = LevelWriter(level, params, partial(encode, level), up)
        writers[level].feed([item])

    for last in range(KEYS_PER_LEAF - 1, n, KEYS_PER_LEAF):
        rise(1, child(f"key{last:08}", KEYS_PER_LEAF, 0))
    level = 1
    while writers[level].written or len(writers[level].pending) > 1:
        writers[level].flush()
        level += 1
    return nodes[-1]


@pytest.mark.parametrize(
    ("n", "in_a_row"),
    [
        (10_000, 3),
        (100_000, 4),
        (1_000_000, 4),
        (5_000_000, 4),
        pytest.param(10_000_000, 5, marks=pytest.mark.large),
    ],
)
def test_few_round_trips_lead_to_a_key(n: int, in_a_row: int) -> None:
    """The head with the root in it, a node of each level below, and the value.

    With these parameters: of the salts that databases have, one in sixteen cuts the level below the
    root of five million keys in two, and so adds a level.
    """
    params = TreeParams()
    level, children = top_of(n, params)
    assert 1 + level + 1 <= in_a_row
    assert len(encode_inner(children, level, params)[0]) <= MAX_ROOT_BYTES
