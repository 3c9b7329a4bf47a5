"""Read plans: everything wanted, once, in few requests."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.plan import coalesce, plan_ranges

spans = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=25)
gaps = st.integers(0, 30)
sizes = st.integers(1, 120)


@settings(max_examples=150, deadline=None)
@given(spans, gaps, sizes)
def test_coalesced_spans_cover_what_was_given_and_bridge_no_wide_hole(
    wanted: list[tuple[int, int]], max_gap: int, max_size: int
) -> None:
    """The result is sorted, disjoint, covers each byte, and wastes at most `max_gap` per hole."""
    given_spans = sorted((start, start + length) for start, length in wanted)
    joined = coalesce(given_spans, max_gap=max_gap, max_size=max_size)
    needed = {byte for start, end in given_spans for byte in range(start, end)}
    covered = [byte for start, end in joined for byte in range(start, end)]
    assert covered == sorted(set(covered))
    assert needed <= set(covered)
    assert all(byte in needed for start, end in joined for byte in (start, end - 1))
    run = 0
    for byte in covered:
        run = 0 if byte in needed else run + 1
        assert run <= max_gap


@settings(max_examples=100, deadline=None)
@given(spans, gaps, sizes)
def test_joining_makes_no_request_above_the_size(
    wanted: list[tuple[int, int]], max_gap: int, max_size: int
) -> None:
    """Only pieces that overlap, or one large piece, may exceed `max_size`."""
    taken: set[int] = set()
    disjoint = []
    for start, length in sorted(wanted):
        if taken.isdisjoint(range(start, start + length)):
            taken.update(range(start, start + length))
            disjoint.append((start, start + length))
    largest = max((end - start for start, end in disjoint), default=0)
    for start, end in coalesce(disjoint, max_gap=max_gap, max_size=max_size):
        assert end - start <= max(max_size, largest)


pieces = st.lists(
    st.tuples(st.sampled_from((b"A", b"B")), st.integers(0, 300), st.integers(0, 40)), max_size=30
)


@settings(max_examples=150, deadline=None)
@given(pieces, gaps, sizes)
def test_each_wanted_piece_can_be_cut_from_its_request(
    wanted: list[tuple[bytes, int, int]], max_gap: int, max_size: int
) -> None:
    """Cutting the answers gives each piece's own bytes, as often as it was asked for."""
    objects = {sid: bytes((i * 7 + sid[0]) & 255 for i in range(400)) for sid in (b"A", b"B")}
    plans = plan_ranges(wanted, max_gap=max_gap, max_size=max_size)
    got = []
    for plan in plans:
        body = objects[plan.sid][plan.start : plan.stop]
        assert len(body) == plan.stop - plan.start > 0
        cuts = plan.cut(body)
        got += [(plan.sid, *piece, cut) for piece, cut in zip(plan.pieces, cuts, strict=True)]
    expected = [
        (sid, offset, length, objects[sid][offset : offset + length])
        for sid, offset, length in wanted
        if length
    ]
    assert sorted(got) == sorted(expected)
    ranges = [(plan.sid, plan.start, plan.stop) for plan in plans]
    assert ranges == sorted(ranges)
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(ranges))


@settings(max_examples=60, deadline=None)
@given(spans, gaps, sizes)
def test_plans_are_the_coalesced_spans(
    wanted: list[tuple[int, int]], max_gap: int, max_size: int
) -> None:
    """Both ways of asking for one segment give the same requests."""
    plans = plan_ranges([(b"A", *w) for w in wanted], max_gap=max_gap, max_size=max_size)
    joined = coalesce([(s, s + n) for s, n in sorted(wanted)], max_gap=max_gap, max_size=max_size)
    assert [(plan.start, plan.stop) for plan in plans] == joined


def test_neighbours_need_one_request() -> None:
    """100 values that lie back to back are one request; another segment is another."""
    wanted = [(b"A", 64 + i * 1000, 1000) for i in range(100)]
    (plan,) = plan_ranges(wanted)
    assert (plan.start, plan.stop, len(plan.pieces)) == (64, 100_064, 100)
    assert len(plan_ranges([*wanted, (b"B", 100_064, 5)])) == 2


def test_nothing_wanted_is_no_request() -> None:
    """No pieces, or only empty ones, ask for nothing."""
    assert plan_ranges([]) == []
    assert plan_ranges([(b"A", 64, 0)]) == []
    assert coalesce([]) == []
