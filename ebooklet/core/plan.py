"""Read plans: fewer requests for a few wasted bytes (FORMAT §5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from ebooklet.core.pace import Pace

__all__ = [
    "MAX_GAP",
    "MAX_SIZE",
    "RangePlan",
    "coalesce",
    "plan_bulk",
    "plan_ranges",
    "worth_bridging",
]

# Whatever the endpoint: index nodes are 3 to 10 KB, and bridging two or three is always worth it.
MAX_GAP: Final = 16 * 1024
MAX_SIZE: Final = 8 * 1024 * 1024  # what one transfer thread holds in memory
# One connection is often slower than the line: what is much is shared out among all of them.
_SHARE: Final = 2 * 1024 * 1024
# Of a bulk read, a few connections bring more than this process takes in meanwhile.
_BULK_PARALLEL: Final = 4
_BULK_SHARE: Final = 4 * 1024 * 1024
_BULK_SIZE: Final = 17 * 1024 * 1024  # a quarter of the largest segment, and a piece too many


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


def worth_bridging(gaps: Iterable[int], n_requests: int, n_bytes: int, pace: Pace) -> int:
    """The widest of some holes that takes less time to be read than the request it saves.

    Holes are bridged from the narrowest on, and each saves one request: of all numbers of them
    the one is taken with which the whole takes least, so that rounds of requests count as such.

    Args:
        gaps: bytes of the holes between requests that could be one.
        n_requests: with none of them bridged.
        n_bytes: of these.
        pace: what requests and bytes take.

    Returns:
        Bytes; 0 where none is worth it.
    """
    least, widest = pace.seconds(n_requests, n_bytes), 0
    for gap in sorted(gaps):
        n_requests -= 1
        n_bytes += gap
        seconds = pace.seconds(n_requests, n_bytes)
        if seconds < least:
            least, widest = seconds, gap
    return widest


def plan_ranges(
    wanted: Iterable[tuple[bytes, int, int]],
    *,
    max_gap: int = MAX_GAP,
    max_size: int = MAX_SIZE,
    pace: Pace | None = None,
) -> list[RangePlan]:
    """Join wanted pieces of segments into requests.

    Args:
        wanted: (sid, offset, length) of each piece, in any order. A repeated piece is fetched
            once and listed as often as it was asked for; one of no bytes is left out.
        max_gap: widest hole to bridge in any case, in bytes.
        max_size: longest request that joining may make, in bytes; one larger piece is a request
            of its own.
        pace: of the endpoint; wider holes are bridged where that takes less time, and much is
            shared out among the requests that can be under way at once.

    Returns:
        Disjoint plans, sorted by segment and place; every wanted piece lies whole in one.
    """
    pieces = sorted(wanted)
    if pace is None:
        return _joined(pieces, max_gap, max_size)
    share = max(_SHARE, _total(pieces) // pace.parallel)
    return _shared(pieces, max_gap, min(share, max_size), max_size, pace)


def plan_bulk(wanted: Iterable[tuple[bytes, int, int]], *, pace: Pace) -> list[RangePlan]:
    """Join many wanted pieces into few, large requests: for a reader that uses each as it comes.

    Args:
        wanted: see `plan_ranges`.
        pace: of the endpoint.
    """
    pieces = sorted(wanted)
    share = max(_BULK_SHARE, _total(pieces) // min(pace.parallel, _BULK_PARALLEL))
    return _shared(pieces, MAX_GAP, min(share, _BULK_SIZE), _BULK_SIZE, pace)


def _total(pieces: Iterable[tuple[bytes, int, int]]) -> int:
    return sum(length for _, _, length in pieces)


def _shared(
    pieces: Iterable[tuple[bytes, int, int]], max_gap: int, share: int, max_size: int, pace: Pace
) -> list[RangePlan]:
    """Plan sorted pieces: `share` bytes a request, or up to `max_size` where that saves rounds."""
    plans = _joined(pieces, max_gap, share)
    gaps = [
        later.start - one.stop
        for one, later in pairwise(plans)
        if later.sid == one.sid and later.stop - one.start <= max_size
    ]
    n_bytes = sum(plan.stop - plan.start for plan in plans)
    widest = max(max_gap, worth_bridging(gaps, len(plans), n_bytes, pace))
    whole, shared = _merged(plans, widest, max_size), _merged(plans, widest, share)
    return whole if pace.rounds(len(whole)) < pace.rounds(len(shared)) else shared


def _joined(
    wanted: Iterable[tuple[bytes, int, int]], max_gap: int, max_size: int
) -> list[RangePlan]:
    """The requests for sorted pieces, no two of which leave a hole as narrow as that."""
    plans: list[RangePlan] = []
    current: bytes | None = None
    first = last = 0
    pieces: list[tuple[int, int]] = []
    for sid, offset, length in wanted:
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


def _merged(plans: Iterable[RangePlan], max_gap: int, max_size: int) -> list[RangePlan]:
    """The same pieces in fewer requests, where sorted ones leave a hole as narrow as that."""
    merged: list[RangePlan] = []
    for plan in plans:
        last = merged[-1] if merged else None
        if (
            last is not None
            and plan.sid == last.sid
            and plan.start - last.stop <= max_gap
            and plan.stop - last.start <= max_size
        ):
            last.pieces.extend(plan.pieces)
            merged[-1] = last._replace(stop=plan.stop)
        else:
            merged.append(plan._replace(pieces=list(plan.pieces)))
    return merged
