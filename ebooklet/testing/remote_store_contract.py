"""What every remote store owes the core: subclass, provide a `store` fixture, run pytest."""

from __future__ import annotations

import pytest

from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.remote_store.bodies import BodiesContract
from ebooklet.testing.remote_store.conditions import ConditionsContract
from ebooklet.testing.remote_store.copying import CopyingContract
from ebooklet.testing.remote_store.itself import StoreItselfContract
from ebooklet.testing.remote_store.listing import ListingContract
from ebooklet.testing.remote_store.names import NamesContract
from ebooklet.testing.remote_store.parts import PartsContract
from ebooklet.testing.remote_store.wire import Wire

__all__ = ["RemoteStoreContract", "Wire"]


class RemoteStoreContract(
    BodiesContract,
    ConditionsContract,
    PartsContract,
    NamesContract,
    ListingContract,
    CopyingContract,
    StoreItselfContract,
):
    """Tests of the promises in `ebooklet.ports.remote_store.RemoteStore`, by their numbers.

    Fixtures to provide:
        store: a `RemoteStore` that holds no object and that no other test uses.
        secrets: strings that must never be shown; none by default.
        wire: a store of the same kind whose traffic is counted; None by default, where nothing
            crosses any wire.
        neighbour: a second empty store of the same server and identity, in another bucket or
            folder; None by default, where a kind of store has no such thing.
    """

    @pytest.fixture
    def secrets(self) -> tuple[str, ...]:
        """Override where the store has credentials."""
        return ()

    @pytest.fixture
    def wire(self) -> Wire | None:
        """Override where a store has a server: what crosses to it shows what the store can do."""
        return None

    @pytest.fixture
    def neighbour(self) -> RemoteStore | None:
        """Override where there can be two stores of one server."""
        return None
