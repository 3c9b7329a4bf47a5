"""Old objects, flipped bits and servers that misread a range: the right value, or an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from ebooklet.errors import EBookletError, RemoteIntegrityError, RemoteRewound
from ebooklet.services.entries import entries_of
from ebooklet.services.fetching import fetch_values
from ebooklet.testing.faulty import StoreFault, StoreRule
from tests.hostile.worlds import HEADS, Mode, World

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONTENT: Final[dict[str, Any]] = {"inline": 1, "a": "v" * 80, "b": "w" * 90}


def made(folder: Path, mode: Mode) -> World:
    """A small database with values in the index and in a segment, and some history."""
    world = World(folder, mode)
    with world.open("a") as db:
        db["a"] = "old" * 30
        db.push()
        db.update(CONTENT)
        db.push()
    return world


def seen(world: World, version: int | None) -> tuple[object, ...]:
    """All that is read of a version."""
    with world.look(version) as db:
        base = db._copy.base
        assert base is not None
        return dict(db.items()), dict(db.timestamps()), base.head


@pytest.mark.parametrize("mode", ["cas", "lock"])
def test_every_flipped_bit(tmp_path: Path, mode: Mode) -> None:
    """FORMAT 10.15: one bit of any byte is wrong: never a wrong value, time or head is believed.

    Nor does a foreign exception come out. Fails without: the digest of values; the digest of values
    that are read in bulk; the checksum of nodes; the hash of the head.
    """
    world = made(tmp_path, mode)
    store = world.store.inner
    objects = sorted(meta.key for meta in store.list("db"))
    older = next(key for key in objects if ".d/" in key)  # its node is in no head
    if mode == "lock":
        objects = list(HEADS)  # segments are what they are in mode cas
    noticed = 0
    for key in objects:
        version = 1 if key == older else None
        right = seen(world, version)
        whole = store.get(key).body
        for at in range(len(whole)):
            store.put(key, whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
            try:
                assert seen(world, version) == right
            except EBookletError:
                noticed += 1
        store.put(key, whole)
    assert (noticed > 100) == (mode == "cas")  # of two heads one is whole
    assert seen(world, None)[0] == CONTENT


@pytest.mark.parametrize("back", [1, 2, 3])
def test_a_stale_head_is_not_written_over(tmp_path: Path, back: int) -> None:
    """FORMAT 10.14: where conditions hold, who is shown an old head for good cannot commit on it.

    One that saw a later head says that the remote was rewound.

    Fails without: comparing the seq with the last that was seen; the condition on the head's put.
    """
    world = made(tmp_path, "cas")
    with world.open("a") as db:
        for n in range(2):
            db["n"] = n
            db.push()
    for who in ("a", "fresh"):
        rule = StoreRule(StoreFault.STALE, op="get", key="db", times=None, amount=back)
        world.store.add(rule)
        if who == "a":
            with pytest.raises(RemoteRewound):
                world.open(who)
        else:
            with world.open(who) as db:
                db["mine"] = back
                with pytest.raises(EBookletError):
                    db.push()
        world.store.clear()
    with world.open("fresh") as db:
        assert db["n"] == 1
        assert db.push().updated
    with world.open("a") as db:
        assert dict(db.items()) == {**CONTENT, "n": 1, "mine": back}


@pytest.mark.parametrize("copy", HEADS)
@pytest.mark.parametrize("back", [1, 2])
def test_one_stale_copy_is_outvoted(tmp_path: Path, copy: str, back: int) -> None:
    """FORMAT 10.14: in mode lock the newer of the two copies counts.

    Fails without: comparing the copies by their seq.
    """
    world = made(tmp_path, "lock")
    world.store.add(StoreRule(StoreFault.STALE, op="get", key=copy, times=None, amount=back))
    with world.open("b") as db:
        assert dict(db.items()) == CONTENT


@pytest.mark.parametrize("back", [1, 2, 5])
def test_a_stale_list_lets_nobody_in(tmp_path: Path, back: int) -> None:
    """FORMAT 10.14: a ticket that is not listed yet is not held: who queues waits to see its own.

    Fails without: asking again where a listing lacks our own ticket.
    """
    world = made(tmp_path, "lock")
    world.store.add(StoreRule(StoreFault.STALE, op="list", times=4, amount=back))
    with world.open("a") as db:
        db["n"] = 1
        assert db.push()
    with world.open("b", "r") as db:
        assert dict(db.items()) == {**CONTENT, "n": 1}


SHAPES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "short": lambda body: body[:-1],
    "empty": lambda _: b"",
    "long": lambda body: body + b"\0",
    "shifted": lambda body: body[1:] + body[:1],
    "gzip": lambda body: b"\x1f\x8b" + body[2:],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_parts_that_are_not_what_was_asked_for(
    tmp_path: Path, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORMAT 10.15: an answer short, long, from elsewhere or packed is `RemoteIntegrityError`.

    Fails without: the digest of values.
    """
    world = made(tmp_path, "cas")
    get = world.store.get

    def misread(key: str, *, start: int = 0, stop: int | None = None) -> Any:
        found = get(key, start=start, stop=stop)
        return found if key == "db" else found.__class__(SHAPES[shape](found.body), found.meta)

    monkeypatch.setattr(world.store, "get", misread)
    with world.look() as db:
        assert db["inline"] == 1
        with pytest.raises(RemoteIntegrityError):
            db["a"]


def test_a_value_that_no_file_could_hold_is_not_asked_for(tmp_path: Path) -> None:
    """An index that claims terabytes costs no request. Fails if a claimed length is believed."""
    world = made(tmp_path, "cas")
    with world.look() as db:
        assert db["a"] == CONTENT["a"]
        (entry,) = entries_of(db._copy, ["b"]).values()
        assert entry.place is not None
        huge = entry._replace(length=1 << 40, place=entry.place._replace(length=1 << 40))
        asked = len(world.store.calls)
        ((_, found),) = fetch_values(db._copy, [huge])
        assert isinstance(found, RemoteIntegrityError)
        assert len(world.store.calls) == asked
