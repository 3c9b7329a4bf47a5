"""Zstd frames of others, hostile ones, and ours that compress too well."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest
import zstandard

from ebooklet.core import serialization
from ebooklet.core.serialization import inflated_limit
from ebooklet.errors import SerializationError
from ebooklet.serializers.raw import BYTES
from ebooklet.serializers.zstd import ZstdSerializer

ZSTD = ZstdSerializer(BYTES)
MIB = 1 << 20


def frame_claiming(size: int) -> bytes:
    """A frame header that claims `size` bytes, followed by one empty last block."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


@pytest.mark.parametrize("size", [0, 1, 100, 100_000, 3 * MIB])
def test_frames_without_content_size_are_read(size: int) -> None:
    """Streaming writers leave the size out; such frames are read all the same."""
    plain = bytes(size)
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    assert ZSTD.loads(frame) == plain


@pytest.mark.parametrize("with_size", [True, False])
def test_truncated_frames_are_refused(with_size: bool) -> None:
    """A frame cut short raises, and never gives a short value."""
    plain = bytes(range(256)) * 40
    frame = zstandard.ZstdCompressor(write_content_size=with_size).compress(plain)
    for cut in range(0, len(frame), 7):
        with pytest.raises(SerializationError):
            ZSTD.loads(frame[:cut])


@pytest.mark.parametrize("claim", [1 << 62, 1 << 40, 256 * MIB])
def test_a_claimed_size_allocates_nothing(claim: int) -> None:
    """A frame that claims more than the limit is refused before anything is allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError, match="claims"):
            ZSTD.loads(frame_claiming(claim))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_bomb_without_content_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small frame that truly inflates beyond the limit stops at the limit."""
    monkeypatch.setattr(serialization, "FREE_INFLATION", 64 << 10)
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(8 * MIB))
    assert inflated_limit(len(bomb)) < 8 * MIB
    with pytest.raises(SerializationError):
        ZSTD.loads(bomb)


def test_what_compresses_too_well_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value beyond the largest ratio is stored padded: we, Booklet and zstd all read it."""
    monkeypatch.setattr(serialization, "FREE_INFLATION", 64 << 10)
    plain = bytes(8 * MIB)
    stored = ZSTD.dumps(plain)
    assert len(plain) <= inflated_limit(len(stored))
    assert len(stored) <= len(plain) // 1000
    assert ZSTD.loads(stored) == plain
    assert zstandard.decompress(stored) == plain


def test_it_pickles_for_worker_processes() -> None:
    """A wrapped serializer travels to other processes."""
    again = pickle.loads(pickle.dumps(ZSTD))
    assert again.loads(ZSTD.dumps(b"value")) == b"value"
