"""Reading parts of segments: as few requests as what is known of the endpoint's pace makes best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ebooklet.core.names import segment_key
from ebooklet.core.pace import PaceMeter
from ebooklet.core.plan import RangePlan, plan_bulk, plan_ranges
from ebooklet.errors import EBookletError
from ebooklet.ports.clock import Clock
from ebooklet.ports.remote_store import ByteRange, RemoteStore

__all__ = ["SegmentReads", "meter_of"]


def meter_of(remote: RemoteStore) -> PaceMeter:
    """What is to learn the pace of a remote, and knows nothing of it yet."""
    can = remote.capabilities
    return PaceMeter(can.parallel, distant=can.shared)


class SegmentReads:
    """Reads parts of one database's segments, and learns from what each read took.

    Args:
        remote: where they are.
        db_key: whose they are.
        clock: what reads are measured by; None for a few, of which nothing is learned.
        meter: what learns; a new one, by default.
    """

    def __init__(
        self,
        remote: RemoteStore,
        db_key: str,
        clock: Clock | None = None,
        meter: PaceMeter | None = None,
    ) -> None:
        self.remote = remote
        self._db_key = db_key
        self._clock = clock
        self._meter = meter_of(remote) if meter is None else meter

    def read(
        self, wanted: Iterable[tuple[bytes, int, int]], *, bulk: bool = False
    ) -> Iterator[tuple[RangePlan, ByteRange, bytes | EBookletError]]:
        """Yield what holds the wanted pieces, many requests at once: plan, range and answer.

        Args:
            wanted: (sid, offset, length) of each piece, in any order; see `plan_ranges`.
            bulk: it is much, and used as it comes: fewer and larger requests.
        """
        pace = self._meter.pace
        plans = plan_bulk(wanted, pace=pace) if bulk else plan_ranges(wanted, pace=pace)
        ranges = [ByteRange(segment_key(self._db_key, p.sid), p.start, p.stop) for p in plans]
        bodies = self.remote.get_ranges(ranges)
        n_bytes, waited_s = 0, 0.0
        for plan, part in zip(plans, ranges, strict=True):
            # What is done with an answer while others are under way is none of the endpoint's time.
            asked_at = self._now_s()
            body = next(bodies)
            waited_s += self._now_s() - asked_at
            n_bytes += plan.stop - plan.start
            yield plan, part, body
        if self._clock is not None:
            self._meter.note(len(plans), n_bytes, waited_s)

    def _now_s(self) -> float:
        return 0.0 if self._clock is None else self._clock.monotonic()
