"""A remote object as a file."""

from __future__ import annotations

import os
import random

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError
from ebooklet.services import ranged
from ebooklet.services.ranged import RangedReader
from ebooklet.testing.faulty import FaultyRemoteStore

BODY = random.Random(0).randbytes(1000)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FaultyRemoteStore:
    monkeypatch.setattr(ranged, "_READ_AHEAD", 64)
    store = FaultyRemoteStore(MemoryRemoteStore())
    store.put("k", BODY)
    store.calls.clear()
    return store


def test_it_reads_as_the_bytes_do(store: FaultyRemoteStore) -> None:
    """Any sequence of seeks and reads, small and large, gives what a file would."""
    reader = RangedReader(store, "k", len(BODY))
    chance = random.Random(1)
    at = 0
    for _ in range(300):
        if chance.random() < 0.4:
            at = chance.randrange(-5, 1010)
            assert reader.seek(at) == min(max(at, 0), 1000)
            at = min(max(at, 0), 1000)
        size = chance.choice((0, 1, 7, 63, 64, 65, 300, 2000))
        assert reader.read(size) == BODY[at : at + size]
        at = min(at + size, 1000)
        assert reader.tell() == at
    assert reader.seek(-10, os.SEEK_END) == 990
    assert reader.seek(-10, os.SEEK_CUR) == 980
    assert reader.read() == BODY[980:]
    assert reader.read() == b""
    assert reader.readable()
    assert reader.seekable()


def test_small_reads_share_requests(store: FaultyRemoteStore) -> None:
    """Read in pieces of ten bytes, it asks once for every 64; a large read is one request."""
    reader = RangedReader(store, "k", len(BODY))
    assert b"".join(iter(lambda: reader.read(10), b"")) == BODY
    assert len(store.calls) <= 1000 // 60 + 1
    store.calls.clear()
    reader.seek(0)
    assert reader.read() == BODY
    assert len(store.calls) == 1


def test_another_size_is_damage(store: FaultyRemoteStore) -> None:
    """An object that is longer or shorter than it has to be is not read."""
    for size in (999, 1001):
        for count in (1, 500, -1):
            with pytest.raises(RemoteIntegrityError, match=f"instead of {size}"):
                RangedReader(store, "k", size).read(count)
    with pytest.raises(ObjectNotFound):
        RangedReader(store, "absent", 5).read()
    assert RangedReader(store, "absent", 0).read() == b""
