"""What the index says of one key."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a value's stored bytes lie in the bucket."""

    sid: bytes  # 16 bytes
    offset: int
    length: int  # stored bytes


class Entry(NamedTuple):
    """One key of the index. Exactly one of `inline` and `place` is set."""

    key: str
    length: int  # bytes of the serialised value
    digest: bytes  # value digest, 16 bytes
    timestamp: int  # µs since the Unix epoch
    inline: bytes | None
    place: Place | None
