"""The long run: many days of pushes, collected and compacted, cost no more than the first ones."""

from __future__ import annotations

import random
from datetime import timedelta

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.testing.clock import ManualClock
from tests.services.test_collecting import DAY_S, head_of, whole, writer

DAYS = 84
SETTLED = 35  # days; what is retained and its grace are 21


def test_what_is_kept_stays_bounded() -> None:
    """Objects, bytes, the table of segments, the head and the bytes of pushes stay where they are.

    Fails without: collecting; compacting and merging, of which either does at this size.
    """
    clock = ManualClock()
    store = MemoryRemoteStore(now_ms=lambda: clock.now_us() // 1000)
    chance = random.Random(3)
    days: list[tuple[int, int, int, int]] = []
    pushed: list[int] = []
    with writer(store, clock, history=timedelta(days=14)) as db:
        db.update({f"k{n:04}": chance.randbytes(150).hex() for n in range(400)})
        db.push()
        for day in range(1, DAYS):
            clock.advance(DAY_S)
            for n in chance.sample(range(400), 4):
                db[f"k{n:04}"] = chance.randbytes(150).hex()
            pushed.append(db.push().bytes_up)
            sizes = [meta.size for meta in store.list("db.d/")]
            rows = len(head_of(store).tip.segs)
            days.append((len(sizes), sum(sizes), rows, store.head("db").size))
            if day % 7 == 0:
                db.compact()
                assert db.gc()
        content = dict(db.items())
    assert whole(store, clock) == content
    middle = (SETTLED + DAYS) // 2
    for early, late in zip(
        zip(*days[SETTLED:middle], strict=True), zip(*days[middle:], strict=True), strict=True
    ):
        assert max(late) <= 1.25 * max(early)
    assert max(rows for _, _, rows, _ in days) <= 32
    # A push that merges is a peak, so that it is the sum that counts.
    assert sum(pushed[middle:]) <= 1.25 * sum(pushed[SETTLED:middle])
