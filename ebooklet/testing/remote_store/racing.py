"""Calls at the same moment, for the tests of a remote store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from ebooklet.errors import EBookletError

__all__ = ["RACERS", "together"]

T = TypeVar("T")

RACERS: Final = 8


def together(calls: Sequence[Callable[[], T]]) -> list[T | EBookletError]:
    """Run all calls at the same moment; a store's error is a result like any other."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | EBookletError:
        barrier.wait()
        try:
            return call()
        except EBookletError as exc:
            return exc

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
