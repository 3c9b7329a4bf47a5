"""The Booklet store keeps the contract of a store that lasts."""

from __future__ import annotations

from typing import Any

import pytest

from ebooklet.adapters.local.booklet.store import BookletLocalStore
from ebooklet.testing.durable_local_store_contract import DurableLocalStoreContract
from ebooklet.testing.local_store_contract import OpenLocalStore
from tests.adapters.local.conftest import OpenBooklet


class TestBookletLocalStore(DurableLocalStoreContract):
    @pytest.fixture
    def open_store(self, open_booklet: OpenBooklet) -> OpenLocalStore:
        return open_booklet


class TestBookletLocalStoreThatGrows(DurableLocalStoreContract):
    """The same with an index that is full all the time, and a buffer that holds next to nothing."""

    examples = 25

    @pytest.fixture
    def open_store(self, open_booklet: OpenBooklet) -> OpenLocalStore:
        def opener(place: str = "one", **options: Any) -> BookletLocalStore:
            return open_booklet(place, n_buckets=3, buffer_size=100, **options)

        return opener
