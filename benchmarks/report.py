"""RESULTS.md of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from benchmarks import compare, local, startup
from benchmarks.figures import Figures
from benchmarks.measurements import Measurements, Sample, Steps, Where, middle
from benchmarks.roster import BOOKLET, LOCAL, OURS, REMOTE, Peer
from benchmarks.targets import counted, moved, reached
from benchmarks.words import size, span

PICTURE: Final = "scaling.png"
LOAD_BEFORE: Final = "load average before"
BUSY: Final = 2.5
SCALED: Final = (  # what is drawn: title, step, what of it
    ("full push: seconds", compare.WRITE_ALL, "seconds"),
    ("full push: bytes", compare.WRITE_ALL, "bytes"),
    ("change 10: seconds", compare.CHANGE, "seconds"),
    ("change 10: bytes", compare.CHANGE, "bytes"),
    ("open cold, 1 key: seconds", compare.ONE, "seconds"),
    ("open cold, 1 key: bytes", compare.ONE, "bytes"),
)


def markdown(results: Measurements) -> str:
    """The whole page."""
    return "\n".join(_page(results))


def _page(results: Measurements) -> Iterator[str]:
    yield "# Results\n"
    yield "Written by `make bench`; nothing on this page is typed in. [README.md](README.md) says what is done.\n"
    yield from (f"- {name}: {said}" for name, said in results.about.items())
    yield ""
    if float(results.about.get(LOAD_BEFORE, 0)) > BUSY:
        yield (
            "**Others were at work on this machine: requests and bytes hold, seconds and their "
            "ratios say little.** A run that counts begins on a quiet one.\n"
        )
    if results.missing:
        yield "**Not measured:**\n"
        yield from (f"- {peer}: {why}" for peer, why in results.missing.items())
        yield ""
    yield from _targets(results)
    yield from _who(results)
    for where in _remote(results):
        if len(results.samples[where]) > 1:
            yield from _comparison(results, where)
    yield from _scaling(results)
    yield from _probe(results)
    yield from _files(results)
    yield from _beginning(results)


def _targets(results: Measurements) -> Iterator[str]:
    lines = reached(results)
    rows = [
        [line.target, line.reached, {True: "yes", False: "**no**", None: ""}[line.met]]
        for line in lines
    ]
    yield f"## Targets: {counted(lines)}\n"
    yield _table(("target", "reached", "met"), rows)


def _who(results: Measurements) -> Iterator[str]:
    there = {peer for where in _remote(results) for peer in results.samples[where]}
    rows = [
        [
            peer.name,
            peer.about,
            "yes" if peer.atomic else "no",
            ", ".join(peer.requirements) or "this repository",
        ]
        for peer in REMOTE
        if peer.name in there
    ]
    yield "## Who is compared\n"
    yield _table(("peer", "what it is", "commits atomically", "of"), rows)


def _comparison(results: Measurements, where: Where) -> Iterator[str]:
    found = results.at(where)
    peers = [peer for peer in REMOTE if peer.name in found]
    yield (
        f"## {where.n_keys:,} keys × {results.value_bytes:,} B, "
        f"{where.latency_ms} ms of added latency\n"
    )
    yield "Seconds; and how many times as long as ours the fastest other atomic peer takes.\n"
    yield _steps(found, peers, compare.COMPARED, lambda s: f"{s.seconds:.3f}", best=True)
    yield "Requests (of these in a row) / bytes up / bytes down.\n"
    yield _steps(found, peers, compare.COMPARED, _traffic, best=False)
    own = [peer for peer in peers if peer.module == "ebooklet"]
    if own:
        yield "What only EBooklet has.\n"
        cell = lambda s: f"{s.seconds:.3f} s, {_traffic(s)}"  # noqa: E731 - one cell of one table
        yield _steps(found, own, compare.OWN, cell, best=False)
        yield from _parts(found, own)


def _probe(results: Measurements) -> Iterator[str]:
    samples = [
        sample
        for where in _remote(results)
        for sample in results.samples[where].get(OURS, {}).get(compare.PREPARE, [])
    ]
    if samples:
        first = max(samples, key=lambda sample: sample.requests)
        yield (
            f"A server is probed once in 30 days, not in the tables above: {first.requests} requests "
            f"to create the first database on it, {span(first.seconds)}.\n"
        )


def _traffic(sample: Sample) -> str:
    return f"{sample.requests:,} ({sample.in_a_row}) / {size(sample.up)} / {size(sample.down)}"


def _steps(
    found: Mapping[str, Steps],
    peers: Sequence[Peer],
    steps: Iterable[str],
    cell: Callable[[Sample], str],
    *,
    best: bool,
) -> str:
    rows = []
    for step in steps:
        cells = [cell(sample) if (sample := found[peer.name].get(step)) else "–" for peer in peers]
        rows.append([step, *cells, *([_times(found, step)] if best else [])])
    last = ["best atomic ÷ ours"] if best else []
    return _table(("step", *(peer.name for peer in peers), *last), rows)


def _times(found: Mapping[str, Steps], step: str) -> str:
    """How many times faster than the fastest other that commits atomically."""
    others = {
        peer.name: found[peer.name][step].seconds
        for peer in REMOTE
        if peer.is_rival and step in found.get(peer.name, {})
    }
    own = found.get(OURS, {}).get(step)
    if own is None or not others:
        return "–"
    fastest = min(others, key=lambda name: others[name])
    return f"{others[fastest] / own.seconds:.2f} ({fastest})"


def _parts(found: Mapping[str, Steps], peers: Sequence[Peer]) -> Iterator[str]:
    rows = [
        [
            f"{step}: {part}",
            *(
                span(parts[part]) if part in (parts := _parts_of(found, peer, step)) else "–"
                for peer in peers
            ),
        ]
        for step, parts_ in (
            (compare.WRITE_ALL, ("open", "fill", "push")),
            (compare.CHANGE, ("open", "push", "close")),
        )
        for part in parts_
    ]
    yield "Where their time goes.\n"
    yield _table(("step: part", *(peer.name for peer in peers)), rows)


def _parts_of(found: Mapping[str, Steps], peer: Peer, step: str) -> Mapping[str, float]:
    sample = found[peer.name].get(step)
    return sample.parts if sample else {}


def series(results: Measurements) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Of each panel of the picture the peers' points: keys, and seconds or bytes."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    scales = sorted(where for where in _remote(results) if not where.latency_ms)
    for title, step, what in SCALED:
        lines: dict[str, list[tuple[int, float]]] = {}
        for where in scales:
            for peer, steps in results.at(where).items():
                if sample := steps.get(step):
                    figure = sample.seconds if what == "seconds" else float(moved(sample))
                    lines.setdefault(peer, []).append((where.n_keys, figure))
        panels[title] = {peer: points for peer, points in lines.items() if len(points) > 1}
    return {title: lines for title, lines in panels.items() if lines}


def _scaling(results: Measurements) -> Iterator[str]:
    panels = series(results)
    if not panels:
        return
    yield "## Scaling\n"
    yield f"![seconds and bytes by the number of keys]({PICTURE})\n"
    scales = sorted({n for lines in panels.values() for line in lines.values() for n, _ in line})
    rows = []
    for title, lines in panels.items():
        told = span if title.endswith("seconds") else size
        for peer, points in lines.items():
            by_scale = dict(points)
            cells = [told(by_scale[n]) if n in by_scale else "–" for n in scales]
            rows.append([title, peer, *cells])
    yield _table(("step", "peer", *(f"{n:,} keys" for n in scales)), rows)


def _files(results: Measurements) -> Iterator[str]:
    for where in sorted(where for where in results.samples if where.local):
        found = results.at(where)
        peers = [peer for peer in LOCAL if peer.name in found]
        rows = []
        for step in local.STEPS:
            plain = found.get(BOOKLET, {}).get(step)
            cells = []
            for peer in peers:
                sample = found[peer.name].get(step)
                if sample is None or not sample.seconds:
                    cells.append("–")
                    continue
                beside = f" ({plain.seconds / sample.seconds:.2f})" if plain else ""
                cells.append(f"{where.n_keys / sample.seconds:,.0f}{beside}")
            rows.append([step, *cells])
        yield f"## Local files: {where.n_keys:,} keys, per second, and beside plain Booklet\n"
        yield _table(("step", *(peer.name for peer in peers)), rows)


def _beginning(results: Measurements) -> Iterator[str]:
    if not results.startup:
        return
    rows = [
        [f"`{command}`", span(middle([Sample(s) for s in spent]).seconds)]
        for command, spent in results.startup.items()
    ]
    yield f"## Beginning: the middle of {startup.ROUNDS} times\n"
    yield _table(("command", "whole"), rows)


def _remote(results: Measurements) -> list[Where]:
    return sorted(where for where in results.samples if not where.local)


def _table(columns: Sequence[str], rows: list[list[str]]) -> str:
    return Figures("", columns, rows).markdown().lstrip("\n")
