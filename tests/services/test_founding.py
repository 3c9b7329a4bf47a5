"""Several who create one database at once: the first to push founds it, and the others join."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.core.names import segment_key
from ebooklet.database import EBooklet
from ebooklet.errors import (
    ConflictError,
    EncryptionError,
    LockLostError,
    RemoteMissingError,
    UUIDMismatchError,
)
from ebooklet.services.heads import HeadStore
from tests.hostile.worlds import Mode, World

KEYS = ebooklet.Encryption({"a": b"k" * 32}, "a")
LARGE = "x" * 100_000


def founder(world: World, **options: Any) -> EBooklet[Any]:
    """Somebody who creates the database, without a local file."""
    options = {"value_serializer": "json", "lock": "optimistic", **options}
    return ebooklet.open(world.store, None, "c", clock=world.clock, **options)


def found(world: World, **content: Any) -> None:
    """Create the database, and push this to it."""
    with founder(world) as db:
        db.update(content)
        assert db.push()


def changed(db: EBooklet[Any]) -> dict[str, str]:
    return {change["key"]: change["kind"] for change in db.changes()}


@pytest.mark.parametrize(
    ("mode", "lock", "where"),
    [
        ("cas", "optimistic", "push"),
        ("cas", "exclusive", "push"),
        ("cas", "optimistic", "pull"),
        ("cas", "exclusive", "open"),
        ("lock", "optimistic", "push"),
        ("lock", "optimistic", "open"),
        ("lock", "exclusive", "open"),
    ],
)
def test_who_comes_second_joins(tmp_path: Path, mode: Mode, lock: str, where: str) -> None:
    """Whatever it had pending is pushed on top of what is there, and the file is one of its halves.

    Fails without: the uuid taken over, at open and when the head is met.
    """
    world = World(tmp_path, mode)
    second = world.open("second", lock=lock)
    second.update({"mine": LARGE, "both": 1})
    second["gone"] = 1
    del second["gone"]
    if where == "open":
        second.close()
    found(world, theirs=2, both=1, gone=3)
    if where == "open":
        second = world.open("second", "w", lock=lock)
    if where == "pull":
        assert second.pull()
    if where != "push":
        assert changed(second) == {"mine": "added"}
    assert second.push()
    everything = {"mine": LARGE, "theirs": 2, "both": 1, "gone": 3}
    assert dict(second.items()) == everything
    assert second.fsck(check_objects=True).ok
    second.close()
    with world.look() as db, world.open("second", "r") as half:
        assert dict(db.items()) == dict(half.items()) == everything
        assert half.uuid == db.uuid
    assert len(set(world.heads().values())) == 1


def test_conflicts_go_by_the_policy(tmp_path: Path) -> None:
    """Keys that both created are in conflict, nothing of ours is dropped, and metadata are told of."""
    world = World(tmp_path, "cas")
    with world.open("second") as db:
        db.update({"k": 1, "mine": 1})
        db.set_metadata("ours")
        with founder(world) as other:
            other["k"] = 2
            other.set_metadata("theirs")
            assert other.push()
        with (
            pytest.warns(UserWarning, match="metadata changed both"),
            pytest.raises(ConflictError) as caught,
        ):
            db.push()
        assert caught.value.keys == ("k",)
        assert changed(db) == {"k": "modified", "mine": "added"}
        assert db.push(conflict=lambda key, base, ours, theirs: [str(base), ours, theirs])
        assert dict(db.items()) == {"k": ["ebooklet.ABSENT", 1, 2], "mine": 1}
    with world.look() as db:
        assert db.get_metadata() == "ours"


@pytest.mark.parametrize(("mode", "encryption"), [("cas", None), ("cas", KEYS), ("lock", None)])
def test_what_was_uploaded_is_laid_down_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, encryption: Any
) -> None:
    """Segments name the database they are of, and are sealed for it alone.

    Fails without: forgetting what the attempt before had placed.
    """
    world = World(tmp_path, mode)
    commit = HeadStore.commit

    with (
        world.open("second", lock="optimistic", encryption=encryption) as db,
        founder(world, encryption=encryption) as other,
    ):

        def late(self: HeadStore, *args: Any) -> Any:
            monkeypatch.setattr(HeadStore, "commit", commit)
            world.forget_tickets()
            other["theirs"] = 1
            assert other.push()
            return commit(self, *args)

        db["mine"] = LARGE
        monkeypatch.setattr(HeadStore, "commit", late)
        if mode == "lock":
            with pytest.raises(LockLostError):
                db.push()
            assert changed(db) == {"mine": "added"}
        assert db.push()
        assert db.fsck(check_objects=True).ok
        assert db._copy.base is not None
        for row in db._copy.base.commit.segs:
            segment = world.store.inner.get(segment_key("db", row.sid)).body
            assert segment[12:28] == db.uuid.bytes
    with ebooklet.open(world.store, None, "r", clock=world.clock, encryption=encryption) as db:
        assert dict(db.items()) == {"mine": LARGE, "theirs": 1}


def test_a_kill_after_joining_loses_nothing(tmp_path: Path) -> None:
    """What was pending before is pending after, whichever database the file is a half of by then."""
    world = World(tmp_path, "cas")
    db = world.open("second")
    db.update({"mine": 1, "more": 2})
    db.set_metadata("ours")
    db.sync()
    found(world, theirs=1)
    db._copy.local.adopt_uuid(world.look().uuid)
    world.kill("second")
    world.bury(db)
    db = world.open("second")
    assert changed(db) == {"mine": "added", "more": "added"}
    assert db.push()
    db.close()
    with world.look() as db:
        assert dict(db.items()) == {"mine": 1, "more": 2, "theirs": 1}
        assert db.get_metadata() == "ours"


@pytest.mark.parametrize("how", ["pushed", "folder lost", "another place", "flag n", "reader"])
def test_others_keep_the_error(tmp_path: Path, how: str) -> None:
    """A file that was in step with a database once, or may have been, joins no other.

    Fails without: the note of the place that it was made for, or the look at what it was in step
    with.
    """
    world = World(tmp_path, "cas")
    first = MemoryRemoteStore() if how == "another place" else world.store
    path = tmp_path / "half.blt"
    flag: Any = "n" if how == "flag n" else "c"
    with ebooklet.open(first, path, flag, "json", clock=world.clock, lock="optimistic") as db:
        db["mine"] = 1
        if how == "pushed":
            assert db.push()
            world.store.delete(["db"])
    if how == "folder lost":
        shutil.rmtree(tmp_path / "half.blt.ebk")
    found(world, theirs=1)
    flag = "r" if how == "reader" else "w"
    with pytest.raises(UUIDMismatchError):
        ebooklet.open(world.store, path, flag, clock=world.clock, lock="optimistic")
    with ebooklet.open(None, path, "r") as db:
        assert dict(db.items()) == {"mine": 1}


@pytest.mark.parametrize(
    ("where", "ours", "theirs", "error"),
    [
        ("push", {}, {"value_serializer": "pickle"}, UUIDMismatchError),
        ("open", {}, {"value_serializer": "pickle"}, UUIDMismatchError),
        ("push", {}, {"value_serializer": None, "remote_conn_group": True}, UUIDMismatchError),
        ("push", {}, {"encryption": KEYS}, EncryptionError),
        ("open", {"encryption": KEYS}, {}, EncryptionError),
    ],
)
def test_a_database_of_another_kind_is_not_joined(
    tmp_path: Path, where: str, ours: dict[str, Any], theirs: dict[str, Any], error: type[Exception]
) -> None:
    """Values that it could not hold are no part of it: both sides stay what they are."""
    world = World(tmp_path, "cas")
    db = world.open("second", **ours)
    uuid = db.uuid
    db["mine"] = 1
    if where == "open":
        db.close()
    with founder(world, **theirs) as other:
        assert other.push()
    head = world.heads()
    if where == "push":
        with pytest.raises(error):
            db.push()
        assert db.uuid == uuid
        db.close()
    else:
        for options in ({}, ours):
            with pytest.raises(error):
                world.open("second", "w", **options)
    assert world.heads() == head
    with ebooklet.open(None, world.path("second"), "r", **ours) as half:
        assert (half.uuid, dict(half.items())) == (uuid, {"mine": 1})


def test_who_has_not_joined_yet_is_told_to_push(tmp_path: Path) -> None:
    """A name is given to commits of the database that is there once its founder has joined it."""
    world = World(tmp_path, "cas")
    with founder(world) as second:
        second["mine"] = 1
        found(world, theirs=2)
        with pytest.raises(RemoteMissingError, match="joins it"):
            second.tag("first")
        assert second.push()
        second.tag("first")
        assert set(second.tags()) == {"first"}
