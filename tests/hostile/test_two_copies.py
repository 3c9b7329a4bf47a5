"""Mode lock: failing writes that damage the head, late ones, and what both copies are for (§6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebooklet.errors import (
    LockLostError,
    OutcomeUnknown,
    RemoteIntegrityError,
    RemoteUnavailable,
    UnsupportedFormatError,
)
from ebooklet.services.heads import HeadStore
from ebooklet.testing.faulty import StoreFault, StoreRule
from tests.hostile.worlds import HEADS, Killed, World, pushed_world

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A database on a server that ignores conditions, with one acknowledged push."""
    return pushed_world(tmp_path, "lock")


def push_and_die(world: World, who: str, key: str, value: int, rule: StoreRule) -> None:
    """The client dies with the write that the rule strikes."""
    db = world.open(who)
    db[key] = value
    world.store.add(rule)
    world.store.dying = lambda: world.kill(who)
    with pytest.raises(Killed):
        db.push()
    world.bury(db)
    world.store.dying = None
    world.store.clear()


@pytest.mark.parametrize("which", HEADS)
def test_any_length_of_either_copy(world: World, which: str) -> None:
    """FORMAT 10.13: whatever a failing write leaves of one copy, the head is read from the other.

    Fails without: going on to the second copy where the first is damaged.
    """
    heads = HeadStore(world.store, "db", world.clock, lambda *_: False)
    whole = world.heads()[which]
    for n in range(len(whole)):
        world.store.inner.put(which, whole[:n])
        found = heads.read()
        assert found is not None
        assert found.data == whole
    world.store.inner.delete([which])
    with world.open("b") as db:
        assert db["k"] == 1


@pytest.mark.parametrize("left", [None, 0, 40], ids=["nothing", "empty", "cut"])
def test_the_only_whole_copy_is_not_put_at_risk(world: World, left: int | None) -> None:
    """FORMAT 10.13: two clients die one after the other, each in a write that damages its copy.

    What the second one found, and may have been told of as committed, stands.

    Fails without: mending the first copy before the second is written.
    """

    def damage(key: str) -> StoreRule:
        fault = StoreFault.VANISH if left is None else StoreFault.TRUNCATE
        return StoreRule(fault, op="put", key=key, amount=left or 0)

    push_and_die(world, "a", "k", 2, damage("db"))
    with world.open("b") as db:
        assert db["k"] == 2
    with world.open("a") as db:
        assert not db.push().updated  # it has landed, so this is an acknowledgement
    push_and_die(world, "b", "j", 3, damage("db.alt"))
    with world.open("fresh") as db:
        assert db["k"] == 2
        assert db.push(force_push=True).updated
    with world.open("b") as db:
        db.push()
    with world.open("fresh", "r") as db:
        assert dict(db.items()) == {"k": 2, "j": 3}


@pytest.mark.parametrize("which", HEADS)
def test_a_head_write_is_not_repeated_without_the_lock(world: World, which: str) -> None:
    """Who lost the lock while a head write failed leaves both copies to the next holder.

    Fails if the write is repeated before the lock is asked for again.
    """

    def others() -> None:
        with world.open("b", force_lock=True) as quick:
            quick["quick"] = 3
            assert quick.push()

    slow = world.open("a")
    slow["slow"] = 2
    world.store.add(StoreRule(StoreFault.REFUSE, op="put", key=which, then=others))
    with pytest.raises(LockLostError):
        slow.push()
    assert len(set(world.heads().values())) == 1
    slow.close()
    with world.open("a") as slow:
        slow.push()
        assert dict(slow.items()) == {"k": 1, "quick": 3, "slow": 2}


def test_what_was_cleared_does_not_come_back(world: World) -> None:
    """A clear after a push that nobody has seen stand is still pending at the next open.

    Fails if the journal still says of that push's keys that they are to be pushed.
    """
    db = world.open("a", "n")
    db.update({"k": 2, "j": 3})
    assert db.push()
    db.clear()
    db["k"] = 4
    world.store.add(StoreRule(StoreFault.REFUSE, op="get", times=None))
    db.close()
    world.store.clear()
    with world.open("a") as db:
        assert dict(db.items()) == {"k": 4}
        assert db.push()
    with world.open("fresh", "r") as db:
        assert dict(db.items()) == {"k": 4}


@pytest.mark.parametrize("which", HEADS)
@pytest.mark.parametrize("settled", [True, False], ids=["settled", "not settled"])
def test_a_head_write_that_arrives_after_a_later_commit(
    world: World, which: str, settled: bool
) -> None:
    """FORMAT 10.10: the other copy has the later commit; both find theirs, and a push mends.

    Fails without: the second copy of a commit; comparing the copies by their seq.
    """
    late = world.store.add(StoreRule(StoreFault.HOLD, op="put", key=which, times=5))
    with world.open("a") as slow:
        slow["slow"] = 2
        with pytest.raises((OutcomeUnknown, RemoteUnavailable)):
            slow.push()
        assert late.struck == 5
        world.store.clear()
    quick = world.open("b")
    quick["quick"] = 3
    assert quick.push()
    if settled:
        quick.close()
    assert world.store.release_held() == 5
    if not settled:
        quick.pull()
        assert quick["quick"] == 3
        quick.close()
    for who in ("a", "b"):
        with world.open(who) as db:
            db.push(force_push=True)
    assert len(set(world.heads().values())) == 1
    with world.open("fresh", "r") as db:
        assert dict(db.items()) == {"k": 1, "slow": 2, "quick": 3}


