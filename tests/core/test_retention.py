"""What a head keeps alive, against a plain walk of the same history."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.commit import SegmentRow
from ebooklet.core.head import Branch, Head, Tag, Trash
from ebooklet.core.refs import BlockRef, CommitRef
from ebooklet.core.retention import RetainedCommits, RetainedSegments
from ebooklet.testing.records import example_commit, example_head, fixed


def ref(seq: int) -> CommitRef:
    return CommitRef(BlockRef(fixed(16, seq), 64, 10, 0), seq.to_bytes(32), seq)


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[int, list[int]], Head]:
    """Parents by seq, each lower than its child, and a head that names some of the commits."""
    seqs = sorted(draw(st.sets(st.integers(1, 40), min_size=1, max_size=14)))
    parents = {
        seq: draw(st.lists(st.sampled_from(seqs[:n]), max_size=2, unique=True)) if n else []
        for n, seq in enumerate(seqs)
    }
    one = st.sampled_from(seqs)
    branches = {
        name: Branch(ref(draw(one)), draw(st.integers(0, 41)), 0, 0)
        for name in draw(st.sampled_from((["main"], ["main", "dev"], ["main", "dev", "third"])))
    }
    head = replace(
        example_head(),
        branches=branches,
        tags=MappingProxyType(
            {str(n): Tag(ref(draw(one)), 0) for n in range(draw(st.integers(0, 2)))}
        ),
        trash=tuple(Trash("t", ref(draw(one)), 0) for _ in range(draw(st.integers(0, 2)))),
    )
    return parents, head


def oracle(parents: dict[int, list[int]], head: Head) -> set[int]:
    """Every commit that can be reached without passing below a branch's oldest seq."""
    kept = {tag.commit.seq for tag in head.tags.values()} | {t.commit.seq for t in head.trash}
    for branch in head.branches.values():
        kept.add(branch.commit.seq)
        seen, left = set(), [branch.commit.seq]
        while left:
            seq = left.pop()
            if seq in seen or (seq < branch.oldest_seq and seq != branch.commit.seq):
                continue
            seen.add(seq)
            if seq >= branch.oldest_seq:
                left += parents[seq]
        kept |= seen
    return kept


@settings(max_examples=300, deadline=None)
@given(histories())
def test_the_retained_commits(history: tuple[dict[int, list[int]], Head]) -> None:
    """Branches back to their oldest seq over every parent, tags and trash alone; no hole is left."""
    parents, head = history
    walk = RetainedCommits(head)
    retained = set()
    for seq in sorted(parents, reverse=True):
        if walk.retains(ref(seq)):
            retained.add(seq)
            walk.follow(ref(seq), [ref(parent).id for parent in parents[seq]])
    assert retained == oracle(parents, head)
    assert walk.unmet == frozenset()
    assert walk.lowest_seq <= min(retained)


def test_a_hole_is_told() -> None:
    """A parent that nobody knows the place of is named."""
    head = replace(example_head(), branches={"main": Branch(ref(9), 1, 0, 0)}, tags={}, trash=())
    walk = RetainedCommits(head)
    assert walk.retains(ref(9))
    walk.follow(ref(9), [ref(8).id])
    assert walk.unmet == {ref(8).id}


def test_the_segments_of_commits() -> None:
    """The table's, and that of the record itself, whose size nothing tells; the head's own as well."""
    head = example_head()
    commit = example_commit()
    segments = RetainedSegments(head)
    assert segments.sizes == dict.fromkeys(head.held())
    segments.add(ref(99), commit)
    assert segments.sizes[fixed(16, 99)] is None
    for row in commit.segs:
        assert segments.sizes[row.sid] == row.length
    segments.hold([commit.segs[0].sid, b"x" * 16])
    assert segments.sizes[commit.segs[0].sid] == commit.segs[0].length
    assert segments.sizes[b"x" * 16] is None


def test_tables_that_disagree() -> None:
    """A segment is written once with one content: of two sizes one is wrong, and none is told."""
    commit = example_commit()
    segments = RetainedSegments(example_head())
    segments.add(ref(1), commit)
    segments.add(ref(2), commit)
    row = commit.segs[0]
    other = replace(commit, segs=(SegmentRow(row.sid, row.length + 1, row.live, row.kind),))
    assert segments.stated(row.sid) == (row.length,)
    for number in (3, 4):
        segments.add(ref(number), other)
        assert segments.sizes[row.sid] is None
        assert segments.stated(row.sid) == {row.length, row.length + 1}
    assert segments.stated(ref(1).block.sid) == ()
