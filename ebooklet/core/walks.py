"""Which keys are read one after another: what to read ahead of a program, and how far.

Source: the readahead of file systems (Linux, mm/readahead.c), with keys for pages.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Walks"]

_MAX_RUN: Final = 1024  # keys read at once
_SLACK: Final = 3  # keys that a walk may leave out from one read to the next
_MAX_WALKS: Final = 8  # at a time, by as many threads or through as many lists


class _Read(NamedTuple):
    """The latest read of a walk."""

    run: int  # keys it took
    rest: int  # keys that follow its last one in the same index node


class Walks:
    """The walks along the keys of one database. For several threads.

    Example:
        >>> walks = Walks()
        >>> walks.run_from("abcdef", 0)
        1
        >>> walks.note("a", 1, rest=5)
        >>> walks.run_from("abcdef", 1)
        2
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reads: dict[str, _Read] = {}  # by the last key of each; the newest last

    def run_from(self, keys: Sequence[str], index: int) -> int:
        """How many keys to read from `keys[index]`: 1 unless a walk has come to it.

        Args:
            keys: of one index node, sorted.
            index: of the key asked for.
        """
        with self._lock:
            last = max((key for key in self._reads if key < keys[index]), default=None)
            if last is None:
                return 1
            read = self._reads[last]
            # From another node, one end to be near and one beginning: most likely they meet.
            before = bisect_right(keys, last) if keys[0] <= last else -read.rest
            if index - before > _SLACK:
                return 1
            del self._reads[last]
        return min(2 * read.run, _MAX_RUN)

    def note(self, last: str, run: int, rest: int) -> None:
        """Remember a read.

        Args:
            last: the last key it took.
            run: how many keys it took.
            rest: how many keys follow the last one in the same index node.
        """
        with self._lock:
            self._reads.pop(last, None)
            self._reads[last] = _Read(run, rest)
            if len(self._reads) > _MAX_WALKS:
                del self._reads[next(iter(self._reads))]
