"""Stores that are closed when a test ends, and kept alive by nothing else."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.local.booklet import BookletLocalStore, open_store
from ebooklet.adapters.localfiles import leases

CLOCK = SystemClock()
OpenBooklet = Callable[..., BookletLocalStore]


@pytest.fixture(autouse=True)
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers give their files back after a tenth of the usual second."""
    monkeypatch.setattr(leases, "LEASE_S", 0.1)


@pytest.fixture
def open_booklet(tmp_path: Path) -> Iterator[OpenBooklet]:
    """Opens `<tmp>/<place>.blt`, with the arguments of `open_store`."""
    opened: weakref.WeakSet[BookletLocalStore] = weakref.WeakSet()

    def opener(
        place: str = "one", *, lock_timeout: float = 10.0, **options: Any
    ) -> BookletLocalStore:
        store = open_store(
            tmp_path / f"{place}.blt",
            clock=CLOCK,
            lock_timeout=lock_timeout,
            **options,
        )
        opened.add(store)
        return store

    yield opener
    for store in list(opened):
        store.close()


def uuid_of(number: int) -> UUID:
    """A uuid that tests can name."""
    return UUID(int=number)
