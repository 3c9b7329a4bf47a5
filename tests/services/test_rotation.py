"""Rotation: the same content under another key, in one commit, whatever happens beside it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import ebooklet
from ebooklet import Encryption, EncryptionError, ReadOnlyError, ReplaceConflict
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import Head, KeyTable, Tag, decode_head
from ebooklet.core.keyring import forget_keys
from ebooklet.core.sealing import key_tag
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag
from ebooklet.testing.records import example_head

KEYS = {"old": bytes(range(32)), "new": bytes(range(1, 33))}
OLD = Encryption(KEYS, current="old")
NEW = Encryption(KEYS, current="new")
ONLY_NEW = Encryption({"new": KEYS["new"]})
CONTENT = {f"key{n:04}": f"{n:04}" * (1 if n % 3 else 40) for n in range(1500)}
METADATA = {"about": "m" * 100_000}  # too much for the head


class Interrupted(MemoryRemoteStore):
    """Calls back, once, when a head is about to be written."""

    before_head: Callable[[], None] | None = None

    def put(self, key: str, body: Any, **options: Any) -> Any:
        if key == "db" and self.before_head is not None:
            call, self.before_head = self.before_head, None
            call()
        return super().put(key, body, **options)


def opened(
    store: MemoryRemoteStore, encryption: Encryption | None, flag: Flag = "w"
) -> EBooklet[Any]:
    return ebooklet.open(store, None, flag, "json", encryption=encryption, lock="optimistic")


def filled() -> Interrupted:
    store = Interrupted()
    with opened(store, OLD, "c") as db:
        db.update(CONTENT)
        db.set_metadata(METADATA)
        assert db.push("first")
    return store


def head_of(store: MemoryRemoteStore) -> Head:
    return decode_head(store.get("db").body, key="db")


def test_everything_current_comes_under_the_new_key() -> None:
    """With equal content and fingerprint; pending changes and older commits stay as they are."""
    store = filled()
    before = head_of(store)
    with opened(store, NEW) as db:
        db["pending"] = 1
        db.set_metadata({"pending": True})
        result = db.rotate_keys("words")
        assert result
        assert {change["key"] for change in db.changes()} == {"pending"}
        assert db.key_ids == ("new", "old")  # the first commit is retained
        assert not db.rotate_keys()
        assert db.fsck(check_objects=True).ok
    after = head_of(store)
    assert after.tip.fingerprint == before.tip.fingerprint
    assert after.tip.root != before.tip.root
    assert after.tip.key_ids == ("new",)
    assert (after.tip.op, after.tip.parents) == ("rotate", (before.branch.commit.id,))
    assert not {row.sid for row in after.tip.segs} & {row.sid for row in before.tip.segs}
    with opened(store, ONLY_NEW, "r") as db:
        assert dict(db.items()) == CONTENT
        assert db.get_metadata() == METADATA


def test_a_key_that_comes_while_the_handle_is_open() -> None:
    """`rotate_keys` asks anew which key is the current one."""
    store = filled()
    keys = Encryption(KEYS, current="old")

    class Source:
        current = "old"
        key = staticmethod(keys.key)

    source = Source()
    with opened(store, source) as db:  # type: ignore[arg-type]  # a KeySource, as any has its shape
        assert not db.rotate_keys()
        source.current = "new"
        assert db.rotate_keys()
    with opened(store, ONLY_NEW, "r") as db:
        assert dict(db.items()) == CONTENT


def test_a_commit_that_wins_the_race_is_kept() -> None:
    """What it set, deleted and restamped is in the rotated snapshot, under the new key."""
    store = filled()
    expected = {**CONTENT, "key0003": "changed" * 20, "added": "a" * 100}
    del expected["key0006"]

    def commit() -> None:
        with opened(store, OLD) as other:
            other["key0003"] = "changed" * 20
            other["added"] = "a" * 100
            del other["key0006"]
            other.set_timestamp("key0009", 77)
            assert other.push()

    with opened(store, NEW) as db:
        store.before_head = commit
        assert db.rotate_keys()
        assert db.fsck(check_objects=True).ok
    with opened(store, ONLY_NEW, "r") as db:
        assert dict(db.items()) == expected
        assert db.get_timestamp("key0009") == 77
        assert db.get_metadata() == METADATA


def test_a_reader_on_the_older_snapshot_goes_on() -> None:
    """Its blocks are still there; a pull finds nothing changed."""
    store = filled()
    with opened(store, NEW, "r") as reader:
        assert reader["key0003"] == CONTENT["key0003"]
        with opened(store, NEW) as db:
            assert db.rotate_keys()
        assert reader["key0006"] == CONTENT["key0006"]
        assert reader.pull().n_changed == 0
        assert dict(reader.items()) == CONTENT


def test_what_cannot_be_rotated() -> None:
    """A plain database, one that was opened for reading, and one about to be replaced."""
    store = filled()
    before = store.get("db").body
    with opened(store, NEW, "r") as db, pytest.raises(ReadOnlyError):
        db.rotate_keys()
    with opened(store, NEW, "n") as db, pytest.raises(ReplaceConflict, match="discard"):
        db.rotate_keys()
    with pytest.raises(EncryptionError, match="missing-one"):
        opened(store, Encryption(KEYS.__getitem__, current="missing-one"))
    assert store.get("db").body == before
    with opened(MemoryRemoteStore(), None, "c") as db, pytest.raises(EncryptionError, match="not"):
        db.rotate_keys()


def test_damage_is_not_carried_over() -> None:
    """A value that cannot be verified stops the rotation, and nothing is committed."""
    store = filled()
    key = next(meta.key for meta in store.list("db.d/"))
    body = bytearray(store.get(key).body)
    body[200] ^= 1
    store.put(key, bytes(body))
    before = store.get("db").body
    with opened(store, NEW) as db, pytest.raises(ebooklet.RemoteIntegrityError):
        db.rotate_keys()
    assert store.get("db").body == before


def test_ids_are_forgotten_with_the_last_commit_that_needs_them() -> None:
    """Without a key; the tip's and the one that the digest key lies under stay in any case."""
    checks = tuple((key_id, bytes(16)) for key_id in ("a", "b", "c", "d"))
    head = example_head()
    head = replace(
        head,
        tip=replace(head.tip, key_ids=("c",)),
        encryption=KeyTable(bytes(16), "d", b"", checks),
    )
    kept = forget_keys(head, {"a"}).encryption
    assert kept is not None
    assert [key_id for key_id, _ in kept.checks] == ["a", "c", "d"]
    assert forget_keys(replace(head, encryption=None), set()).encryption is None
    message = b64encode(bytes([1]) + key_tag("b") + bytes(28)).decode()
    tagged = replace(head, tags={"v": Tag(head.branch.commit, 0, message)})
    kept = forget_keys(tagged, {"a"}).encryption
    assert kept is not None
    assert [key_id for key_id, _ in kept.checks] == ["a", "b", "c", "d"]


