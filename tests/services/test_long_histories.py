"""Histories so long that the tree of their older rows has nodes above its leaves (FORMAT 10.18)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import pytest

import ebooklet
from ebooklet import Encryption
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import Head, decode_head
from ebooklet.ports.remote_store import StoredObject
from ebooklet.services.log import find_row, log_params, older_rows, row_of
from ebooklet.services.nodes import NodeReader
from ebooklet.testing.clock import ManualClock

HALF_AN_HOUR_S: Final = 1800


class Length(NamedTuple):
    """So many commits, and what must not grow with them."""

    commits: int
    tags: int
    keys: int
    head: int  # bytes
    segments: int  # that the newest commit and the log need
    gets: int  # of a lookup in the log
    looked_every: int  # commits
    maintained_every: int


HUNDREDS: Final = Length(300, 10, 40, 10 * 1024, 16, 3, 7, 70)
THOUSANDS: Final = Length(20_000, 500, 200, 64 * 1024, 256, 4, 37, 336)


class Measured(MemoryRemoteStore):
    """Counts what is read, and watches what becomes of the head."""

    def __init__(self, clock: ManualClock, length: Length) -> None:
        super().__init__(now_ms=lambda: clock.now_us() // 1000)
        self.gets = 0
        self.length = length

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """Count it."""
        self.gets += 1
        return super().get(key, start=start, stop=stop)

    def check_head(self) -> Head:
        """The head, which is to be within its bounds whenever somebody looks."""
        data = MemoryRemoteStore.get(self, "db").body
        head = decode_head(data, key="db")
        assert len(data) <= self.length.head
        assert len({*head.hsegs, *(row.sid for row in head.tip.segs)}) <= self.length.segments
        return head


@pytest.mark.parametrize(
    ("length", "history", "encryption"),
    [
        (HUNDREDS, "all", None),
        (HUNDREDS, timedelta(days=1), Encryption({"a": b"k" * 32}, "a")),
        pytest.param(THOUSANDS, "all", None, marks=pytest.mark.large),
        pytest.param(THOUSANDS, timedelta(days=30), None, marks=pytest.mark.large),
    ],
    ids=[
        "hundreds",
        "hundreds, retained for a day",
        "thousands",
        "thousands, retained for a month",
    ],
)
@pytest.mark.timeout(1800)
def test_bounds_of_a_long_history(
    length: Length, history: timedelta | Literal["all"], encryption: Encryption | None
) -> None:
    """FORMAT 10.18: after each of 20,000 commits with 500 tags the head has at most 64 KiB.

    It names at most 256 live segments, and a lookup in the log takes at most 4 GETs; so too where
    old commits are let go. `make test` has 300 commits, with bounds for these.

    Fails without: the rows that go from the head to the log; merging the segments of a crowded
    tier; following the log by one path of its nodes.
    """
    clock = ManualClock()
    store = Measured(clock, length)
    options: dict[str, Any] = {"encryption": encryption, "clock": clock, "lock": "optimistic"}
    with ebooklet.open(store, None, "c", "json", history=history, **options) as db:
        db.update({f"key/{n:04}": "v" * 100 for n in range(length.keys)})
        assert db.push()
        for n in range(1, length.commits):
            clock.advance(HALF_AN_HOUR_S)
            db[f"key/{n * 7919 % length.keys:04}"] = f"{n}" * 30
            assert db.push()
            if n % (length.commits // length.tags) == 0:
                db.tag(f"v1.{n}", message="released")
            if history != "all" and n % length.maintained_every == 0:
                db.compact()
                assert db.gc()
            if n % length.looked_every == 0:
                store.check_head()
        head = store.check_head()
        assert len(head.tags) == length.tags - 1
    look_up(store, head, {"encryption": encryption, "clock": clock})
    with ebooklet.open(store, None, "w", **options) as db:
        db["more"] = 1
        assert db.push()
        report = db.fsck(check_objects=length is HUNDREDS)
        assert report.ok
        assert (report.n_commits == length.commits + 1) == (history == "all")


def look_up(store: Measured, head: Head, options: Mapping[str, Any]) -> None:
    """Find writes in the log, as those do who have read nothing yet."""
    assert head.log is not None
    assert head.log.level > 0
    rows = list(older_rows(log_reader(store, head), head))
    assert len(rows) == head.log.count
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        for find in (row_of, partial(find_row, write_id=row.write_id)):
            store.gets = 1  # the head
            assert find(log_reader(store, head), head, row.seq) == row
            assert store.gets <= store.length.gets
        if row.seq < head.branch.oldest_seq:
            continue
        store.gets = 0
        with ebooklet.open(store, version=row.seq, **options):
            assert store.gets <= THOUSANDS.gets


def log_reader(store: Measured, head: Head) -> NodeReader:
    """One that has read nothing yet."""
    reader = NodeReader(store, "db")
    reader.params = log_params(head.params)
    return reader
