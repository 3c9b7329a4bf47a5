"""Threads for transfers, made when first needed and made anew in a forked child."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Pools"]


class Pools:
    """Pools of threads by what they do: a task of one may wait for those of another.

    Args:
        threads: of each pool, at most.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._owner = 0  # the process that made them: threads do not cross a fork

    def __getitem__(self, purpose: str) -> ThreadPoolExecutor:
        """The pool for one purpose."""
        with self._lock:
            if self._owner != os.getpid():
                self._pools.clear()
                self._owner = os.getpid()
            if purpose not in self._pools:
                self._pools[purpose] = ThreadPoolExecutor(
                    self.threads, thread_name_prefix=f"ebooklet-{purpose}"
                )
            return self._pools[purpose]

    def close(self) -> None:
        """End the threads; the next use starts new ones."""
        with self._lock:
            pools = list(self._pools.values()) if self._owner == os.getpid() else []
            self._pools.clear()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)
