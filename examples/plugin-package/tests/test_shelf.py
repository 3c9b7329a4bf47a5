"""The plugin's parts keep EBooklet's contracts, and are found by name once it is installed."""

import decimal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ebooklet_shelf.decimals import DECIMAL
from ebooklet_shelf.sqlite import SqliteRemoteStore
from hypothesis import strategies as st

import ebooklet
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.ports.serializer import Serializer
from ebooklet.testing import RemoteStoreContract, SerializerContract


class TestDecimals(SerializerContract):
    values = st.decimals(allow_nan=False)
    refused = (1.5, "1", None)
    unreadable = (b"", b"1,5", "\u0661".encode())

    @pytest.fixture
    def serializer(self) -> Serializer:
        return DECIMAL


class TestSqlite(RemoteStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[RemoteStore]:
        store = SqliteRemoteStore(str(tmp_path / "shelf.sqlite"))
        yield store
        store.close()


def test_both_are_found_by_name(tmp_path: Path) -> None:
    """A database with decimals in a SQLite file, read again as a stranger would."""
    url = f"sqlite://{tmp_path}/shelf.sqlite?key=prices"
    price = decimal.Decimal("19.990")
    with ebooklet.open(url, tmp_path / "a.blt", "c", value_serializer="decimal") as db:
        db["book"] = price
        assert db.push()
    with ebooklet.open(url) as reader:
        assert str(reader["book"]) == "19.990"
