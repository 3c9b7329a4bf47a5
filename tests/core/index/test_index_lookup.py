"""Reads of a tree against a dict, and how few nodes they ask for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.entry import Entry
from ebooklet.core.index.codec import encode_inner
from ebooklet.core.index.diff import diff
from ebooklet.core.index.lookup import count, lookup, prefix_range, scan, scan_keys, scan_leaves
from ebooklet.core.index.need import drive, drive_scan
from ebooklet.core.index.node import InnerNode, Node
from ebooklet.core.index.update import update
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef
from ebooklet.errors import RemoteIntegrityError
from ebooklet.testing.trees import SMALL, Bucket, contents, entry, in_order, keys, numbered


@given(contents(), st.lists(keys, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_lookup_is_a_dict(content: dict[str, Entry], others: list[str], rng: random.Random) -> None:
    """Keys there are give their entries, all others are missing from the answer."""
    bucket = Bucket(SMALL)
    root = bucket.build(in_order(content))
    asked = others + rng.sample(sorted(content), len(content) // 2)
    found = drive(lookup(root, asked), bucket.fetch)
    assert found == {key: content[key] for key in asked if key in content}


@given(contents(), st.none() | keys, st.none() | keys, st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_scan_is_a_sorted_slice(
    content: dict[str, Entry], start: str | None, stop: str | None, window: int
) -> None:
    """A scan gives what sorting and filtering a dict gives, in pieces that are never empty."""
    bucket = Bucket(SMALL)
    root = bucket.build(in_order(content))
    expected = [
        e
        for e in in_order(content)
        if (start is None or e.key >= start) and (stop is None or e.key < stop)
    ]
    pieces = list(drive_scan(scan(root, start, stop, window=window), bucket.fetch))
    assert all(pieces)
    assert [e for piece in pieces for e in piece] == expected
    names = [k for piece in drive_scan(scan_keys(root, start, stop), bucket.fetch) for k in piece]
    assert names == [e.key for e in expected]
    assert drive(count(root, start, stop), bucket.fetch) == len(expected)
    stamps = [
        stamp
        for node, lo, hi in drive_scan(scan_leaves(root, start, stop), bucket.fetch)
        for stamp in node.timestamps[lo:hi]
    ]
    assert stamps == [e.timestamp for e in expected]


@given(st.sets(keys, max_size=40), st.text(max_size=3) | st.sampled_from(["\ud7ff", "\U0010ffff"]))
@settings(max_examples=80, deadline=None)
def test_prefix_range_is_startswith(names: set[str], prefix: str) -> None:
    """The range of a prefix holds exactly the keys that begin with it."""
    start, stop = prefix_range(prefix)
    inside = {key for key in names | {prefix + n for n in names} if key.startswith(prefix)}
    for key in names | {prefix + name for name in names}:
        assert (key >= start and (stop is None or key < stop)) == (key in inside)


@pytest.mark.parametrize(
    ("prefix", "stop"),
    [
        ("", None),
        ("a", "b"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("\ud7ff", "\ue000"),
        ("\uffff", "\U00010000"),
    ],
)
def test_prefix_range_at_the_edges(prefix: str, stop: str | None) -> None:
    """The last code point carries over, and no bound is ever half a character."""
    assert prefix_range(prefix) == (prefix, stop)
    (stop or "").encode()


@pytest.fixture(scope="module")
def large() -> tuple[Bucket, NodeRef, list[Entry]]:
    """A tree of 30,000 keys with the default parameters."""
    bucket = Bucket(TreeParams())
    entries = numbered(30_000, random.Random(2))
    root = bucket.build(entries)
    assert root is not None
    return bucket, root, entries


def test_a_lookup_reads_a_path(large: tuple[Bucket, NodeRef, list[Entry]]) -> None:
    """One key costs a node per level; a thousand cost no more rounds than one."""
    bucket, root, entries = large
    bucket.rounds.clear()
    drive(lookup(root, [entries[777].key]), bucket.fetch)
    assert bucket.rounds == [1] * (root.level + 1)
    bucket.rounds.clear()
    picked = [e.key for e in random.Random(5).sample(entries, 1000)]
    assert len(drive(lookup(root, picked), bucket.fetch)) == 1000
    assert len(bucket.rounds) == root.level + 1


def test_a_scan_reads_what_is_in_range(large: tuple[Bucket, NodeRef, list[Entry]]) -> None:
    """Fifty keys cost a path and at most a neighbour, and a thousand a dozen nodes.

    To count them costs the paths to both ends; the few leaves between come with them, as who
    counts most often reads them next.
    """
    bucket, root, entries = large
    bucket.rounds.clear()
    part = drive_scan(scan(root, entries[9000].key, entries[9050].key), bucket.fetch)
    assert [e for piece in part for e in piece] == entries[9000:9050]
    assert bucket.reads <= root.level + 2
    for begin in range(0, 29_000, 1700):
        start, stop = entries[begin].key, entries[begin + 1000].key
        bucket.rounds.clear()
        assert sum(map(len, drive_scan(scan_keys(root, start, stop), bucket.fetch))) == 1000
        assert bucket.reads <= root.level + 11
        bucket.rounds.clear()
        assert drive(count(root, start, stop), bucket.fetch) == 1000
        assert bucket.reads <= root.level + 11
    bucket.rounds.clear()
    assert drive(count(root, entries[100].key, entries[20_100].key), bucket.fetch) == 20_000
    assert bucket.reads <= 2 * root.level + 1


def test_a_prefix_of_a_thousand_keys_takes_ten_nodes(
    large: tuple[Bucket, NodeRef, list[Entry]],
) -> None:
    """Beside the root, which the head carries; whatever the prefix, and in few rounds."""
    bucket, root, entries = large
    check_prefixes(bucket, root, len(entries))


@pytest.mark.large
def test_a_prefix_takes_as_few_of_a_million_keys() -> None:
    """The same, one level higher up."""
    bucket = Bucket(TreeParams())
    root = bucket.build(numbered(1_000_000, random.Random(1)))
    assert root is not None
    check_prefixes(bucket, root, 1_000_000)


def check_prefixes(bucket: Bucket, root: NodeRef, n: int) -> None:
    for first in range(0, n - 1_000, n // 30):
        bucket.rounds.clear()
        prefix = f"key/{first:08d}"[:-3]
        pieces = drive_scan(scan_keys(root, *prefix_range(prefix)), bucket.fetch)
        assert len([key for piece in pieces for key in piece]) == 1000
        assert bucket.reads <= 1 + 10
        assert len(bucket.rounds) <= root.level + 2


def test_a_reader_that_stops_soon_has_fetched_little(
    large: tuple[Bucket, NodeRef, list[Entry]],
) -> None:
    """The first piece of a scan does not wait for a full window."""
    bucket, root, _ = large
    bucket.rounds.clear()
    next(drive_scan(scan_keys(root), bucket.fetch))
    assert bucket.reads <= root.level + 32


def test_a_full_scan_reads_each_node_once_in_few_rounds(
    large: tuple[Bucket, NodeRef, list[Entry]],
) -> None:
    """Windows grow, so that a whole scan is a dozen rounds and no node is read twice."""
    bucket, root, entries = large
    bucket.rounds.clear()
    assert bucket.entries(root) == entries
    assert bucket.reads == len(bucket.nodes(root))
    assert len(bucket.rounds) <= 12
    assert max(bucket.rounds) <= 256


def test_an_empty_tree_is_never_asked_for() -> None:
    """No tree, no keys and empty ranges ask for no nodes."""
    bucket = Bucket(SMALL)
    root = bucket.build([entry("a")])
    assert drive(lookup(None, ["a"]), bucket.fetch) == {}
    assert drive(lookup(root, []), bucket.fetch) == {}
    assert list(drive_scan(scan(None), bucket.fetch)) == []
    assert list(drive_scan(scan(root, "b", "a"), bucket.fetch)) == []
    assert bucket.rounds == []


def test_wrong_separators_hide_nothing() -> None:
    """An inner node whose last keys were moved, which no digest covers, is refused by any walk."""
    bucket = Bucket(SMALL)
    root = bucket.build([entry(f"{i:02d}") for i in range(40)])
    assert root is not None
    node = bucket.nodes(root)[root]
    assert isinstance(node, InnerNode)
    items = [(child.key[:1] + "z", child.ref) for child in node.items()]
    items = list(dict(items).items())[: len(items)]
    if len(items) < len(node):
        items = [(child.key + "z", child.ref) for child in node.items()]
    data, digest = encode_inner(items, root.level, SMALL)
    forged = root._replace(block=bucket.place(data))
    assert digest == root.digest, "separators are outside of the digest"
    last = node.last + "z"
    with pytest.raises(RemoteIntegrityError):
        drive(lookup(forged, [last]), bucket.fetch)
    with pytest.raises(RemoteIntegrityError):
        list(drive_scan(scan(forged), bucket.fetch))
    with pytest.raises(RemoteIntegrityError):
        list(drive_scan(diff(forged, None), bucket.fetch))
    with pytest.raises(RemoteIntegrityError):
        bucket.update(forged, [entry("01", 2)])


def test_a_node_that_contains_itself_ends_every_walk() -> None:
    """A cache that knows nodes by place may be led in a circle; levels stop it, typed."""
    bucket = Bucket(SMALL)
    root = bucket.build([entry(f"{i:03d}") for i in range(200)])
    assert root is not None
    node = bucket.nodes(root)[root]

    def circle(refs: tuple[NodeRef, ...]) -> dict[NodeRef, Node]:
        return dict.fromkeys(refs, node)

    with pytest.raises(RemoteIntegrityError, match="level"):
        drive(lookup(root, ["042"]), circle)
    with pytest.raises(RemoteIntegrityError, match="level"):
        list(drive_scan(scan(root), circle))
    with pytest.raises(RemoteIntegrityError, match="level"):
        list(drive_scan(diff(None, root), circle))
    with pytest.raises(RemoteIntegrityError, match="level"):
        drive(update(root, [("042", None)], SMALL, bucket.place), circle)