def test_a_replacement_keeps_metadata_readable() -> None:
    """They lie under the key they were written with, which the new commit therefore lists."""
    store = filled()
    with opened(store, NEW, "n") as db:
        db["only"] = "x" * 100
        assert db.push()
    assert head_of(store).tip.key_ids == ("new", "old")
    with opened(store, NEW) as db:
        assert db.rotate_keys()
    with opened(store, ONLY_NEW, "r") as db:
        assert db.get_metadata() == METADATA
        assert dict(db.items()) == {"only": "x" * 100}


def test_an_id_that_cannot_be_told_from_another_is_refused() -> None:
    """Blocks name keys by 4 bytes: which key one lies under must never be a guess."""
    alike = "key-22641", "key-93367"
    assert key_tag(alike[0]) == key_tag(alike[1])
    keys = dict.fromkeys(alike, KEYS["old"])
    store = MemoryRemoteStore()
    with opened(store, Encryption(keys, current=alike[0]), "c") as db:
        assert db.push()
    with pytest.raises(EncryptionError, match="choose another id") as caught:
        opened(store, Encryption(keys, current=alike[1]))
    assert caught.value.key_id == alike[1]


def test_a_push_that_loses_to_a_rotation_leaves_nothing_under_the_older_key() -> None:
    """Who follows the head's key seals anew what an attempt before had laid down under another."""
    store = filled()

    def rotate() -> None:
        with opened(store, NEW) as other:
            assert other.rotate_keys()

    follower = Encryption(KEYS)  # no current key of its own
    with opened(store, follower) as db:
        db["late"] = "l" * 100
        store.before_head = rotate
        assert db.push()
    assert head_of(store).tip.key_ids == ("new",)
    with opened(store, ONLY_NEW, "r") as db:
        assert dict(db.items()) == {**CONTENT, "late": "l" * 100}


def test_a_rotation_that_meets_a_third_key_moves_everything_under_it() -> None:
    """What its record says of keys holds for what an attempt before it had moved as well."""
    store = filled()
    keys = {**KEYS, "third": bytes(range(2, 34))}
    with opened(store, NEW) as db:
        db["between"] = 1
        assert db.push()

    def push() -> None:
        with opened(store, Encryption(keys, current="third")) as other:
            other["late"] = "l" * 100
            assert other.push()

    with opened(store, Encryption(keys)) as db:
        store.before_head = push
        assert db.rotate_keys()
    assert head_of(store).tip.key_ids == ("third",)
    with opened(store, Encryption({"third": keys["third"]}), "r") as db:
        assert dict(db.items()) == {**CONTENT, "between": 1, "late": "l" * 100}
        assert db.get_metadata() == METADATA
