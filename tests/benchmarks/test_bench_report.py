"""What turns measurements into RESULTS.md: figures come from samples, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import compare, local, startup
from benchmarks.measurements import Measurements, Sample, Where
from benchmarks.report import markdown, series
from benchmarks.roster import BOOKLET, EXISTING, OURS, RAW, REMOTE
from benchmarks.targets import NOT_MEASURED, Reached, reached
from benchmarks.words import size, span

NEAR, FAR, LARGE = Where(10_000), Where(10_000, 20), Where(100_000)
FILES = Where(50_000, local=True)
STEPS = [title for title, _ in compare.STEPS if title]


@pytest.fixture
def results() -> Measurements:
    """A run of which ours takes a second and 1,000 bytes a step, and every other peer two."""
    made = Measurements(1_000, {"when": "then"})
    everybody = [peer.name for peer in REMOTE]
    for where, peers in ((NEAR, everybody), (FAR, everybody), (LARGE, [OURS, EXISTING, RAW])):
        for peer in peers:
            for step in STEPS:
                seconds = 1.0 if peer == OURS else 2.0
                parts = {"open": 0.1, "push": seconds / 2}
                sample = Sample(seconds, 3, int(seconds * 600), int(seconds * 400), 2, parts)
                made.add(where, peer, step, sample)
    for step in local.STEPS:
        made.add(FILES, BOOKLET, step, Sample(1.0))
        made.add(FILES, OURS, step, Sample(0.5))
    made.startup = {startup.BARE: [0.02], startup.IMPORT: [0.05], startup.HELP: [0.5]}
    return made


def line(results: Measurements, begin: str) -> Reached:
    """The target that begins so."""
    (found,) = (one for one in reached(results) if one.target.startswith(begin))
    return found


def test_targets_are_judged_by_the_samples(results: Measurements) -> None:
    """A target is met or not by what was measured, and the figure stands beside it."""
    assert line(results, "push of all 100,000 keys: ≥ 6") == Reached(
        "push of all 100,000 keys: ≥ 6 × faster than ebooklet 0.11.1", "2.0 ×", met=False
    )
    assert line(results, "warm get and set").met is True
    assert line(results, "warm get and set").reached == "get 2.00 ×, set 2.00 ×"
    assert line(results, "`import ebooklet`").reached == "30 ms"
    assert line(results, "`ebooklet --help`").met is False
    assert (
        line(results, "change 10 of 100,000 keys").met is False
    )  # a second, where 0.3 are allowed


def test_ahead_means_of_the_best_atomic_peer_in_each_figure(results: Measurements) -> None:
    """What commits nothing is no measure; what is behind in one figure is told with it."""
    assert line(results, "list all keys").met is True
    results.add(NEAR, "obstore", compare.LIST, Sample(0.0))
    assert line(results, "list all keys").met is True
    results.samples[NEAR]["lance"][compare.LIST] = [Sample(0.5, 4, 900, 0)]
    told = line(results, "list all keys")
    assert told.met is False
    assert told.reached == (
        "3 requests (icechunk 3), 1.00 KB (lance 900 B), 1.00 s (lance 500 ms): "
        "behind with 1.00 KB and 1.00 s"
    )


def test_round_trips_and_locks_are_those_of_the_run(results: Measurements) -> None:
    """A small PUT says what a round trip takes, and who takes no lock is compared with ours that takes none."""
    for step, seconds in ((compare.PUSH[1], 0.03), (compare.PUSH[10], 0.05)):
        results.samples[FAR][RAW][step] = [Sample(seconds, 1, 500)]
        results.samples[FAR][OURS][step] = [Sample(0.1, 2, 1_000)]
    told = line(results, "push of 10 of 10,000 keys at 20 ms")
    assert told.reached == (
        "100 ms, 100 ms allowed: 2 × 30 ms, a PUT of one value, + 40 ms to move the rest"
    )
    assert told.met is True
    assert line(results, "push of 1 of 10,000 keys at 20 ms").met is False
    results.samples[NEAR]["ebooklet (optimistic)"][compare.WRITE_ALL] = [Sample(9.0, 2)]
    results.samples[NEAR]["lance"][compare.WRITE_ALL] = [Sample(2.0, 2, 2_000)]
    told = line(results, "write all of 10,000 keys")
    assert told.reached.startswith("3 requests, 2 without a lock (lance 2)")
    assert told.met is True


def test_what_was_not_measured_is_said(results: Measurements) -> None:
    """A peer that could not be installed has its reason on the page, and no target is guessed."""
    results.missing["icechunk"] = "pip ended with 1 for icechunk==1.1.21"
    del results.samples[LARGE][EXISTING]
    assert line(results, "push of all 100,000 keys: ≥ 6").reached == NOT_MEASURED
    page = markdown(results)
    assert "- icechunk: pip ended with 1 for icechunk==1.1.21" in page
    assert {one.met for one in reached(Measurements(1_000))} == {None}
    assert "not measured" in markdown(Measurements(1_000))


def test_tables_have_a_column_for_each_peer(results: Measurements) -> None:
    """Every step of every circumstance stands in a table, with the ratio to the best atomic peer."""
    page = markdown(results)
    assert page.count("| write all |") == 6  # seconds and traffic, three times
    assert "2.00 (icechunk)" in page
    assert all(f"| {name} |" in page for name in ("s3fs", RAW))
    lines = series(results)["change 10: seconds"]
    assert lines == {
        peer: [(10_000, s), (100_000, s)] for peer, s in ((OURS, 1.0), (EXISTING, 2.0), (RAW, 2.0))
    }


def test_samples_are_kept_and_the_middle_counts(results: Measurements, tmp_path: Path) -> None:
    """A page can be written again from what was saved; one slow round of three moves nothing."""
    for seconds in (9.0, 1.0):
        results.add(NEAR, OURS, compare.LIST, Sample(seconds))
    results.save(tmp_path / "kept.json")
    again = Measurements.load(tmp_path / "kept.json")
    assert again == results
    assert (middle := again.get(NEAR, OURS, compare.LIST)) is not None
    assert middle.seconds == 1.0


def test_figures_are_short() -> None:
    """Three digits count."""
    assert [size(n) for n in (999, 1_234, 56_789, 102_000_000, 5e9)] == [
        "999 B",
        "1.23 KB",
        "56.8 KB",
        "102 MB",
        "5.00 GB",
    ]
    assert [span(s) for s in (0.00012, 0.0456, 1.234, 12.34)] == [
        "0.12 ms",
        "46 ms",
        "1.23 s",
        "12.3 s",
    ]
