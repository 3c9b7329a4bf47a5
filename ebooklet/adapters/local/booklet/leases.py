"""One thread that ends readers' leases, so that an idle reader keeps no writer waiting."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Final, Protocol
from weakref import ref

LEASE_S: Final = 1.0


class Lessee(Protocol):
    """Holds a lease of a file."""

    def end_lease(self) -> None:
        """Give the file back; called from another thread."""
        ...


class LeaseKeeper:
    """Ends each lease `LEASE_S` after it began. Its thread lives while there are leases."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all leases; in a forked child, where the thread is gone."""
        self._leases: deque[tuple[float, ref[Lessee]]] = deque()  # by end
        self._changed = threading.Lock()
        self._running = False

    def watch(self, lessee: Lessee) -> None:
        """End this lease in due time."""
        with self._changed:
            self._leases.append((time.monotonic() + LEASE_S, ref(lessee)))
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="ebooklet-leases", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._leases:
                    self._running = False
                    return
                end, lessee = self._leases[0]
                due = end - time.monotonic()
                if due <= 0:
                    self._leases.popleft()
            if due > 0:
                time.sleep(due)
                continue
            found = lessee()
            if found is not None:
                found.end_lease()
            del found


KEEPER: Final = LeaseKeeper()
os.register_at_fork(after_in_child=KEEPER.reset)
