"""One thread that ends readers' leases, so that an idle reader keeps no writer waiting."""

from __future__ import annotations

import heapq
import os
import threading
import time
from itertools import count
from typing import Final, Protocol
from weakref import ref

LEASE_S: Final = 1.0
_AGAIN_S: Final = 0.02


class Lessee(Protocol):
    """Holds a lease of a file."""

    def end_lease(self, number: int) -> bool:
        """Give the file back, unless the lease of this number has ended; must not block.

        Returns:
            Whether that lease has ended; if not, it is asked again.
        """
        ...


class LeaseKeeper:
    """Ends each lease `LEASE_S` after it began. Its thread lives while there are leases."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all leases; in a forked child, where the thread is gone."""
        self._leases: list[tuple[float, int, ref[Lessee], int]] = []  # a heap, by end
        self._order = count()
        self._changed = threading.Lock()
        self._running = False

    def watch(self, lessee: Lessee, number: int) -> None:
        """End this lease in due time."""
        with self._changed:
            self._add(LEASE_S, ref(lessee), number)
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._run, name="ebooklet-leases", daemon=True).start()
        except BaseException:  # no thread is left, or Ctrl-C: the next lease starts another
            self._running = False
            raise

    def _add(self, seconds: float, lessee: ref[Lessee], number: int) -> None:
        end = time.monotonic() + seconds
        heapq.heappush(self._leases, (end, next(self._order), lessee, number))

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._leases:
                    self._running = False
                    return
                due = self._leases[0][0] - time.monotonic()
                if due <= 0:
                    _, _, lessee, number = heapq.heappop(self._leases)
            if due > 0:
                time.sleep(due)
                continue
            found = lessee()
            if found is not None and not found.end_lease(number):
                with self._changed:
                    self._add(_AGAIN_S, lessee, number)
            del found


KEEPER: Final = LeaseKeeper()
os.register_at_fork(after_in_child=KEEPER.reset)
