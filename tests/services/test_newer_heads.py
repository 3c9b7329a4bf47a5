"""Heads of later versions: what this one does not know it carries along, or leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import cbor2
import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.head import decode_head
from ebooklet.database import EBooklet
from ebooklet.errors import UnsupportedFormatError
from tests.core.test_head_codec import FRAME, reframe

# A map with a float, a null and an undefined, as no field of ours has them.
UNKNOWN: Final = b"\xa2\x00\xfb\x40\x09\x21\xfb\x54\x44\x2d\x18aa\x82\xf6\xf7"


def newer(store: MemoryRemoteStore, **frame: int) -> None:
    """Have the head be one that a later version has written."""
    data = store.get("db").body
    fields = cbor2.loads(data[FRAME.size : -32]) | {77: cbor2.loads(UNKNOWN)}
    store.put("db", reframe(data, body=cbor2.dumps(fields, canonical=True), **frame))


@pytest.fixture
def store() -> MemoryRemoteStore:
    """With a database of two commits."""
    store = MemoryRemoteStore()
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as db:
        for n in range(2):
            db["k"] = n
            assert db.push()
    return store


def test_an_older_writer_drops_nothing(store: MemoryRemoteStore) -> None:
    """FORMAT 10.19: unknown fields, byte for byte, and optional bits outlive all that writes heads.

    Fails without: `join_unknown` where a head is encoded.
    """
    newer(store, minor=9, optional=0x50)
    steps: list[Callable[[EBooklet[Any]], object]] = [
        lambda db: db.update(k="pushed"),
        lambda db: db.tag("tag"),
        lambda db: db.branch("branch"),
        lambda db: db.delete_branch("branch"),
        lambda db: db.compact(),
        lambda db: db.gc(grace=timedelta(0)),
        lambda db: db.clear(),
    ]
    before = store.get("db").body
    with ebooklet.open(store, None, "w", lock="optimistic") as db:
        for step in steps:
            step(db)
            db.push(force_push=True)
            data = store.get("db").body
            assert data != before
            before = data
            head = decode_head(data, key="db")
            assert head.unknown == {77: UNKNOWN}
            assert (head.minor, head.optional_bits) == (9, 0x50)


@pytest.mark.parametrize(
    ("frame", "flags"),
    [({"required": 1 << 20}, "wcn"), ({"required": 1 << 31}, "rwcn"), ({"major": 2}, "rwcn")],
    ids=["bit 20", "bit 31", "major 2"],
)
def test_what_must_be_known_is_refused(
    store: MemoryRemoteStore, frame: dict[str, int], flags: str
) -> None:
    """FORMAT 10.19: an unknown required bit forbids writing, bit 31 and another major reading too.

    Also to who has the database open when it comes.

    Fails without: the reason in the head that is looked at before an attempt; before a change of
    names; before a collection; at open.
    """
    with ebooklet.open(store, None, "w", lock="optimistic") as db:
        newer(store, **frame)
        before = store.get("db").body
        db["k"] = "mine"
        for write in (db.push, lambda: db.push(force_push=True), lambda: db.tag("tag"), db.gc):
            with pytest.raises(UnsupportedFormatError):
                write()
        assert [change["key"] for change in db.changes()] == ["k"]
    for flag in flags:
        with pytest.raises(UnsupportedFormatError):
            ebooklet.open(store, None, flag, lock="optimistic")  # type: ignore[call-overload]  # a flag each
    if "r" not in flags:
        with ebooklet.open(store, None, "r") as reader:
            assert dict(reader.items()) == {"k": 1}
    assert store.get("db").body == before
