"""Contract tests of lists and deletions."""

from __future__ import annotations

import pytest

from ebooklet.errors import ObjectNotFound
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.contract import Contract
from ebooklet.testing.remote_store.listed import keys_of

__all__ = ["ListingContract"]


class ListingContract(Contract):
    """Lists and deletions."""

    def test_list_by_prefix(self, store: RemoteStore) -> None:
        """Every object whose key starts with the prefix comes once, with its size, and no other."""
        keys = ["db", "db.d/1", "db.d/2", "db.d/10", "db.e", "db.d.x/1", "other/db.d/1", "db2.d/1"]
        for key in keys:
            store.put(key, key.encode())
        for prefix in ("", "d", "db", "db.", "db.d", "db.d/", "db.d/1", "other", "x", "db.d/1/"):
            metas = list(store.list(prefix))
            assert keys_of(metas) == sorted(key for key in keys if key.startswith(prefix))
            assert all(meta.size == len(meta.key) for meta in metas)

    def test_list_after_a_key(self, store: RemoteStore) -> None:
        """`after` leaves out what is not greater, whether or not it exists itself."""
        keys = [f"d/{letter}" for letter in "aceg"]
        for key in keys:
            store.put(key, b"")
        for after in ("", "a", "d", "d/a", "d/b", "d/e", "d/g", "e"):
            assert keys_of(store.list("d/", after=after)) == [key for key in keys if key > after]

    def test_list_knows_what_just_happened(self, store: RemoteStore) -> None:
        """Promise 2: a list shows each put and each deletion that returned before it began."""
        for i in range(5):
            store.put(f"d/{i}", b"x" * i)
            assert keys_of(store.list("d/")) == [f"d/{j}" for j in range(i + 1)]
        for i in range(5):
            store.delete([f"d/{i}"])
            assert keys_of(store.list("d/")) == [f"d/{j}" for j in range(i + 1, 5)]

    def test_list_of_strange_prefixes(self, store: RemoteStore) -> None:
        """Promise 6: a prefix that no name can have lists nothing, and leads nowhere else."""
        store.put("a/b", b"body")
        for prefix in ("../", "a/../", "./", "//", "a//", "a/./b"):
            assert keys_of(store.list(prefix)) == []

    def test_delete_is_idempotent(self, store: RemoteStore) -> None:
        """Deleting many, from any iterable, removes what there is; the absent is no error."""
        for i in range(5):
            store.put(f"d/{i}", b"body")
        store.delete(f"d/{i}" for i in range(1, 8))
        store.delete(["d/1", "never/was"])
        store.delete([])
        assert keys_of(store.list("")) == ["d/0"]
        with pytest.raises(ObjectNotFound):
            store.head("d/1")
