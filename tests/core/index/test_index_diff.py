"""Differences against a dict oracle, at a cost that follows the differences."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.entry import Entry
from ebooklet.core.index.diff import Change, diff
from ebooklet.core.index.need import drive_scan
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef
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


def differences(
    bucket: Bucket, a: NodeRef | None, b: NodeRef | None, *, times: bool = False
) -> list[Change]:
    pieces = list(drive_scan(diff(a, b, times=times), bucket.fetch))
    assert all(pieces)
    return [change for piece in pieces for change in piece]


def oracle(a: dict[str, Entry], b: dict[str, Entry]) -> list[Change]:
    """What two dicts differ in: by value, timestamps and places aside."""
    changes = []
    for key in sorted(a.keys() | b.keys()):
        old, new = a.get(key), b.get(key)
        if old is None or new is None or (old.length, old.digest) != (new.length, new.digest):
            changes.append(Change(key, old, new))
    return changes


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_diff_is_the_difference_of_dicts(data: st.DataObject) -> None:
    """Related or unrelated, of any heights: the changes are those of two dicts, in key order."""
    a = data.draw(contents())
    b = edited(a, data.draw(edits_of(a))) if data.draw(st.booleans()) else data.draw(contents(40))
    bucket = Bucket(SMALL)
    one, two = bucket.build(in_order(a)), bucket.build(in_order(b))
    assert differences(bucket, one, two) == oracle(a, b)
    assert differences(bucket, two, one) == oracle(b, a)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_times_are_differences_where_they_are_asked_for(data: st.DataObject) -> None:
    """Keys with another timestamp come too, and what was edited in place is told from the rest."""
    a = data.draw(contents())
    b = edited(a, data.draw(edits_of(a)))
    for key in data.draw(st.lists(st.sampled_from(sorted(b)), max_size=5)) if b else ():
        b[key] = b[key]._replace(timestamp=b[key].timestamp + 1)
    bucket = Bucket(SMALL)
    one, two = bucket.build(in_order(a)), bucket.build(in_order(b))
    found = differences(bucket, one, two, times=True)
    stamped = [change for change in found if change.same_value]
    assert [change for change in found if not change.same_value] == oracle(a, b)
    assert [change.key for change in stamped] == sorted(
        key
        for key in a.keys() & b.keys()
        if a[key].timestamp != b[key].timestamp and a[key][1:3] == b[key][1:3]
    )


def test_one_new_time_in_100k_keys_reads_two_paths() -> None:
    """A timestamp costs what a value does: the nodes that were written for it, no others."""
    bucket = Bucket(TreeParams())
    entries = numbered(100_000, random.Random(1))
    root = bucket.build(entries)
    assert root is not None
    moved = entries[54_321]._replace(timestamp=entries[54_321].timestamp + 1)
    new = bucket.update(root, {moved.key: moved}).root
    assert new is not None
    assert new.digest == root.digest
    bucket.rounds.clear()
    assert differences(bucket, root, new) == []
    assert bucket.rounds == []
    assert differences(bucket, root, new, times=True) == [Change(moved.key, entries[54_321], moved)]
    assert bucket.reads == 2 * (root.level + 1)


def test_a_gap_as_wide_as_the_tree() -> None:
    """One side's leaf may span thousands of the other's: windows meet all the same."""
    entries = [entry(f"{i:05d}") for i in range(6000)]
    few = [entries[0], entries[1], entries[-1]]
    bucket = Bucket(SMALL)
    whole, rest = bucket.build(entries), bucket.build(few)
    expected = [Change(e.key, e, None) for e in entries[2:-1]]
    assert differences(bucket, whole, rest) == expected
    assert max(bucket.rounds) <= 256


@pytest.mark.parametrize("kind", ["modify", "insert", "delete"])
@pytest.mark.parametrize("n", [100_000, pytest.param(1_000_000, marks=pytest.mark.large)])
def test_ten_differences_read_few_nodes(n: int, kind: str) -> None:
    """Ten scattered changes cost both paths to each, in one round per level.

    The bound follows from the shape: each side opens its root, and for each change a node of
    every level below it, so 2 * (1 + 10 * level) nodes and few more where keys came or went.
    """
    bucket = Bucket(TreeParams())
    entries = numbered(n, random.Random(1))
    root = bucket.build(entries)
    assert root is not None
    picked = sorted(random.Random(kind).sample(entries, 10))
    edits: dict[str, Entry | None] = {}
    for old in picked:
        key = old.key + "x" if kind == "insert" else old.key
        edits[key] = None if kind == "delete" else entry(key)
    new = bucket.update(root, edits).root
    bucket.rounds.clear()
    assert [change.key for change in differences(bucket, root, new)] == sorted(edits)
    assert bucket.reads <= 60
    assert len(bucket.rounds) == root.level + 1
    bucket.rounds.clear()
    assert differences(bucket, root, root) == []
    assert bucket.rounds == []


def test_subtrees_that_moved_are_not_read() -> None:
    """Keys added before all others shift positions and heights, yet only new leaves are read."""
    bucket = Bucket(SMALL)
    entries = [entry(f"{i:05d}") for i in range(3000)]
    late, whole = bucket.build(entries[1500:]), bucket.build(entries)
    assert [c.key for c in differences(bucket, late, whole)] == [e.key for e in entries[:1500]]
    assert bucket.reads < 0.7 * len(bucket.nodes(whole))
