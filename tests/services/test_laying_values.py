"""Values are laid down many at a time, where single ones would have been, and little is kept of each."""

from __future__ import annotations

import random
import tracemalloc
from itertools import count
from uuid import UUID

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.services import upload
from ebooklet.services.upload import SegmentUploader


def _uploader(remote: MemoryRemoteStore) -> SegmentUploader:
    sids = count(1)
    return SegmentUploader(
        remote,
        "db",
        uuid=UUID(int=1),
        write_id=bytes(16),
        mint=lambda: next(sids).to_bytes(16, "big"),
    )


def test_many_values_lie_where_single_ones_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at the same places, with nodes in between and values that stand alone: equal bytes."""
    monkeypatch.setattr(upload, "_FIRST_CUT", 4_000)
    monkeypatch.setattr(upload, "_LARGE", 6_000)
    chance = random.Random(1)
    batches = [
        [
            chance.randbytes(chance.choice((0, 1, 300, 900, 3_999, 4_001, 7_000)))
            for _ in range(chance.randrange(30))
        ]
        for _ in range(20)
    ]
    one, many = MemoryRemoteStore(), MemoryRemoteStore()
    singly, together = _uploader(one), _uploader(many)
    for batch in batches:
        assert together.add_values(batch) == [singly.add_value(value) for value in batch]
        assert together.add_node(b"a node") == singly.add_node(b"a node")
    for uploader in (singly, together):
        uploader.finish()
        uploader.close()
    bodies = [
        {meta.key: store.get(meta.key).body for meta in store.list("")} for store in (one, many)
    ]
    assert len(bodies[0]) > 20
    assert bodies[0] == bodies[1]


def test_a_push_keeps_little_of_each_key() -> None:
    """A key takes less than 300 bytes of memory while it is pushed, beside the segments."""
    n, size = 10_000, 70
    with open_database("memory://little", None, "c", value_serializer="bytes") as db:
        db["k"] = b""
        db.push()
        db.update({f"k{number:06}": bytes([number % 251]) * size for number in range(n)})
        tracemalloc.start()
        try:
            db.push()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < (300 + 2 * size) * n
