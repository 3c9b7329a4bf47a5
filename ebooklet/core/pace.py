"""How fast an endpoint answers: what bytes and requests are weighed by, from what reads took."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, NamedTuple

__all__ = ["Pace", "PaceMeter"]

# Before anything is measured: a bucket in the same country, over a good line, by boto3, which takes
# about a millisecond of one processor to sign, send and parse.
_DISTANT: Final = (0.02, 0.001)  # seconds: latency, and a request's own
_HERE: Final = (0.0, 0.0)  # the same, where no other machine is asked
_BYTES_PER_S: Final = 100e6
# Answers that come within this time stand for a fast line, until it is measured: near by, a request
# takes the processors at both ends as long as 400 KB do, whatever the latency (decision 0053).
_NEARBY_S: Final = 0.008
_NEARBY_BYTES_PER_S: Final = 400e6
_LEAST_REQUEST_S: Final = 0.0005  # of one processor, by the leanest driver in Python

_SMALL_BYTES: Final = 64 * 1024  # nearly all that they take is latency
_LARGE_BYTES: Final = 1 << 20  # of fewer, chance decides what they take
_REMEMBERED: Final = 8  # small reads: a connection's first, and a busy moment, are forgotten
_NEWEST_SHARE: Final = 0.5  # of the newest read in what is expected of the next


class Pace(NamedTuple):
    """What reads of an endpoint take."""

    latency_s: float  # from a request to the first byte of its answer
    request_s: float  # of this process for each request, which only one thread at a time may run
    bytes_per_s: float  # of all answers under way together
    parallel: int  # requests under way at once

    def seconds(self, n_requests: int, n_bytes: int) -> float:
        """What so many requests for so many bytes together take, in seconds, or a little less.

        A round of requests takes one latency. Nothing is taken to hide behind anything else: where
        it does, fewer requests are no slower than this.
        """
        waited_s = self.rounds(n_requests) * self.latency_s + n_requests * self.request_s
        return waited_s + n_bytes / self.bytes_per_s

    def rounds(self, n_requests: int) -> int:
        """How many latencies so many requests take."""
        return -(-n_requests // self.parallel)


class PaceMeter:
    """Learns the pace of one endpoint from what its reads took. For several threads.

    Args:
        parallel: requests under way at once.
        distant: whether answers take time; where not, few bytes are read in vain until they are
            found to.

    Example:
        >>> meter = PaceMeter(parallel=16)
        >>> meter.note(1, 500, 0.05)
        >>> meter.pace.latency_s
        0.05
    """

    def __init__(self, parallel: int, *, distant: bool = True) -> None:
        self._lock = threading.Lock()
        self._distant = distant
        self._line_measured = False
        self._latencies_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._pace = Pace(*(_DISTANT if distant else _HERE), _BYTES_PER_S, parallel)

    @property
    def pace(self) -> Pace:
        """What is to be expected of the next reads."""
        return self._pace

    def note(self, n_requests: int, n_bytes: int, seconds: float) -> None:
        """Learn from one read.

        Args:
            n_requests: made together, at least 1.
            n_bytes: of all their answers.
            seconds: until the last byte.
        """
        with self._lock:
            pace = self._pace
            latency_s = pace.latency_s
            if n_requests == 1 and n_bytes <= _SMALL_BYTES:
                self._latencies_s.append(seconds)
                latency_s = min(self._latencies_s)
            waited_s = max(seconds - (n_requests - 1) * pace.request_s, 0.0)
            pace = pace._replace(latency_s=min(latency_s, waited_s / pace.rounds(n_requests)))
            if n_bytes >= _LARGE_BYTES:
                self._line_measured = True
                # At least a tenth of the time went by for the bytes: what was waited is a guess.
                moved_s = max(seconds - pace.seconds(n_requests, 0), seconds / 10)
                each_s = _mixed(1 / pace.bytes_per_s, moved_s / n_bytes)
                pace = pace._replace(bytes_per_s=1 / each_s)
            elif n_requests > pace.parallel:
                left_s = seconds - pace._replace(request_s=0.0).seconds(n_requests, n_bytes)
                each_s = _mixed(pace.request_s, max(left_s, 0.0) / n_requests)
                least_s = _LEAST_REQUEST_S if self._distant else 0.0
                pace = pace._replace(request_s=max(each_s, least_s))
            if self._distant and not self._line_measured and pace.latency_s <= _NEARBY_S:
                pace = pace._replace(bytes_per_s=_NEARBY_BYTES_PER_S)
            self._pace = pace


def _mixed(known: float, newest: float) -> float:
    return known + _NEWEST_SHARE * (newest - known)
