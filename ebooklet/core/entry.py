"""What the index says of one key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, cast

__all__ = ["Entry", "Place", "new_entry", "new_place"]


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


# As `_make` makes them, without its frame of Python, which shows where millions of keys pass: a
# quarter of the time of a full scan. The fields are neither counted nor checked.
new_entry: Final = cast("Callable[[Iterable[object]], Entry]", partial(tuple.__new__, Entry))
new_place: Final = cast("Callable[[Iterable[object]], Place]", partial(tuple.__new__, Place))