def lose(world: World, heads: dict[str, bytes]) -> None:
    """Both copies fall back to what they were."""
    for key, body in heads.items():
        world.store.inner.put(key, body)


@pytest.mark.parametrize("how", ["open", "reopen", "pull", "push"])
def test_who_has_seen_a_head_that_is_lost_writes_it_again(world: World, how: str) -> None:
    """Both copies fall back over commits of others, seen to stand long ago: all of them come back.

    With a warning. A reader goes on with what it has seen, so that a later writer still knows it.
    Fails if the older head is taken for the newest there is.
    """
    old = world.heads()
    for who in ("a", "b"):
        with world.open(who) as db:
            db[who] = 2
            assert db.push()
    with world.open("b"):
        lost = world.heads()
    last = world.open("b") if how in ("pull", "push") else None
    lose(world, old)
    if last is None:
        with pytest.warns(UserWarning, match="fell back"):
            last = world.open("b", "w" if how == "open" else "r")
        assert (world.heads() == lost) == (how == "open")
        assert dict(last.items()) == {"k": 1, "a": 2, "b": 2}
    if how == "reopen":
        with pytest.warns(UserWarning, match="written again"):
            last.reopen("w")
    elif how == "pull":
        with pytest.warns(UserWarning, match="written again"):
            assert not last.pull()
    if how != "push":
        assert world.heads() == lost
    assert not last.changes()
    last["mine"] = 3
    assert last.push()
    last.close()
    with world.look() as fresh:
        assert dict(fresh.items()) == {"k": 1, "a": 2, "b": 2, "mine": 3}
        assert fresh.fsck(check_objects=True).ok


@pytest.mark.parametrize("n_lost", [1, 2])
def test_a_lost_head_is_not_written_over_what_came_since(world: World, n_lost: int) -> None:
    """Somebody who knows nothing has committed on the older head: both stand, by the journal.

    Fails if a remembered head goes over one that it does not contain.
    """
    old = world.heads()
    db = world.open("a")
    for n in range(n_lost):
        db["a"] = n
        assert db.push()
    world.forget_tickets()
    lose(world, old)
    with world.open("fresh") as other:
        other["b"] = 2
        assert other.push()
    db.close()  # finds its commit gone, and keeps that in mind
    with world.open("a") as db:
        assert [change["key"] for change in db.changes()] == ["a"]
        assert db.push()
    with world.look() as fresh:
        assert dict(fresh.items()) == {"k": 1, "a": n_lost - 1, "b": 2}


def test_a_lost_head_without_its_segments_stays_lost(world: World) -> None:
    """What it needs is gone as well: nothing is written that names it.

    Fails if a head is written again without a look at what it needs.
    """
    old, before = world.heads(), {meta.key for meta in world.store.inner.list("db.d/")}
    with world.open("a") as db:
        db["a"] = "v" * 100
        assert db.push()
    lose(world, old)
    world.store.inner.delete(
        {meta.key for meta in world.store.inner.list("db.d/")}.difference(before)
    )
    with world.open("a") as db:
        assert world.heads() == old
        assert dict(db.items()) == {"k": 1}


def test_both_copies_lost_is_said_and_healed_by_who_has_not_settled(world: World) -> None:
    """A late write undoes a commit in both copies, before its author looked again: it comes back.

    Where the head itself cannot come back, as its segments went too, with a warning that the remote
    fell back. Fails if an answered head write counts as proof.
    """
    old, before = world.heads(), {meta.key for meta in world.store.inner.list("db.d/")}
    db = world.open("a")
    db["k"] = 2
    assert db.push()
    lose(world, old)
    world.store.inner.delete(
        {meta.key for meta in world.store.inner.list("db.d/")}.difference(before)
    )
    with pytest.warns(UserWarning, match="fell back"):
        db.pull()
    assert [change["key"] for change in db.changes()] == ["k"]
    assert db.push()
    db.close()
    with world.open("fresh", "r") as fresh:
        assert fresh["k"] == 2


@pytest.mark.parametrize("found", [b"", b"EBKHEAD1", b"EBKHEAD1" + bytes(100)])
def test_nobody_creates_a_database_over_damage(world: World, found: bytes) -> None:
    """FORMAT 10.13: where both copies are damaged every flag is refused, and what lies there stays.

    Fails without: raising the damage where no copy is whole, which is no absence.
    """
    for key in HEADS:
        world.store.inner.put(key, found)
    for flag in "rwcn":
        with pytest.raises((RemoteIntegrityError, UnsupportedFormatError)):
            world.open("b", flag)
    assert set(world.heads().values()) == {found}
