"""The LMDB store keeps the contract of a store that lasts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ebooklet.adapters.local.lmdb import LmdbLocalStore, open_store
from ebooklet.testing.durable_local_store_contract import DurableLocalStoreContract
from ebooklet.testing.local_store_contract import OpenLocalStore
from tests.adapters.local.conftest import CLOCK

OpenLmdb = Callable[..., LmdbLocalStore]


@pytest.fixture
def open_lmdb(tmp_path: Path) -> Iterator[OpenLmdb]:
    """Opens `<tmp>/<place>.lmdb`, with the arguments of `open_store`."""
    opened: weakref.WeakSet[LmdbLocalStore] = weakref.WeakSet()

    def opener(place: str = "one", *, lock_timeout: float = 10.0, **options: Any) -> LmdbLocalStore:
        path = tmp_path / f"{place}.lmdb"
        store = open_store(path, clock=CLOCK, lock_timeout=lock_timeout, **options)
        opened.add(store)
        return store

    yield opener
    for store in list(opened):
        store.close()


class TestLmdbLocalStore(DurableLocalStoreContract):
    examples = 5

    @pytest.fixture
    def open_store(self, open_lmdb: OpenLmdb) -> OpenLocalStore:
        return open_lmdb
