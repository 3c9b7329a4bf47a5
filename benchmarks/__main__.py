"""`make bench`: every peer side by side on one server, and what EBooklet is to reach beside what it does.

    python -m benchmarks [--keys N] [--large N] [--latencies 0,20] [--peers NAME,…] [--to FOLDER]

Writes RESULTS.md and scaling.png. What was measured is kept in `.bench/last.json` of the repository;
`--again` writes the page from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import ebooklet
from benchmarks import compare, local, report, startup
from benchmarks.measurements import Measurements, Where
from benchmarks.roster import (
    EXISTING,
    HERE,
    LOCAL,
    OURS,
    PLOTTING,
    RAW,
    REMOTE,
    CannotInstall,
    Peer,
    python_of,
)
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import start_seaweedfs

KEPT: Final = HERE.parent / ".bench"
SCALED: Final = (OURS, EXISTING, "icechunk", "lance", RAW)  # at a tenth of the keys as well
LARGE: Final = (OURS, EXISTING, "lance", RAW)  # at ten times; icechunk takes minutes there


def main() -> None:
    """Measure, print, write."""
    options = _options()
    KEPT.mkdir(exist_ok=True)
    kept = KEPT / "last.json"
    if options.again:
        results = Measurements.load(kept)
    else:
        results = Measurements(options.value_bytes, _about())
        for peer in _left_out(options):
            results.missing[peer] = "left out by `--peers`"
        began = time.monotonic()
        for _ in _measure(results, options):
            results.save(kept)
        results.about["took"] = f"{(time.monotonic() - began) / 60:.1f} minutes"
        results.about["load average afterwards"] = _load()
        results.save(kept)
    options.to.mkdir(parents=True, exist_ok=True)
    _draw(results, options.to / report.PICTURE)
    page = report.markdown(results)
    (options.to / "RESULTS.md").write_text(page, encoding="utf-8")
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000, help="for all peers")
    parser.add_argument("--large", type=int, default=100_000, help="for few of them; 0: not")
    parser.add_argument("--value-bytes", type=int, default=1_000)
    parser.add_argument("--latencies", default="0,20", help="ms added to every request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=10, help="seconds: longer lives, once")
    parser.add_argument("--peers", default="", help="names with commas between them, if not all")
    parser.add_argument("--local-keys", type=int, default=50_000)
    parser.add_argument("--to", type=Path, default=HERE, help="folder of RESULTS.md")
    parser.add_argument("--again", action="store_true", help="no run: the page of the last one")
    return parser.parse_args()


def _measure(results: Measurements, options: argparse.Namespace) -> Iterator[None]:
    """One part after the other; each has left its samples when it yields."""
    startup.measure(results)
    local.measure(results, LOCAL, options.local_keys, options.rounds)
    yield
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        start_seaweedfs(Path(folder) / "server") as server,
        CountingProxy(server.endpoint_url) as proxy,
    ):
        comparison = compare.Comparison(server, proxy, results, Path(folder) / "cache")
        for stage in _stages(options):
            comparison.run(stage, options.patience)
            yield


def _left_out(options: argparse.Namespace) -> list[str]:
    everybody = [peer.name for peer in REMOTE]
    wanted = options.peers.split(",") if options.peers else everybody
    if unknown := set(wanted).difference(everybody):
        raise SystemExit(f"no peer is named {' or '.join(sorted(unknown))}")
    return [name for name in everybody if name not in wanted]


def _stages(options: argparse.Namespace) -> Iterator[compare.Stage]:
    left_out = _left_out(options)
    peers = [peer for peer in REMOTE if peer.name not in left_out]
    for latency_ms in map(int, options.latencies.split(",")):
        yield compare.Stage(Where(options.keys, latency_ms), peers, options.rounds)
    yield compare.Stage(Where(options.keys // 10), _named(peers, SCALED), options.rounds)
    if options.large:
        yield compare.Stage(Where(options.large), _named(peers, LARGE), options.rounds)


def _named(peers: Sequence[Peer], names: Sequence[str]) -> list[Peer]:
    return [peer for peer in peers if peer.name in names]


def _about() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "-C", HERE, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "what": f"EBooklet {ebooklet.__version__}" + (f", commit {commit}" if commit else ""),
        "where": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()};"
        " SeaweedFS on loopback behind the counting proxy, all on the same machine",
        report.LOAD_BEFORE: _load(),
    }


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _draw(results: Measurements, path: Path) -> None:
    panels = report.series(results)
    if not panels:
        return
    try:
        python = python_of(PLOTTING)
    except CannotInstall as error:
        results.missing["the picture"] = str(error)
        return
    script = HERE / "plot.py"
    subprocess.run([python, script, path], input=json.dumps(panels), text=True, check=True)


if __name__ == "__main__":
    main()
