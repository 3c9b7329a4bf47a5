"""The store in memory keeps the contract of one handle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ebooklet.adapters.local.memory import MemoryLocalStore, open_store
from ebooklet.testing.local_store_contract import LocalStoreContract


class TestMemoryLocalStore(LocalStoreContract):
    @pytest.fixture
    def open_store(self) -> Callable[..., MemoryLocalStore]:
        def opener(place: str = "one", **options: Any) -> MemoryLocalStore:
            return open_store(place, **options)

        return opener


def test_read_mode_shows_only_in_writable() -> None:
    """A store opened for reading takes fetched values."""
    store = open_store(mode="read")
    store.set("fetched", b"v", 1)
    assert not store.writable
    assert store.get("fetched") == b"v"


def test_node_cache_is_bounded() -> None:
    """The oldest nodes go when there are too many bytes of them."""
    store = open_store()
    for number in range(70):
        store.cache_nodes({bytes([number]): bytes(1 << 20)})
    assert set(store.cached_nodes([b"\0", bytes([69])])) == {bytes([69])}
