"""Contract tests of the names that objects may have."""

from __future__ import annotations

from typing import Final

import pytest

from ebooklet.errors import ObjectNotFound, StoreError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.contract import Contract
from ebooklet.testing.remote_store.listed import keys_of

__all__ = ["NamesContract"]

_NEIGHBOURS: Final = ("a", "a2", "a/b", "A", "a.d/x", "a/b/c", "a-b")
_ODD_KEYS: Final = (
    "with space/and more",
    " lead and trail ",
    "%41",
    "%2F%25",
    "100%",
    "plus+and&eq=?#*",
    "quotes'\"<>",
    "colon:semi;comma,at@",
    "ünïcödé/日本語/🙂",
    "e\u0301 not composed",
    "..a",
    "a..",
    "...",
    ".hidden",
    ".ebooklet/lock",
    ".ebooklet.d",
    "trailing.",
    "~tilde",
    "[a-z]{1}|^`",
)
_BAD_KEYS: Final = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/./b",
    "a/../b",
    "../a",
    "x" * 1025,
    "\ud800",
)


class NamesContract(Contract):
    """Names: which are one, which are apart, and which are refused."""

    def test_absent_objects(self, store: RemoteStore) -> None:
        """Promise 5: reading what is absent is `ObjectNotFound`, also beside and below objects."""
        store.put("a/b", b"body")
        for key in ("k", "a", "a/b/c", "a/", "a/bc")[:3]:
            with pytest.raises(ObjectNotFound):
                store.get(key)
            with pytest.raises(ObjectNotFound):
                store.get(key, start=1, stop=3)
            with pytest.raises(ObjectNotFound):
                store.get(key, start=3, stop=3)
            with pytest.raises(ObjectNotFound):
                store.head(key)

    def test_neighbours_are_separate(self, store: RemoteStore) -> None:
        """Promise 6: names that begin alike, or differ in case, name objects of their own."""
        for key in _NEIGHBOURS:
            store.put(key, key.encode())
        for key in _NEIGHBOURS:
            assert store.get(key).body == key.encode()
        assert keys_of(store.list("")) == sorted(_NEIGHBOURS)
        for key in reversed(_NEIGHBOURS):
            store.put(key, key.encode() * 2)
        assert [store.get(key).body for key in _NEIGHBOURS] == [
            key.encode() * 2 for key in _NEIGHBOURS
        ]

    def test_delete_spares_neighbours(self, store: RemoteStore) -> None:
        """Promise 6: a deletion removes its object and no other."""
        for gone in _NEIGHBOURS:
            for key in _NEIGHBOURS:
                store.put(key, key.encode())
            store.delete([gone])
            kept = [key for key in _NEIGHBOURS if key != gone]
            assert keys_of(store.list("")) == sorted(kept)
            assert [store.get(key).body for key in kept] == [key.encode() for key in kept]

    def test_a_head_beside_its_segments(self, store: RemoteStore) -> None:
        """Promise 6: the names of a database's own objects never clash, on any server."""
        keys = ["deep/db", "deep/db.d/01arz3ndektsv4rrffq69g5fav", "deep/db.lock", "deep/db.alt"]
        for key in keys:
            store.put(key, key.encode())
        assert [store.get(key).body for key in keys] == [key.encode() for key in keys]
        assert keys_of(store.list("deep/db.d/")) == [keys[1]]
        store.delete(keys)
        assert keys_of(store.list("")) == []

    def test_odd_names(self, store: RemoteStore) -> None:
        """Promise 6: spaces, `%`, signs and all of Unicode name one object each, and list so."""
        for key in _ODD_KEYS:
            store.put(key, key.encode())
        for key in _ODD_KEYS:
            assert store.get(key).body == key.encode()
        assert keys_of(store.list("")) == sorted(_ODD_KEYS)
        assert keys_of(store.list("%")) == ["%2F%25", "%41"]
        if store.capabilities.server_side_copy:
            store.copy("ünïcödé/日本語/🙂", "cöpy %20+")
            assert store.get("cöpy %20+").body == "ünïcödé/日本語/🙂".encode()
        store.delete([*_ODD_KEYS, "cöpy %20+"])
        assert keys_of(store.list("")) == []

    def test_backslash_in_a_name(self, store: RemoteStore) -> None:
        """Promise 6: a backslash is a letter, no separator."""
        store.put("a\\b", b"letter")
        store.put("a/b", b"separator")
        assert store.get("a\\b").body == b"letter"
        assert keys_of(store.list("a")) == ["a/b", "a\\b"]

    def test_control_characters_in_a_name(self, store: RemoteStore) -> None:
        """Promise 6: line ends and tabs are letters, and come back from a list."""
        keys = ["tab\tin", "line\nend", "return\rend"]
        for key in keys:
            store.put(key, key.encode())
        assert [store.get(key).body for key in keys] == [key.encode() for key in keys]
        assert keys_of(store.list("")) == sorted(keys)

    def test_long_names(self, store: RemoteStore) -> None:
        """Promise 6: a component may take all of the 1024 bytes."""
        keys = ["x" * 1024, "x" * 1023, "d/" + "é" * 511, "x" * 250, "x" * 251, "x" * 255]
        for key in keys:
            store.put(key, key[-3:].encode())
        assert [store.get(key).body for key in keys] == [key[-3:].encode() for key in keys]
        assert keys_of(store.list("")) == sorted(keys)
        assert keys_of(store.list("x" * 252)) == sorted(k for k in keys if k.startswith("x" * 252))

    def test_names_that_are_refused(self, store: RemoteStore) -> None:
        """Promise 6: a name on which stores disagree is refused, by every call and for one reason."""
        store.put("k", b"body")
        for key in _BAD_KEYS:
            for call in (
                lambda key: store.put(key, b"bad"),
                store.get,
                store.head,
                lambda key: store.delete([key]),
                lambda key: store.copy("k", key),
                lambda key: store.copy(key, "k"),
            ):
                with pytest.raises(StoreError) as caught:
                    call(key)
                assert not isinstance(caught.value, ObjectNotFound)
        assert keys_of(store.list("")) == ["k"]
        assert store.get("k").body == b"body"
