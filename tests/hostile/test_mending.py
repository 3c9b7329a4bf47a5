"""Mode lock: `fsck(repair=True)` brings both copies of the head to the newer whole one (§6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.core.head import Proto, decode_head
from ebooklet.errors import LockLostError
from ebooklet.services.fsck.examining import examine
from ebooklet.services.fsck.repairing import repair
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.headcopies import HeadCopies
from ebooklet.services.place import RemotePlace
from tests.hostile.worlds import HEADS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A database on a server that ignores conditions, with two acknowledged pushes."""
    world = World(tmp_path, "lock")
    with world.open("a") as db:
        for k in range(2):
            db["k"] = k
            assert db.push()
    return world


def place_in(world: World) -> RemotePlace:
    locks = TicketLockService(world.store, world.clock, TicketTiming(background=False))
    return RemotePlace(
        store=world.store,
        db_key="db",
        clock=world.clock,
        locks=lambda _: locks,
        probe=lambda: Proto("lock"),
        owned=False,
    )


def repaired(world: World) -> FsckReport:
    return repair(place_in(world), min_age_ms=0, lock_timeout=60)


@pytest.mark.parametrize("which", HEADS)
def test_a_copy_that_is_not_whole(world: World, which: str) -> None:
    """Missing, cut or flipped, it is reported, and written anew from the other."""
    whole = world.heads()
    body = whole[which]
    for wreck in (None, b"", body[:9], body[:-1], body[:99] + b"!" + body[100:]):
        if wreck is None:
            world.store.inner.delete([which])
        else:
            world.store.inner.put(which, wreck)
        found = examine(place_in(world), min_age_ms=0)
        assert which in found.claimed_but_missing if wreck is None else which in found.damaged
        report = repaired(world)
        assert report.ok
        assert which in report.repaired[0]
        assert world.heads() == whole


@pytest.mark.parametrize("which", HEADS)
def test_a_copy_that_is_older(world: World, which: str) -> None:
    """The newer one wins, whichever it is; an older copy alone is no damage.

    Fails without: comparing the copies by their seq.
    """
    older = world.heads()[which]
    with world.open("a") as db:
        db["k"] = 2
        assert db.push()
    newer = world.heads()
    world.store.inner.put(which, older)
    found = examine(place_in(world), min_age_ms=0)
    assert found.ok
    assert found.behind == (which,)
    assert which in repaired(world).repaired[0]
    assert world.heads() == newer
    assert repaired(world).repaired == ()


def test_another_format_is_left_alone(world: World) -> None:
    """A copy that a newer version may have written is not written over."""
    newer = b"EBKHEAD1" + (2).to_bytes(2, "big") + world.heads()["db"][10:]
    world.store.inner.put("db.alt", newer)
    report = repaired(world)
    assert report.repaired == ()
    assert "newer version" in report.damaged["db.alt"]
    assert world.heads()["db.alt"] == newer


def test_only_who_holds_the_lock_mends(world: World) -> None:
    """A lock that was lost is noticed before anything is written."""
    world.store.inner.put("db", b"")
    before = world.heads()
    with world.open("b", "w") as db:
        assert db.lock is not None
        world.forget_tickets()
        with pytest.raises(LockLostError):
            HeadCopies(world.store, "db", world.clock).mend(db.lock)
        assert world.heads() == before
    assert decode_head(before["db.alt"], key="db.alt").seq == 2
