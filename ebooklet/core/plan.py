"""Read plans: fewer requests for a few wasted bytes (FORMAT §5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["MAX_GAP", "MAX_SIZE", "RangePlan", "coalesce", "plan_ranges"]

# At 20 ms and 100 MB/s a request costs as much as 2 MB; but a transfer runs over many connections
# at once, and index nodes are 3 to 10 KB: bridging two or three of them is always worth it.
MAX_GAP: Final = 16 * 1024
MAX_SIZE: Final = 8 * 1024 * 1024  # what one transfer thread holds in memory


class RangePlan(NamedTuple):
    """One request: bytes [start, stop) of a segment, and the pieces wanted from it."""

    sid: bytes
    start: int
    stop: int
    pieces: list[tuple[int, int]]  # (offset in the segment, length), sorted

    def cut(self, body: bytes) -> list[bytes]:
        """The wanted pieces out of the answer, in the order of `pieces`."""
        start = self.start
        return [body[offset - start : offset - start + length] for offset, length in self.pieces]


def coalesce(
    spans: Sequence[tuple[int, int]], *, max_gap: int = MAX_GAP, max_size: int = MAX_SIZE
) -> list[tuple[int, int]]:
    """Join byte spans that lie close together: a few wasted bytes for fewer requests.

    Args:
        spans: n pairs [start, end) in bytes, sorted by start; overlaps allowed.
        max_gap: widest hole to bridge, in bytes.
        max_size: longest span that joining may make, in bytes; overlapping spans join always.

    Returns:
        m <= n disjoint pairs, sorted.

    Source: RFC 9110 §14.1.2; HTTP's last byte is inclusive, ours is exclusive.
    """
    joined: list[tuple[int, int]] = []
    if not spans:
        return joined
    first, last = spans[0]
    for start, end in spans:
        if start < last or (start - last <= max_gap and end - first <= max_size):
            last = max(last, end)
        else:
            joined.append((first, last))
            first, last = start, end
    joined.append((first, last))
    return joined


def plan_ranges(
    wanted: Iterable[tuple[bytes, int, int]],
    *,
    max_gap: int = MAX_GAP,
    max_size: int = MAX_SIZE,
) -> list[RangePlan]:
    """Join wanted pieces of segments into requests.

    Args:
        wanted: (sid, offset, length) of each piece, in any order. A repeated piece is fetched
            once and listed as often as it was asked for; one of no bytes is left out.
        max_gap: widest hole to bridge, in bytes.
        max_size: longest request that joining may make, in bytes; one larger piece is a request
            of its own.

    Returns:
        Disjoint plans, sorted by segment and place; every wanted piece lies whole in one.
    """
    plans: list[RangePlan] = []
    current: bytes | None = None
    first = last = 0
    pieces: list[tuple[int, int]] = []
    for sid, offset, length in sorted(wanted):
        if not length:
            continue
        end = offset + length
        if sid == current and (
            offset < last or (offset - last <= max_gap and end - first <= max_size)
        ):
            pieces.append((offset, length))
            last = max(last, end)
            continue
        if current is not None:
            plans.append(RangePlan(current, first, last, pieces))
        current, first, last, pieces = sid, offset, end, [(offset, length)]
    if current is not None:
        plans.append(RangePlan(current, first, last, pieces))
    return plans
