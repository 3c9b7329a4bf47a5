"""Bytes weighed against requests by what reads have taken."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebooklet.core.pace import Pace, PaceMeter
from ebooklet.core.plan import plan_ranges, worth_bridging

FAR = Pace(latency_s=0.02, request_s=0.001, bytes_per_s=100e6, parallel=16)

paces = st.builds(
    Pace,
    st.sampled_from([0.0, 0.001, 0.02, 0.3]),
    st.sampled_from([0.0, 0.001]),
    st.sampled_from([1e6, 1e8]),
    st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 1 << 22), max_size=6, unique=True), st.integers(1, 4), paces)
def test_no_other_choice_of_holes_takes_less(gaps: list[int], more: int, pace: Pace) -> None:
    """Of all sets of holes, bridging those up to the one that is named is among the quickest."""
    requests, n_bytes = len(gaps) + more, 10_000

    def seconds(bridged: tuple[int, ...]) -> float:
        return pace.seconds(requests - len(bridged), n_bytes + sum(bridged))

    widest = worth_bridging(gaps, requests, n_bytes, pace)
    chosen = seconds(tuple(gap for gap in gaps if gap <= widest))
    every = [seconds(some) for n in range(len(gaps) + 1) for some in combinations(gaps, n)]
    assert chosen <= min(every) + 1e-9


def test_far_away_rounds_are_saved_and_near_by_bytes() -> None:
    """A hundred keys among ten thousand: one round far away, and nearly no hole near by."""
    numbers = sorted(Random(1).sample(range(10_000), 100))
    wanted = [(b"A", 64 + n * 1000, 1000) for n in numbers]
    far = plan_ranges(wanted, pace=FAR)
    assert len(far) <= FAR.parallel
    assert sum(plan.stop - plan.start for plan in far) < wanted[-1][1] * 0.7
    assert len(plan_ranges(wanted, pace=FAR._replace(latency_s=0.0005, request_s=0.0002))) > 50
    assert plan_ranges(wanted, pace=Pace(0.0, 0.0, 1e9, 16)) == plan_ranges(wanted)
    assert sorted(piece for plan in far for piece in plan.pieces) == [w[1:] for w in wanted]


def test_much_is_shared_out_among_the_requests() -> None:
    """Whatever is wanted whole comes over several connections, in parts that are not small."""
    wanted = [(b"A", 64 + n * 1000, 1000) for n in range(10_000)]
    assert len(plan_ranges(wanted, pace=FAR)) == 5
    assert len(plan_ranges(wanted[:1_000], pace=FAR)) == 1


def test_the_meter_learns_each_part_of_the_pace() -> None:
    """Small reads tell the latency, large ones the line, many small ones what each request takes."""
    meter = PaceMeter(parallel=4)
    meter.note(1, 1_000, 0.9)  # with a connection to be made
    meter.note(1, 1_000, 0.1)
    assert meter.pace.latency_s == 0.1
    for _ in range(20):
        meter.note(4, 10_000_000, 0.1 + 4 * meter.pace.request_s + 1.0)
    assert meter.pace.bytes_per_s == pytest.approx(10e6, rel=0.01)
    for _ in range(20):
        meter.note(40, 40_000, 10 * 0.1 + 40 * 0.005 + 0.004)
    assert meter.pace.request_s == pytest.approx(0.005, rel=0.01)
    meter.note(1, 1_000, 0.001)
    assert meter.pace.latency_s == 0.001


def test_near_by_a_request_is_dearer_than_many_bytes() -> None:
    """Quick answers stand for a fast line until one has been measured, and requests are never free."""
    meter = PaceMeter(parallel=16)
    meter.note(3, 200_000, 0.004)
    wanted = [(b"A", 64 + n * 1000, 1000) for n in Random(1).sample(range(10_000), 100)]
    assert len(plan_ranges(wanted, pace=meter.pace)) <= 10
    for _ in range(20):
        meter.note(3, 10_000_000, 1.0)
    assert meter.pace.bytes_per_s < 12e6
    assert len(plan_ranges(wanted, pace=meter.pace)) > 70
    for _ in range(20):
        meter.note(40, 40_000, 0.0)
    assert meter.pace.request_s > 0


def test_time_that_stands_still_makes_nothing_of_it() -> None:
    """On clocks that do not move, and near by, no hole is worth a byte, and nothing is divided by 0."""
    for meter in (PaceMeter(16), PaceMeter(1, distant=False)):
        for n_requests, n_bytes in ((1, 10), (3, 10_000_000), (100, 100_000)):
            meter.note(n_requests, n_bytes, 0.0)
        assert meter.pace.seconds(1_000, 0) == pytest.approx(0.0, abs=1)
        assert worth_bridging([1, 1 << 20], 3, 3_000, meter.pace) <= 1 << 20
