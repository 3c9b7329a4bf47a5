"""Which segments are laid down anew so that few are left (FORMAT §4, §8). Ranks, and frees nothing.

A segment's tier is that of its live bytes, which are what moving it costs: each tier reaches eight
times as far as the one below. Live bytes are counters, and no more than ranking rests on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from ebooklet.core.commit import SegmentRow

__all__ = [
    "EXTRA_BYTES",
    "TIER_ROWS",
    "crowded",
    "is_bloated",
    "is_worthwhile",
    "tier",
    "victims",
    "worth_reading",
]

TIER_ROWS: Final = 8  # a tier with more is crowded
EXTRA_BYTES: Final = 4 * 1024 * 1024  # that a commit may add by minor compaction
_LOWEST_TIER: Final = 4  # everything below 32 KiB is one
_ENTRY_BYTES: Final = 24  # of the index, on average
_FULL_TABLE: Final = 192  # rows, from which on a large index is read too
_LARGE_INDEX_BYTES: Final = 64 * 1024 * 1024
_LARGE_ROW_BYTES: Final = 16 * 1024 * 1024  # live, from which on a segment is large enough
_BLOATED_BYTES: Final = 64 * 1024 * 1024
_SMALL_GAIN_BYTES: Final = 8 * 1024  # what a commit of one segment may cost beside what it moves


def tier(n_bytes: int) -> int:
    """The tier of so many bytes.

    >>> tier(1_000), tier(40_000), tier(300_000)
    (4, 5, 6)
    """
    return max(_LOWEST_TIER, (n_bytes.bit_length() - 1) // 3)


def crowded(rows: Iterable[SegmentRow], *, max_bytes: int) -> list[bytes]:
    """The segments to compact: those of crowded tiers, the cheapest first.

    Args:
        rows: of a snapshot's table.
        max_bytes: live bytes that may be moved in all.

    Returns:
        Sids, two or more, or none.
    """
    tiers: defaultdict[int, list[SegmentRow]] = defaultdict(list)
    for row in rows:
        if row.live < _LARGE_ROW_BYTES:
            tiers[tier(row.live)].append(row)
    chosen: list[bytes] = []
    for _, members in sorted(tiers.items()):
        if len(members) <= TIER_ROWS:
            continue
        for row in sorted(members, key=lambda row: (row.live, row.sid)):
            if row.live > max_bytes:
                break
            max_bytes -= row.live
            chosen.append(row.sid)
    return chosen if len(chosen) > 1 else []


def victims(rows: Iterable[SegmentRow], *, max_bytes: int) -> list[bytes]:
    """The segments to compact, those with the most garbage for what they cost first.

    Args:
        rows: of a snapshot's table.
        max_bytes: live bytes that may be moved in all, but for the first segment.
    """
    rows = list(rows)
    sparse = [row for row in rows if 2 * row.live < row.length]
    chosen: list[SegmentRow] = []
    for row in sorted(sparse, key=lambda row: (row.live / row.length, row.sid)):
        if chosen and row.live > max_bytes:
            break
        max_bytes -= row.live
        chosen.append(row)
    sids = [row.sid for row in chosen]
    if len(chosen) == len(sparse):
        left = [row for row in rows if row not in chosen]
        sids += crowded(left, max_bytes=max_bytes)
    return sids if is_worthwhile(rows, sids) else []


def is_worthwhile(rows: Iterable[SegmentRow], sids: Collection[bytes]) -> bool:
    """Whether leaving these segments makes the table shorter, or frees more than it takes."""
    garbage = sum(row.length - row.live for row in rows if row.sid in sids)
    return len(sids) > 1 or garbage > _SMALL_GAIN_BYTES


def is_bloated(rows: Iterable[SegmentRow]) -> bool:
    """Whether so much of what a snapshot keeps alive is garbage that a push compacts by itself."""
    rows = list(rows)
    size = sum(row.length for row in rows)
    garbage = size - sum(row.live for row in rows)
    return garbage > _BLOATED_BYTES and 2 * garbage > size


def worth_reading(rows: Sequence[SegmentRow], n_keys: int) -> bool:
    """Whether to look through the whole index for what lies in the segments to compact.

    Nothing else tells where the live values of a segment are named. A large index is read only
    where the table is about to be full, so that many commits share the cost.
    """
    n_bytes = n_keys * _ENTRY_BYTES
    if len(rows) > _FULL_TABLE:
        return n_bytes <= _LARGE_INDEX_BYTES
    return n_bytes <= EXTRA_BYTES
