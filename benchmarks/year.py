"""A year of daily pushes on a simulated clock: what a bucket holds, and what a push costs.

Each day 1% of the keys get new values; once a week garbage is collected and the database compacted,
with the default history and grace. Everything is real but the network, which is in memory, and
time. Prints a table by month; `--write` also draws year.svg and writes RESULTS-year.md.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ebooklet
from benchmarks.chart import Chart, Series
from benchmarks.figures import Figures
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.testing.clock import ManualClock

HERE: Final = Path(__file__).parent
DAY_S: Final = 24 * 3600
WEEK: Final = 7
MONTH: Final = 30


@dataclass(frozen=True, slots=True)
class Day:
    """What was measured after a day's work."""

    stored: int  # bytes of all objects
    objects: int
    rows: int  # segments that the newest commit needs
    head: int  # bytes
    pushed: int  # bytes of the push's segments
    seconds: float  # of the push


class Year:
    """One database, and its days."""

    def __init__(self, n_keys: int, value_bytes: int, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._value_bytes = value_bytes
        self._clock = ManualClock()
        self._store = MemoryRemoteStore(now_ms=lambda: self._clock.now_us() // 1000)
        self._keys = [f"station/{n:06d}" for n in range(n_keys)]
        self._db: ebooklet.EBooklet[Any] = ebooklet.open(
            self._store,
            None,
            "c",
            "bytes",
            lock="optimistic",  # a lease would expire while days go by
            clock=self._clock,
        )

    def run(self, n_days: int) -> list[Day]:
        """Fill the database, and live for so many days."""
        db = self._db
        db.update((key, self._value()) for key in self._keys)
        db.push()
        days = []
        for number in range(1, n_days + 1):
            self._clock.advance(DAY_S)
            days.append(self._day())
            if number % WEEK == 0:
                self._maintain()
        report = db.fsck(check_objects=True)
        if not report.ok:
            raise RuntimeError(f"the database is not sound after all: {report}")
        db.close()
        return days

    def _value(self) -> bytes:
        return self._chance.randbytes(self._value_bytes)

    def _day(self) -> Day:
        db = self._db
        for key in self._chance.sample(self._keys, len(self._keys) // 100):
            db[key] = self._value()
        begin = time.perf_counter()
        result = db.push()
        seconds = time.perf_counter() - begin
        sizes = [meta.size for meta in self._store.list("db.d/")]
        base = db._copy.base  # noqa: SLF001 - there is no public way to count the rows
        return Day(
            stored=sum(sizes),
            objects=len(sizes),
            rows=0 if base is None else len(base.commit.segs),
            head=self._store.head("db").size,
            pushed=result.bytes_up,
            seconds=seconds,
        )

    def _maintain(self) -> None:
        while not self._db.compact().finished:
            pass
        report = self._db.gc()
        if not report:
            raise RuntimeError(f"nothing was collected: {report}")


def table(days: list[Day]) -> Figures:
    """The months."""
    figures = Figures(
        "A year of daily pushes of 1% of the keys; the last day of each month, pushes on average",
        ["day", "MB stored", "objects", "segments needed", "head KB", "push MB", "push s"],
    )
    for end in range(MONTH, len(days) + 1, MONTH):
        month, last = days[end - MONTH : end], days[end - 1]
        figures.rows.append(
            [
                str(end),
                f"{last.stored / 1e6:.0f}",
                str(last.objects),
                str(last.rows),
                f"{last.head / 1e3:.1f}",
                f"{sum(day.pushed for day in month) / len(month) / 1e6:.2f}",
                f"{sum(day.seconds for day in month) / len(month):.2f}",
            ]
        )
    return figures


def charts(days: list[Day]) -> Chart:
    """The days."""
    return Chart(
        "A year of daily pushes of 1% of the keys, collected and compacted weekly",
        [
            Series("stored, MB", [day.stored / 1e6 for day in days]),
            Series("objects", [float(day.objects) for day in days]),
            Series("segments that the newest commit needs", [float(day.rows) for day in days]),
            Series("head, KB", [day.head / 1e3 for day in days]),
            Series("uploaded by the push, MB", [day.pushed / 1e6 for day in days]),
            Series("seconds of the push", [day.seconds for day in days]),
        ],
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--write", action="store_true", help="year.svg and RESULTS-year.md")
    given = parser.parse_args()
    days = Year(given.keys, given.value_bytes).run(given.days)
    figures = table(days)
    figures.show()
    if given.write:
        (HERE / "year.svg").write_text(charts(days).svg(), encoding="utf-8")
        text = (
            f"# A year\n\n{given.keys} keys of {given.value_bytes} bytes, {given.days} days, "
            "history of 10 commits and 30 days, grace of 7 days.\n\n![](year.svg)\n\n"
        )
        (HERE / "RESULTS-year.md").write_text(text + figures.markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
