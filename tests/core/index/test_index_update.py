"""Updates and builds give the same tree: one content, one tree (FORMAT §10, test 1)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.entry import Entry
from ebooklet.core.index import edits as edits_module
from ebooklet.core.index.build import build
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.index.need import drive
from ebooklet.core.index.update import update
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef
from ebooklet.errors import InvalidKeyError
from ebooklet.testing.trees import (
    SMALL,
    Bucket,
    contents,
    edited,
    edits_of,
    entry,
    in_order,
    numbered,
)


def same(a: NodeRef | None, b: NodeRef | None) -> bool:
    """Whether two trees are equal in digest, count and height."""
    return a[1:] == b[1:] if a is not None and b is not None else a is b


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_updates_make_the_tree_that_build_makes(data: st.DataObject) -> None:
    """Any series of edits ends in the tree of its content, and every count in it is right."""
    batch = data.draw(st.sampled_from([1, 2, 7, 1024]))
    content = data.draw(contents())
    bucket = Bucket(SMALL)
    root = bucket.build(in_order(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edits_module, "BATCH", batch)
        for _ in range(data.draw(st.integers(1, 4))):
            edits = data.draw(edits_of(content))
            before = bucket.nodes(root)
            placed = len(bucket.stored)
            result = bucket.update(root, edits)
            replaced = [
                content[key]
                for key, new in sorted(edits.items())
                if key in content and content[key] != new
            ]
            content = edited(content, edits)
            after = bucket.nodes(result.root)

            assert same(result.root, Bucket(SMALL).build(in_order(content)))
            assert bucket.entries(result.root) == in_order(content)
            assert result.replaced == replaced
            assert set(result.dropped_nodes) == before.keys() - after.keys()
            assert len(result.dropped_nodes) == len(set(result.dropped_nodes))
            assert result.added_nodes == len(after.keys() - before.keys())
            assert result.added_nodes == len(bucket.stored) - placed
            old = {bucket.stored[ref.block] for ref in before}
            new_nodes = after.keys() - before.keys()
            assert not any(bucket.stored[ref.block] in old for ref in new_nodes)
            root = result.root


@given(contents(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_history_leaves_no_trace(content: dict[str, Entry], rng: random.Random) -> None:
    """FORMAT 10.1: keys set one by one in any order, with detours, give the print of a bulk build.

    Fails without: cutting anew behind an edit until a cut is an old one.
    """
    order = list(content)
    rng.shuffle(order)
    bucket = Bucket(SMALL)
    root: NodeRef | None = None
    for key in order:
        detour = f"{rng.randrange(400):03d}"
        root = bucket.update(root, {key: content[key]}).root
        if detour not in content:
            root = bucket.update(root, [entry(detour, "detour")]).root
            root = bucket.update(root, {detour: None}).root
    built = Bucket(SMALL).build(in_order(content))
    assert same(root, built)
    assert fingerprint(SMALL, root) == fingerprint(SMALL, built)


@pytest.mark.parametrize("survivors", [0, 1, 2, 5])
def test_a_high_tree_shrinks_to_what_is_left(survivors: int) -> None:
    """Deleting nearly all keys of a tree lowers it, and reports every node that went."""
    entries = [entry(f"{i:05d}") for i in range(1500)]
    for first in (0, 700, 1500 - survivors):
        bucket = Bucket(SMALL)
        root = bucket.build(entries)
        assert root is not None
        assert root.level >= 3
        kept = entries[first : first + survivors]
        gone = {e.key: None for e in entries if e not in kept}
        result = bucket.update(root, gone)
        assert same(result.root, Bucket(SMALL).build(kept))
        left = bucket.nodes(result.root).keys()
        assert set(result.dropped_nodes) == bucket.nodes(root).keys() - left
        assert [e.key for e in result.replaced] == sorted(gone)


def test_growing_from_nothing_and_at_both_ends() -> None:
    """Bulk inserts into an empty tree, before it and behind it, stream through in batches."""
    entries = [entry(f"{i:05d}") for i in range(6000)]
    bucket = Bucket(SMALL)
    middle = bucket.update(None, entries[2000:2500]).root
    lower = bucket.update(middle, entries[:2000]).root
    whole = bucket.update(lower, entries[2500:]).root
    assert same(whole, Bucket(SMALL).build(entries))


def test_edits_that_change_nothing_read_little_and_write_nothing() -> None:
    """Deleting absent keys and setting equal entries returns the very root, nothing placed."""
    entries = [entry(f"{i:05d}") for i in range(0, 4000, 2)]
    bucket = Bucket(SMALL)
    root = bucket.build(entries)
    placed = len(bucket.stored)
    edits: dict[str, Entry | None] = {f"{i:05d}": None for i in range(1, 4000, 2)}
    edits |= {e.key: e for e in entries[::3]}
    result = bucket.update(root, edits)
    assert result.root is root
    assert (result.added_nodes, result.dropped_nodes, result.replaced) == (0, [], [])
    assert len(bucket.stored) == placed
    assert drive(update(root, [], SMALL, bucket.place), bucket.fetch).root is root


def test_a_touched_timestamp_rewrites_the_leaf_under_an_equal_digest() -> None:
    """Metadata of an entry is stored anew, yet the fingerprint stays."""
    bucket = Bucket(SMALL)
    root = bucket.build([entry(f"{i:03d}") for i in range(300)])
    assert root is not None
    touched = entry("123", timestamp=42)
    result = bucket.update(root, [touched])
    assert result.root is not None
    assert result.root != root
    assert result.root.digest == root.digest
    assert result.added_nodes == root.level + 1
    assert touched in bucket.entries(result.root)


@pytest.fixture(scope="module")
def large() -> tuple[Bucket, NodeRef, list[Entry]]:
    """A tree of 100,000 keys with the default parameters."""
    bucket = Bucket(TreeParams())
    entries = numbered(100_000, random.Random(1))
    root = bucket.build(entries)
    assert root is not None
    return bucket, root, entries


@pytest.mark.parametrize("kind", ["modify", "insert", "delete"])
def test_one_edit_of_100k_writes_a_path(
    large: tuple[Bucket, NodeRef, list[Entry]], kind: str
) -> None:
    """One change costs a path from root to leaf, at most two nodes more, in as many rounds."""
    bucket, root, entries = large
    rng = random.Random(kind)
    for _ in range(8):
        old = rng.choice(entries)
        key = old.key + "x" if kind == "insert" else old.key
        bucket.rounds.clear()
        result = bucket.update(root, {key: None if kind == "delete" else entry(key)})
        assert result.added_nodes <= root.level + 1 + 2
        assert len(bucket.rounds) <= root.level + 1 + 2
        assert bucket.reads <= root.level + 1 + 3


@pytest.mark.parametrize("kind", ["modify", "insert", "delete"])
def test_a_thousand_edits_of_100k_take_few_rounds(
    large: tuple[Bucket, NodeRef, list[Entry]], kind: str
) -> None:
    """Scattered edits are read level by level, and re-cuts find their neighbours at hand."""
    bucket, root, entries = large
    picked = random.Random(kind).sample(entries, 1000)
    bucket.rounds.clear()
    edits: dict[str, Entry | None] = {}
    for old in picked:
        key = old.key + "x" if kind == "insert" else old.key
        edits[key] = None if kind == "delete" else entry(key)
    result = bucket.update(root, edits)
    assert len(bucket.rounds) <= root.level + 1 + 4
    assert bucket.reads <= result.added_nodes * 1.1
    oracle = edited({e.key: e for e in entries}, edits)
    assert same(result.root, build(in_order(oracle), TreeParams(), Bucket(TreeParams()).place))


def test_replaced_entries_can_be_streamed() -> None:
    """A caller with too many edits to hold gets the old entries in portions instead."""
    entries = [entry(f"{i:05d}") for i in range(3000)]
    bucket = Bucket(SMALL)
    root = bucket.build(entries)
    seen: list[Entry] = []
    op = update(root, [(e.key, None) for e in entries], SMALL, bucket.place, discard=seen.extend)
    result = drive(op, bucket.fetch)
    assert result.root is None
    assert result.replaced == []
    assert seen == entries


def test_what_is_out_of_order_or_not_a_key_is_refused() -> None:
    """Unsorted or repeated keys and keys without UTF-8 are errors of the caller, by class."""
    bucket = Bucket(SMALL)
    a, b = entry("a"), entry("b")
    for wrong in ([b, a], [a, a]):
        with pytest.raises(ValueError, match="increasing"):
            bucket.build(wrong)
        with pytest.raises(ValueError, match="increasing"):
            drive(update(None, [(e.key, e) for e in wrong], SMALL, bucket.place), bucket.fetch)
    with pytest.raises(InvalidKeyError):
        bucket.build([entry("\ud800")])
