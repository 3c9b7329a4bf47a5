"""What is to be reached (DESIGN §1, issue 8), beside what a run reached: computed, never typed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import compare, local, startup
from benchmarks.measurements import Measurements, Sample, Where, middle
from benchmarks.roster import BOOKLET, EXISTING, OPTIMISTIC, OURS, RAW, REMOTE
from benchmarks.words import size, span

LMDB_HALF: Final = "ebooklet (lmdb)"
NOT_MEASURED: Final = "not measured in this run"
LATENCY_MS: Final = 20
WRITES: Final = (compare.WRITE_ALL, compare.CHANGE)
# Of what a push of so many changes writes besides the values (FORMAT §3), at a million keys.
INDEX_BYTES: Final = {1: 16_500, 10: 145_000, 1000: 4_000_000}


@dataclass(frozen=True)
class Reached:
    """One line of the table."""

    target: str
    reached: str = NOT_MEASURED
    met: bool | None = None  # None: not measured


class Missing(Exception):
    """A figure that this target needs was not measured."""


class _Figures:
    """Look-ups that give up where there is nothing."""

    def __init__(self, results: Measurements) -> None:
        self.results = results
        near = [where for where in results.samples if not where.local and not where.latency_ms]
        far = [where for where in results.samples if where.latency_ms == LATENCY_MS]
        with_ours = [where for where in near if OURS in results.samples[where]]
        compared = [where for where in near if len(results.samples[where]) > len(REMOTE) // 2]
        nowhere = Where(0)
        self.large = max(with_ours, default=nowhere)
        self.near = max(compared, default=self.large)
        self.far = max(far, default=nowhere)
        self.files = max((where for where in results.samples if where.local), default=nowhere)

    def get(self, where: Where, step: str, peer: str = OURS) -> Sample:
        sample = self.results.get(where, peer, step)
        if sample is None:
            raise Missing
        return sample

    def part(self, where: Where, step: str, part: str, peer: str = OURS) -> float:
        return self.get(where, step, peer).parts[part]

    def rate(self, step: str, peer: str = OURS) -> float:
        """Keys a second on local files."""
        return self.files.n_keys / self.get(self.files, step, peer).seconds

    def over_bare(self, command: str) -> float:
        """Seconds of a command over those of a bare interpreter."""
        spent = self.results.startup
        if command not in spent:
            raise Missing
        bare, own = (middle([Sample(s) for s in spent[c]]) for c in (startup.BARE, command))
        return own.seconds - bare.seconds

    def others(self, where: Where, step: str, *, whole: bool) -> dict[str, Sample]:
        """Peers that commit atomically, ours apart; with those that move everything or without."""
        found = {}
        for peer in REMOTE:
            sample = self.results.get(where, peer.name, step)
            if sample and peer.is_rival and (whole or not peer.whole):
                found[peer.name] = sample
        return found


Judge = Callable[[_Figures], tuple[str, bool]]


def reached(results: Measurements) -> list[Reached]:
    """All targets, in the order of DESIGN §1 and then of the issue."""
    figures = _Figures(results)
    return [_line(target, judge, figures) for target, judge in _targets(figures)]


def _line(target: str, judge: Judge, figures: _Figures) -> Reached:
    try:
        return Reached(target, *judge(figures))
    except Missing:
        return Reached(target)


def _targets(figures: _Figures) -> Iterator[tuple[str, Judge]]:
    many, some = f"{figures.large.n_keys:,} keys", f"{figures.near.n_keys:,} keys"
    yield from _of_design(many)
    yield from _of_pushes(many, some)
    yield from ((_ahead_title(step, some), _ahead(step)) for step in compare.COMPARED)
    yield from _of_latency(some)
    yield from _of_files()


def _of_design(many: str) -> Iterator[tuple[str, Judge]]:
    def push(f: _Figures) -> tuple[str, bool]:
        s = f.get(f.large, compare.CHANGE)
        met = s.up <= 250_000 and s.requests <= 6 and s.seconds <= 0.3
        return f"{size(s.up)}, {s.requests} requests, {span(s.seconds)}", met

    def cold(f: _Figures) -> tuple[str, bool]:
        s = f.get(f.large, compare.ONE)
        return f"{size(s.down)}, {s.requests} requests", s.down <= 40_000 and s.requests <= 4

    def full_push(f: _Figures) -> tuple[str, bool]:
        times = f.part(f.large, compare.WRITE_ALL, "push", EXISTING) / f.part(
            f.large, compare.WRITE_ALL, "push"
        )
        return f"{times:.1f} ×", times >= 6

    def up(f: _Figures) -> tuple[str, bool]:
        values = f.large.n_keys * f.results.value_bytes
        s = f.get(f.large, compare.WRITE_ALL)
        return f"{s.up / values:.3f} × the values", s.up <= 1.05 * values + 30 * f.large.n_keys

    def full_load(f: _Figures) -> tuple[str, bool]:
        times = (
            f.get(f.large, compare.LOAD_ALL, EXISTING).seconds
            / f.get(f.large, compare.LOAD_ALL).seconds
        )
        return f"{times:.1f} ×", times >= 3

    def down(f: _Figures) -> tuple[str, bool]:
        stored = sum(f.get(f.large, step).up for step in (compare.WRITE_ALL, compare.CHANGE))
        ratio = f.get(f.large, compare.LOAD_ALL).down / stored
        return f"{ratio:.3f} × what was uploaded", ratio <= 1.05

    def changes(f: _Figures) -> tuple[str, bool]:
        spent = [f.get(f.large, step).seconds for step in (compare.NO_CHANGES, compare.CHANGES)]
        return " and ".join(map(span, spent)), max(spent) <= 0.02

    def warm(f: _Figures) -> tuple[str, bool]:
        ratios = [f.rate(step) / f.rate(step, BOOKLET) for step in (local.GET, local.SET)]
        return f"get {ratios[0]:.2f} ×, set {ratios[1]:.2f} ×", min(ratios) >= 0.9

    def keys(f: _Figures) -> tuple[str, bool]:
        rate = f.large.n_keys / f.get(f.large, compare.LIST_AGAIN).seconds
        return f"{rate:,.0f} /s", rate >= 1e6

    def importing(f: _Figures) -> tuple[str, bool]:
        spent = f.over_bare(startup.IMPORT)
        return span(spent), spent <= 0.06

    def helping(f: _Figures) -> tuple[str, bool]:
        spent = f.over_bare(startup.HELP) + _bare(f)
        return span(spent), spent <= 0.25

    session = "session and lock included"
    yield f"change 10 of {many}, {session}: ≤ 250 KB up, ≤ 6 requests, ≤ 0.3 s", push
    yield f"cold open and one key of {many}: ≤ 40 KB, ≤ 4 requests", cold
    yield f"push of all {many}: ≥ 6 × faster than {EXISTING}", full_push
    yield "its uploads: ≤ 1.05 × the values + 30 B a key", up
    yield f"`load_items()` of all {many}: ≥ 3 × faster than {EXISTING}", full_load
    yield "its downloads: ≤ 1.05 × the bytes stored", down
    yield f"`changes()` of {many} with none and with 10: ≤ 20 ms", changes
    yield "warm get and set: ≥ 0.9 × plain Booklet", warm
    yield f"`keys()` of {many}, the index read before: ≥ 1M/s", keys
    yield "`import ebooklet`: ≤ 60 ms over bare Python", importing
    yield "`ebooklet --help`: ≤ 250 ms", helping


def _bare(f: _Figures) -> float:
    return middle([Sample(s) for s in f.results.startup[startup.BARE]]).seconds


def _of_pushes(many: str, some: str) -> Iterator[tuple[str, Judge]]:
    def push(n: int) -> Judge:
        def judge(f: _Figures) -> tuple[str, bool]:
            s = f.get(f.large, compare.PUSH[n])
            bound = n * f.results.value_bytes + INDEX_BYTES[n]
            return f"{s.requests} requests, {size(s.up)}", s.requests <= 3 and s.up <= bound

        return judge

    def wall(n: int) -> Judge:
        def judge(f: _Figures) -> tuple[str, bool]:
            s = f.get(f.far, compare.PUSH[n])
            # A round trip is what a small PUT by boto3 takes there, not the latency alone.
            trip = f.get(f.far, compare.PUSH[1], RAW).seconds
            raw = f.get(f.far, compare.PUSH[n], RAW)
            moving = max(raw.seconds - trip, 0.0) * s.up / raw.up
            bound = 2 * trip + moving
            told = f"2 × {span(trip)}, a PUT of one value, + {span(moving)} to move the rest"
            return f"{span(s.seconds)}, {span(bound)} allowed: {told}", s.seconds <= bound

        return judge

    def beside_raw(step: str, part: str, files: str) -> Judge:
        def judge(f: _Figures) -> tuple[str, bool]:
            own = f.get(f.large, step)
            ours = own.parts[part] if part else own.seconds
            moved = f.get(f.large, compare.READ_ALL if not part else step, RAW).seconds
            ratio = (moved + f.large.n_keys / f.rate(files, BOOKLET)) / ours
            return f"{ratio:.2f} ×", ratio >= 0.7

        return judge

    for n in compare.PUSH:
        bytes_ = f"{n:,} × value + {size(INDEX_BYTES[n])}"
        yield f"push of {n:,} of {many}, open: ≤ 3 requests, ≤ {bytes_} up", push(n)
    for n in compare.PUSH:
        yield (
            f"push of {n:,} of {some} at {LATENCY_MS} ms, open: ≤ 2 round trips + transfer",
            wall(n),
        )
    raw = "≥ 0.7 × the speed of one raw object and"
    yield (
        f"push of all {many}: {raw} of reading the local Booklet",
        beside_raw(compare.WRITE_ALL, "push", local.ALL),
    )
    yield (
        f"`load_items()` of all {many}: {raw} of writing the local Booklet",
        beside_raw(compare.LOAD_ALL, "", local.BULK),
    )


def _ahead_title(step: str, some: str) -> str:
    seconds = (
        "≤ 2 × the seconds of the fastest"
        if step in (compare.WRITE_ALL, compare.READ_ALL)
        else "in seconds"
    )
    return f"{step} of {some}: ahead of every atomic peer in requests, in bytes, {seconds}"


def _ahead(step: str) -> Judge:
    def judge(f: _Figures) -> tuple[str, bool]:
        own = f.get(f.near, step)
        # Others that commit take no lock: requests are compared with those of our way to do so.
        free = f.results.get(f.near, OPTIMISTIC, step) if step in WRITES else None
        requests = own.requests if free is None else free.requests
        without = "" if free is None else f", {requests} without a lock"
        others = f.others(f.near, step, whole=True)
        # A file that is moved whole takes one request for everything: nobody is ahead of that.
        partial = f.others(f.near, step, whole=False)
        if not others or not partial:
            raise Missing
        fastest = min(others, key=lambda name: others[name].seconds)
        fewest = min(partial, key=lambda name: partial[name].requests)
        least = min(others, key=lambda name: moved(others[name]))
        slack = 2 if step in (compare.WRITE_ALL, compare.READ_ALL) else 1
        parts = (
            (
                f"{own.requests} requests{without} ({fewest} {partial[fewest].requests})",
                requests <= partial[fewest].requests,
            ),
            (
                f"{size(moved(own))} ({least} {size(moved(others[least]))})",
                moved(own) <= moved(others[least]),
            ),
            (
                f"{span(own.seconds)} ({fastest} {span(others[fastest].seconds)})",
                own.seconds <= slack * others[fastest].seconds,
            ),
        )
        behind = [words.split(" (")[0] for words, met in parts if not met]
        told = ", ".join(words for words, _ in parts)
        return told + (f": behind with {' and '.join(behind)}" if behind else ""), not behind

    return judge


def moved(sample: Sample) -> int:
    """Bytes, both ways."""
    return sample.up + sample.down


def _of_latency(some: str) -> Iterator[tuple[str, Judge]]:
    def within(step: str, seconds: float) -> Judge:
        def judge(f: _Figures) -> tuple[str, bool]:
            s = f.get(f.far, step)
            return span(s.seconds), s.seconds <= seconds

        return judge

    def in_a_row(step: str, most: int) -> Judge:
        def judge(f: _Figures) -> tuple[str, bool]:
            # With latency, those that overlap are seen to overlap.
            s = f.get(f.far, step)
            return str(s.in_a_row), s.in_a_row <= most

        return judge

    def thousand(f: _Figures) -> tuple[str, bool]:
        s = f.get(f.far, compare.THOUSAND)
        others = [
            sample.seconds
            for peer in REMOTE
            if peer.module != "ebooklet"
            and (sample := f.results.get(f.far, peer.name, compare.THOUSAND))
        ]
        if not others:
            raise Missing
        best = min(others)
        return f"{span(s.seconds)}, the best peer {span(best)}", s.seconds <= min(0.25, best)

    def near(f: _Figures) -> tuple[str, bool]:
        s = f.get(f.near, compare.NEAR)
        return f"{s.requests} requests", s.requests <= 6

    at = f"of {some} at {LATENCY_MS} ms"
    for step, seconds in ((compare.CHANGE, 0.2), (compare.ONE, 0.1), (compare.HUNDRED, 0.15)):
        yield f"{step} {at}: ≤ {seconds} s", within(step, seconds)
    yield f"{compare.CHANGE} of {some}, session and lock: ≤ 4 in a row", in_a_row(compare.CHANGE, 4)
    yield f"{compare.ONE} of {some}: ≤ 3 in a row", in_a_row(compare.ONE, 3)
    yield f"{compare.HUNDRED} of {some}: ≤ 3 rounds, and the open", in_a_row(compare.HUNDRED, 4)
    yield f"{compare.THOUSAND} {at}: ≤ 0.25 s, ahead of every peer", thousand
    yield f"{compare.NEAR} of {some}: ≤ 6 requests", near


def _of_files() -> Iterator[tuple[str, Judge]]:
    def rate(step: str, least: float) -> Judge:
        def judge(f: _Figures) -> tuple[str, bool]:
            found = f.rate(step, LMDB_HALF)
            return f"{found:,.0f} /s", found >= least

        return judge

    yield "`local='lmdb'`, get: ≥ 300,000 /s", rate(local.GET, 300_000)
    yield "`local='lmdb'`, bulk set: ≥ 200,000 /s", rate(local.BULK, 200_000)


def counted(lines: Sequence[Reached]) -> str:
    """How many of them."""
    met = sum(line.met is True for line in lines)
    known = sum(line.met is not None for line in lines)
    return f"{met} of {known} reached, {len(lines) - known} not measured"
