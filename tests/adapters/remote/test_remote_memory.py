"""The store in memory."""

from __future__ import annotations

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore, open_store
from ebooklet.connection import RemoteAddress
from ebooklet.errors import ObjectNotFound
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.remote_store_contract import RemoteStoreContract


@pytest.mark.matrix("contract", "memory", "(memory)")
class TestMemoryRemoteStore(RemoteStoreContract):
    @pytest.fixture
    def store(self) -> RemoteStore:
        return MemoryRemoteStore()

    @pytest.fixture
    def neighbour(self) -> RemoteStore:
        return MemoryRemoteStore()


def test_a_name_is_shared(tmp_path: object) -> None:
    """Two stores of one name see each other's objects; another name, and no name, see none."""
    name = f"shared-{id(tmp_path)}"
    MemoryRemoteStore(name).put("k", b"body")
    assert MemoryRemoteStore(name).get("k").body == b"body"
    for other in (MemoryRemoteStore(name + "2"), MemoryRemoteStore(), MemoryRemoteStore()):
        with pytest.raises(ObjectNotFound):
            other.get("k")


@pytest.mark.parametrize(
    ("url", "location", "key"),
    [
        ("memory://name", "memory://name", "db"),
        ("memory://name/", "memory://name", "db"),
        ("memory://name/a/b", "memory://name", "a/b"),
    ],
)
def test_urls(url: str, location: str, key: str) -> None:
    """The host part names the store and the path the database, "db" by default."""
    store, db_key = open_store(RemoteAddress.parse(url))
    assert (store.location, db_key) == (location, key)


def test_its_clock_is_given() -> None:
    """Objects are stamped by the injected clock."""
    store = MemoryRemoteStore(now_ms=lambda: 1_234)
    assert store.put("k", b"").modified_ms == 1_234
    assert store.server_time_ms() == 1_234
