"""Killed after metadata were discarded: what is stored of them is no change (`tests/state`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebooklet.errors import OutcomeUnknown
from ebooklet.testing.faulty import StoreFault, StoreRule
from tests.hostile.worlds import World, pushed_world

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A database without metadata."""
    return pushed_world(tmp_path, "cas")


def test_metadata_that_were_discarded_before_their_push_arrived(world: World) -> None:
    """The push lands after all, and is what stands: a kill later on deletes nothing by it.

    Fails if settling that push leaves what was discarded in the local file.
    """
    db = world.open("a")
    db.set_metadata({"n": 1})
    world.store.add(StoreRule(StoreFault.HOLD, op="put", key="db", times=None))
    with pytest.raises(OutcomeUnknown):
        db.push()
    world.store.clear()
    db.discard()
    assert world.store.release_held()
    db.close()
    db = world.open("a")
    assert db.get_metadata() == {"n": 1}
    db["k"] = 2
    assert len(list(db.timestamps())) == 1  # by now it is in the file, of which nothing says so
    world.kill("a")
    world.bury(db)
    with world.open("a") as db:
        assert db.push()
    with world.look() as db:
        assert db.get_metadata() == {"n": 1}


def test_the_first_metadata_ever_discarded(world: World) -> None:
    """Nothing is pending after a kill either.

    Fails if the null that stands for none in the local file counts as a change.
    """
    db = world.open("a")
    db.set_metadata({"n": 1})
    db.discard()
    db["k"] = 2
    assert len(list(db.timestamps())) == 1
    world.kill("a")
    world.bury(db)
    with world.open("a") as db:
        assert db.get_metadata() is None
        db.discard(["k"])
        assert not db.changes()
