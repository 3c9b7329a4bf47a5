"""What was taken for pending without a look at the index, because that could not be asked."""

from __future__ import annotations

from pathlib import Path

import booklet
import pytest

from ebooklet.testing.faulty import StoreFault, StoreRule

from .test_lost_answers import World


@pytest.mark.filterwarnings("ignore:opened offline:UserWarning")
@pytest.mark.filterwarnings("ignore:an earlier session opened:UserWarning")
def test_a_refill_after_a_clear_keeps_what_is_equal(tmp_path: Path) -> None:
    """The base has the same value and time, but all that it has is to be replaced."""
    world = World(tmp_path)
    with world.open(flag="c") as db:
        db.update({f"other{n}": n for n in range(700)})
        db.set("k", "v" * 100, timestamp=5)
        db.push()
    with world.open("b") as db:
        assert db["k"] == "v" * 100
    with booklet.open(tmp_path / "b.blt", "w") as file:
        file.set("edited", "with Booklet")
    (tmp_path / "b.blt.ebk" / "nodes").unlink()  # the index as it was cached
    world.store.add(StoreRule(StoreFault.REFUSE, times=None))
    with world.open("b", offline="auto") as db:
        db.clear()
        db.set("k", "v" * 100, timestamp=5)
    world.store.clear()
    with world.open("b") as db:
        assert db.push().updated
        assert set(db) == {"k"}
    with world.open("fresh", "c") as fresh:
        assert dict(fresh.items()) == {"k": "v" * 100}
