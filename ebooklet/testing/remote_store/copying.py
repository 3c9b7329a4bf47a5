"""Contract tests of copies that the server makes."""

from __future__ import annotations

import pytest

from ebooklet.errors import ObjectNotFound, UnsupportedOperation
from ebooklet.ports.remote_store import Origin, RemoteStore
from ebooklet.testing.contract import Contract
from ebooklet.testing.remote_store.listed import keys_of
from ebooklet.testing.remote_store.wire import Wire

__all__ = ["CopyingContract"]


class CopyingContract(Contract):
    """Copies by the server."""

    def test_copy(self, store: RemoteStore) -> None:
        """A copy has the body under its own version, replaces what stood there, and is apart."""
        self._needs_copies(store)
        store.put("from/k", b"body")
        store.put("to/k", b"something longer")
        copied = store.copy("from/k", "to/k")
        found = store.get("to/k")
        assert found.body == b"body"
        assert (copied.key, copied.size, copied.etag) == ("to/k", 4, found.meta.etag)
        store.put("from/k", b"changed")
        assert store.get("to/k").body == b"body"

    def test_copy_of_nothing(self, store: RemoteStore) -> None:
        """Promise 5: copying what is absent is `ObjectNotFound`, and the target stays."""
        self._needs_copies(store)
        store.put("to", b"body")
        with pytest.raises(ObjectNotFound):
            store.copy("absent", "to")
        assert store.get("to").body == b"body"

    def test_copy_from_a_neighbour(self, store: RemoteStore, neighbour: RemoteStore | None) -> None:
        """Promise 9: the server copies from another bucket or folder of its own, which stays."""
        if neighbour is None:
            pytest.skip("this kind of store has no neighbours")
        bodies = {"from/k": b"body", "a b/ünï %2F+": bytes(range(256)) * (5 << 12), "empty": b""}
        for key, body in bodies.items():
            neighbour.put(key, body)
        store.put("copy/from/k", b"something that stood there")
        assert store.copies_from(neighbour.origin)
        for key, body in bodies.items():
            copied = store.copy(key, f"copy/{key}", origin=neighbour.origin)
            found = store.get(f"copy/{key}")
            assert found.body == body
            assert (copied.size, copied.etag) == (len(body), found.meta.etag)
        assert keys_of(store.list("")) == sorted(f"copy/{key}" for key in bodies)
        assert keys_of(neighbour.list("")) == sorted(bodies)
        with pytest.raises(ObjectNotFound):
            store.copy("absent", "copy/empty", origin=neighbour.origin)
        assert store.get("copy/empty").body == b""

    def test_an_origin_out_of_reach(self, store: RemoteStore) -> None:
        """Promise 9: a store says what it can copy from, and refuses any other origin."""
        assert store.copies_from(store.origin) is store.capabilities.server_side_copy
        store.put("k", b"body")
        if store.capabilities.server_side_copy:
            assert store.copy("k", "copy", origin=store.origin).size == 4
            assert store.capabilities.max_copy_bytes >= 65 << 20
        elsewhere = Origin(("another server", "another identity"), "k")
        assert not store.copies_from(None)
        assert not store.copies_from(elsewhere)
        with pytest.raises(UnsupportedOperation):
            store.copy("k", "to", origin=elsewhere)
        assert "to" not in keys_of(store.list(""))

    def test_copies_move_no_body(self, wire: Wire | None) -> None:
        """`server_side_copy` tells the truth: a copy moves no body, or is refused."""
        if wire is None:
            pytest.skip("nothing crosses a wire")
        store, body = wire.store, bytes(range(256)) * (4 << 10)
        store.put("k", body)
        before = wire.bytes_moved()
        if store.capabilities.server_side_copy:
            assert store.copy("k", "copy").size == len(body)
            assert wire.bytes_moved() - before < len(body) // 4
            assert store.get("copy").body == body
        else:
            with pytest.raises(UnsupportedOperation):
                store.copy("k", "copy")

    def _needs_copies(self, store: RemoteStore) -> None:
        if not store.capabilities.server_side_copy:
            pytest.skip("this store cannot copy, and says so")
