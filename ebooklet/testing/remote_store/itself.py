"""Contract tests of the store as an object of the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from ebooklet.errors import ObjectNotFound
from ebooklet.ports.remote_store import Capabilities, RemoteStore
from ebooklet.testing.contract import Contract
from ebooklet.testing.remote_store.listed import keys_of
from ebooklet.testing.remote_store.racing import RACERS, together

__all__ = ["StoreItselfContract"]

_DAY_MS: Final = 86_400_000


class StoreItselfContract(Contract):
    """Threads, errors, clock, abilities, secrets."""

    def test_many_threads(self, store: RemoteStore) -> None:
        """One store serves many threads, each seeing its own objects right."""

        def work(worker: int) -> int:
            for i in range(6):
                body = bytes([worker, i]) * 500
                store.put(f"{worker}/k", body)
                assert store.get(f"{worker}/k").body == body
                assert store.get(f"{worker}/k", start=10, stop=20).body == body[10:20]
            store.delete([f"{worker}/k"])
            return worker

        def job(worker: int) -> Callable[[], int]:
            return lambda: work(worker)

        assert together([job(i) for i in range(RACERS)]) == list(range(RACERS))
        assert keys_of(store.list("")) == []

    def test_errors_say_what_was_tried(self, store: RemoteStore) -> None:
        """Promise 5: an error carries the operation and the key, so that nobody parses messages."""
        with pytest.raises(ObjectNotFound) as caught:
            store.get("absent key")
        assert (caught.value.op, caught.value.key) == ("get", "absent key")
        with pytest.raises(ObjectNotFound) as caught:
            store.head("absent key")
        assert (caught.value.op, caught.value.key) == ("head", "absent key")

    def test_clock(self, store: RemoteStore) -> None:
        """The store's time is known after an answer, and objects are stamped by that clock."""
        meta = store.put("k", b"body")
        now = store.server_time_ms()
        assert now is not None
        assert abs(now - meta.modified_ms) < _DAY_MS or meta.modified_ms == 0
        assert abs(now - store.head("k").modified_ms) < _DAY_MS
        assert (store.server_time_ms() or 0) >= now - 1000

    def test_capabilities(self, store: RemoteStore) -> None:
        """A store says what it can do, and a segment fits into one atomic put."""
        assert isinstance(store.capabilities, Capabilities)
        assert store.capabilities.writable
        assert store.capabilities.max_put_bytes >= 65 << 20

    def test_it_is_a_remote_store(self, store: RemoteStore) -> None:
        """The object has all of the port's methods."""
        assert isinstance(store, RemoteStore)

    def test_nothing_secret_is_shown(self, store: RemoteStore, secrets: tuple[str, ...]) -> None:
        """Promise 8: neither `repr` nor the location nor an error holds a secret."""
        with pytest.raises(ObjectNotFound) as caught:
            store.get("absent")
        shown = (
            f"{store!r} {store} {store.location} {caught.value!r} {caught.value} {store.origin!r}"
        )
        assert store.location
        assert not [secret for secret in secrets if secret in shown]

    def test_close_is_idempotent(self, store: RemoteStore) -> None:
        """Closing twice is no error."""
        store.put("k", b"body")
        store.close()
        store.close()
