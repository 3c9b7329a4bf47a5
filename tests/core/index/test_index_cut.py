"""The cut rule: written out once more in the plainest way, and against chosen keys."""

from __future__ import annotations

import random
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.index.cut import Cutter
from ebooklet.core.index.limits import max_columns_bytes, max_items, max_node_bytes
from ebooklet.core.index.node import InnerNode
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef
from ebooklet.errors import InvalidKeyError
from ebooklet.testing.trees import SMALL, Bucket, entry, keys


def h_of(key: str, level: int, params: TreeParams) -> int:
    person = b"ebk-cut" + bytes([level])
    digest = blake2b(key.encode(), digest_size=8, person=person, salt=params.salt).digest()
    return int.from_bytes(digest, "big")


def plain_cuts(ordered: list[str], level: int, params: TreeParams) -> list[int]:
    """FORMAT §3, word by word."""
    goal = params.leaf_target if level == 0 else params.inner_target
    ends = []
    items = weights = 0
    for i, key in enumerate(ordered):
        w = (24 if level == 0 else 64) + len(key.encode())
        h = h_of(key, level, params)
        items += 1
        weights += w
        if items >= 2 and (
            weights >= 4 * goal
            or (4 * weights >= goal and h < w * 2**64 // (3 * goal))
            or (weights >= goal and h < min(2**64 - 1, 6 * w * 2**64 // goal))
        ):
            ends.append(i + 1)
            items = weights = 0
    return ends


@given(st.sets(keys, max_size=200), st.integers(0, 3), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_cuts_follow_the_rule(wanted: set[str], level: int, chunk: int) -> None:
    """The cutter agrees with the written rule, in whatever portions it is given the keys."""
    ordered = sorted(wanted)
    cutter = Cutter(level, SMALL)
    ends: list[int] = []
    for at in range(0, len(ordered), chunk):
        ends += [at + end for end in cutter.cut(ordered[at : at + chunk])]
    assert ends == plain_cuts(ordered, level, SMALL)


def test_a_typical_leaf_has_the_size_it_was_designed_for() -> None:
    """Keys of 18 bytes lie about 145 to a leaf, and no leaf is near the bounds."""
    ordered = [f"path/to/{i:010d}" for i in range(60_000)]
    ends = Cutter(0, TreeParams()).cut(ordered)
    sizes = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    assert 120 < sum(sizes) / len(sizes) < 170
    assert max(sizes) < 500


def test_a_surrogate_is_an_invalid_key() -> None:
    """A key without a UTF-8 form is refused by its own class, not by a codec error."""
    with pytest.raises(InvalidKeyError):
        Cutter(0, SMALL).cut(["x" * 200, "\ud800"])


ADVERSE = TreeParams(leaf_target=512, inner_target=1024, salt=b"known")


def chosen(n: int, *, low: bool) -> list[str]:
    """Keys of which each alone would end a leaf, or none would, as an attacker finds them."""
    bound = (24 + 6) * 2**64 // (3 * ADVERSE.leaf_target)
    top = 6 * (24 + 6) * 2**64 // ADVERSE.leaf_target
    found = []
    for i in range(10**6):
        key = f"{i:06d}"
        h = h_of(key, 0, ADVERSE)
        if h < bound if low else h >= top:
            found.append(key)
            if len(found) == n:
                break
    return found


def shape(bucket: Bucket, root: NodeRef | None) -> tuple[int, int]:
    """Items of the largest node, and the height."""
    nodes = bucket.nodes(root)
    for ref, node in nodes.items():
        assert len(node) <= max_items(bucket.params, ref.level)
        assert ref.block.length <= max_node_bytes(bucket.params)
        assert len(node) >= 2 or node.last == max(nodes[root].keys) or ref == root  # type: ignore[index]  # there is a root where there are nodes
    return max(map(len, nodes.values())), max(ref.level for ref in nodes)


def test_keys_chosen_above_the_thresholds() -> None:
    """FORMAT 10.16: keys that no hash would ever cut behind are cut at 4T: nodes stay bounded.

    Fails without: the bound of 4T.
    """
    found = chosen(3000, low=False)
    bucket = Bucket(ADVERSE)
    root = bucket.build([entry(key) for key in found])
    largest, height = shape(bucket, root)
    assert largest <= 4 * 512 // 30 + 1
    assert height <= 4
    assert [e.key for e in bucket.entries(root)] == found


def test_keys_chosen_below_the_thresholds() -> None:
    """FORMAT 10.16: keys that each would cut still lie T/4 to a leaf: no node per key.

    Fails without: the bound of T/4.
    """
    found = chosen(1500, low=True)
    bucket = Bucket(ADVERSE)
    root = bucket.build([entry(key) for key in found])
    _, height = shape(bucket, root)
    leaves = sum(ref.level == 0 for ref in bucket.nodes(root))
    assert leaves <= 1500 // (512 // 4 // 30) + 1
    assert height <= 6


@pytest.mark.parametrize("params", [TreeParams(), ADVERSE], ids=["default", "small"])
def test_keys_of_65535_bytes_with_shared_prefixes(params: TreeParams) -> None:
    """FORMAT 10.16: the longest keys, alike in their first 60 KB, lie two to a node and are found.

    Fails without: the rule that no node ends after one item.
    """
    rng = random.Random(3)
    found = sorted("p" * 60_000 + f"{rng.randrange(10**9):0535d}" + "s" * 5_000 for _ in range(24))
    found[0:0] = ["", "a", "b"]
    bucket = Bucket(params)
    root = bucket.build([entry(key) for key in found])
    largest, height = shape(bucket, root)
    assert largest <= 4
    assert height <= 6
    assert [e.key for e in bucket.entries(root)] == found
    victim = found[11]
    new = bucket.update(root, [entry(victim, "changed")])
    assert new.added_nodes <= height + 2
    assert max(len(d) for d in bucket.stored.values()) <= max_columns_bytes(params, 1) * 2


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_empty_key_and_the_smallest_trees(count: int) -> None:
    """One leaf is a whole tree, and the empty key is a key."""
    bucket = Bucket(TreeParams())
    entries = [entry(key) for key in ["", "\0", "\0\0"][:count]]
    root = bucket.build(entries)
    assert root is not None
    assert (root.level, root.count, len(bucket.stored)) == (0, count, 1)
    assert bucket.entries(root) == entries


def test_no_inner_node_has_a_single_child_but_the_last_of_its_level() -> None:
    """Levels at least halve, so that height is bounded by the logarithm of the keys."""
    bucket = Bucket(ADVERSE)
    root = bucket.build([entry(f"{i:06d}") for i in range(3000)])
    nodes = bucket.nodes(root)
    assert root is not None
    top = nodes[root]
    for node in nodes.values():
        assert len(node) >= 2 or node.last == top.last
    assert isinstance(top, InnerNode)
    assert len(top) >= 2
