"""Optimistic writers: the lock at the push alone in mode lock, a courtesy in mode cas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebooklet.adapters.locks.lease import LeaseLockService
from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.core import tiers
from ebooklet.database import EBooklet
from ebooklet.errors import LockLostError, LockTimeout
from ebooklet.ports.lock_service import Lease
from ebooklet.services import turns
from ebooklet.services.fencing import raise_fence
from ebooklet.services.heads import HeadStore
from ebooklet.services.maintenance import compaction
from ebooklet.services.maintenance.compaction import Compaction
from tests.hostile.worlds import World

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

LARGE = "x" * 100_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A server that ignores conditions, with a database on it."""
    world = World(tmp_path, "lock")
    with optimistic(world, "first") as db:
        db["common"] = 0
        assert db.push()
    world.store.calls.clear()
    return world


def optimistic(world: World, name: str, flag: Any = "c", **options: Any) -> EBooklet[Any]:
    return world.open(name, flag, lock="optimistic", **options)


def tickets(world: World) -> set[str]:
    """Whose lock objects there are."""
    return {meta.key[:-2] for meta in world.store.inner.list("db.lock.")}


def writes(world: World) -> list[str]:
    """The objects written since the last look."""
    keys = [call.key for call in world.store.calls if call.op == "put"]
    world.store.calls.clear()
    return keys


@pytest.fixture
def three(world: World) -> Iterator[list[EBooklet[Any]]]:
    """Writers of one database, all of them open."""
    dbs = [optimistic(world, name) for name in "abc"]
    yield dbs
    for db in dbs:
        db.close()


def test_any_number_may_be_open(world: World, three: list[EBooklet[Any]]) -> None:
    """None of them holds anything; each push takes in what the others did, and gives the lock back.

    Mutation: taking the lock at open, or keeping it after a push, fails this.
    """
    assert not tickets(world)
    for round_ in range(2):
        for n, db in enumerate(three):
            assert db.lock is None
            db[f"{n}/{round_}"] = round_
            assert db.push()
            assert not tickets(world)
    seen = {"common": 0} | {f"{n}/{round_}": round_ for n in range(3) for round_ in range(2)}
    with world.look() as db:
        assert dict(db.items()) == seen
    three[0].pull()
    assert dict(three[0].items()) == seen
    assert len(set(world.heads().values())) == 1


def test_the_head_moves_under_the_lock_alone(world: World, three: list[EBooklet[Any]]) -> None:
    """Values go up before it is taken; both copies of the head are written while it is held, and
    name its token. A push with nothing to do takes none.

    Mutation: composing the head before the turn, without the token, fails this.
    """
    db = three[0]
    db["large"] = LARGE
    writes(world)
    assert db.push()
    kinds = ["ticket" if ".lock." in key else key[:4] for key in writes(world)]
    assert kinds[0] == "db.d"
    assert [kind for kind in kinds if kind != "ticket"] == ["db.d", "db.a", "db"]
    assert kinds.index("ticket") < kinds.index("db.a")
    first = db._copy.base.head.fence if db._copy.base else 0
    assert first > 1
    assert not db.push()
    assert writes(world) == []
    three[1]["k"] = 1
    assert three[1].push()
    assert three[1]._copy.base is not None
    assert three[1]._copy.base.head.fence > first


def test_a_lost_race_sends_values_once(
    world: World, three: list[EBooklet[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds that the head has moved while it waited merges, under the same lock.

    Mutation: forgetting what an earlier attempt placed sends the value again.
    """
    a, b, _ = three
    a["large"] = LARGE
    b["other"] = 1
    take = turns.take_turn

    def late(copy: Any, purpose: str, **options: Any) -> None:
        if copy is a._copy and b.changes():
            assert b.push()
        take(copy, purpose, **options)

    monkeypatch.setattr("ebooklet.services.attempts.take_turn", late)
    result = a.push()
    assert result.n_set == 1
    assert result.bytes_up < 10_000  # of the attempt that landed
    sizes = [meta.size for meta in world.store.inner.list("db.d/")]
    assert sum(size > 50_000 for size in sizes) <= 1
    with world.look() as db:
        assert dict(db.items()) == {"common": 0, "large": LARGE, "other": 1}
        assert db.fsck(check_objects=True).ok


def test_an_exclusive_writer_keeps_them_waiting(world: World, three: list[EBooklet[Any]]) -> None:
    """A push in vain commits nothing, names the holder and the way out, and may be repeated."""
    a = three[0]
    a.close()
    with optimistic(world, "a", lock_timeout=5) as a, world.open("exclusive") as holder:
        a["k"] = 1
        with pytest.raises(LockTimeout, match=r"process.*force_lock.*one at a time"):
            a.push()
        assert a.lock is None
        assert len(tickets(world)) == 1
        holder["k"] = "theirs"
        assert holder.push()
        holder.close()
        assert a.push(conflict="ours")
        assert a["k"] == 1
    with world.look() as db:
        assert db["k"] == 1


def test_force_takes_the_first_turn_alone(world: World) -> None:
    """From whoever holds the lock, and cannot commit then; the next push waits like any other."""
    holder = world.open("exclusive")
    holder["theirs"] = 1
    with optimistic(world, "a", force_lock=True, lock_timeout=100) as a:
        a["k"] = 1
        assert a.push()
        with pytest.raises(LockLostError):
            holder.push()
        assert [change["key"] for change in holder.changes()] == ["theirs"]
        holder.close()
        with world.open("exclusive") as again:
            a["k"] = 2
            a._copy.lock_timeout = 5  # for longer, this holder would be taken for dead
            with pytest.raises(LockTimeout):
                a.push()
            again.push()
        a._copy.lock_timeout = 100
        assert a.push()
        assert dict(a.items()) == {"common": 0, "k": 2, "theirs": 1}


def test_a_later_holders_head_is_no_reason_to_fail(
    world: World, three: list[EBooklet[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited with an older head in mind queues up again behind the token it finds.

    Mutation: comparing the first turn's token with that head raises `LockLostError`.
    """
    a = three[0]
    a["a"] = 1
    take = turns.take_turn

    def late(copy: Any, purpose: str, **options: Any) -> None:
        monkeypatch.setattr("ebooklet.services.attempts.take_turn", take)
        with world.open("exclusive") as holder:
            holder["c"] = 3
            assert holder.push()
            held = holder._copy
            assert held.base is not None
            # As if the server's clock, which tickets are numbered by, had gone back since.
            raise_fence(held.heads, held.base, 1 << 62, world.clock, "db", held.lease)
        take(copy, purpose, **options)

    monkeypatch.setattr("ebooklet.services.attempts.take_turn", late)
    assert a.push()
    with world.look() as db:
        assert dict(db.items()) == {"common": 0, "a": 1, "c": 3}
    assert a._copy.base is not None
    assert a._copy.base.head.fence > 1 << 62


def test_a_lost_head_is_written_again_in_a_turn(world: World, three: list[EBooklet[Any]]) -> None:
    """By the first optimistic writer that has seen it, at a pull as at a push.

    Mutation: leaving it to exclusive writers keeps the older head.
    """
    before = world.heads()
    three[0]["k"] = 1
    assert three[0].push()
    for key, body in before.items():
        world.store.inner.put(key, body)
    three[0].pull()
    assert three[0]["k"] == 1
    assert not tickets(world)
    with world.look() as db:
        assert db["k"] == 1
    assert not three[1].changes()
    three[1].pull()
    assert three[1]["k"] == 1


def test_merges_take_their_turns(world: World, three: list[EBooklet[Any]]) -> None:
    """What was staged, and what a branch has, move the head under the lock as a push does.

    Mutation: moving it by `heads.commit` itself, without a turn, raises `LockLostError`.
    """
    a, b, _ = three
    a.branch("side")
    with optimistic(world, "side", "w", branch="side") as side:
        side["side"] = LARGE
        side.push()
    with a.fork() as writer:
        writer["staged"] = LARGE
    b["b"] = 1
    b.push()
    assert a.merge(writer.result)
    assert not tickets(world)
    assert b.merge("side")
    assert not tickets(world)
    assert dict(b.items()) == {"common": 0, "b": 1, "side": LARGE, "staged": LARGE}
    assert b.fsck(check_objects=True).ok
    assert len(set(world.heads().values())) == 1


def test_the_last_push_is_seen_to_stand(world: World) -> None:
    """Closing looks at the head once more, so that no doubt is left to the next session."""
    with optimistic(world, "a") as db:
        db["k"] = 1
        assert db.push()
        assert db._copy.journal.in_doubt
    assert not db._copy.journal.in_doubt


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_compaction_after_a_push_waits_for_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It is a courtesy of a push that has succeeded: where others have the lock, a later push does it.

    Mutation: waiting as long as for the push itself, or laying down first what can be seen to be for
    nothing, fails this.
    """
    monkeypatch.setattr(tiers, "_BLOATED_BYTES", 10_000)
    service = TicketLockService(world.store, world.clock, TicketTiming(background=False))
    name, owner = ("must_wait", compaction) if when == "before" else ("_write", Compaction)
    step = getattr(owner, name)
    held: list[Lease] = []

    def taken(*args: Any, **options: Any) -> Any:
        held.append(service.acquire("db", timeout=0))
        writes(world)
        return step(*args, **options)

    with optimistic(world, "a") as db:
        db.update({f"k{n}": f"{n}" * 3_000 for n in range(9)})
        assert db.push()
        for n in range(8):
            del db[f"k{n}"]
        began = world.clock.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, taken)
            assert db.push()
        assert world.clock.monotonic() - began < 10  # of virtual seconds
        assert next(db.log()).op == "push"
        assert ("db.d" in {key[:4] for key in writes(world)}) == (when == "meanwhile")
        held[0].release()
        db["next"] = 1
        assert db.push()
        assert next(db.log()).op == "compact"
    assert not tickets(world)


@pytest.mark.parametrize("held", [False, True])
def test_who_keeps_losing_takes_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """After five lost races others who are as unlucky wait; nothing depends on getting it, and it
    is given back.

    Mutation: taking it sooner, never, or keeping it fails this.
    """
    world = World(tmp_path, "cas")
    with optimistic(world, "a") as db:
        db.push()
    lost = 0
    commit = HeadStore.commit
    seen: list[bool] = []

    def is_held() -> bool:
        info = LeaseLockService(world.store, world.clock).inspect("db")
        return info is not None and info.state == "held"

    with optimistic(world, "a") as a, optimistic(world, "b") as b:
        holder = world.open("exclusive", lock="exclusive") if held else None

        def late(self: HeadStore, *args: Any) -> Any:
            nonlocal lost
            if self is a._copy.heads:
                seen.append(is_held())
                if lost < 7:
                    lost += 1
                    b["b"] = lost
                    assert b.push()
            return commit(self, *args)

        monkeypatch.setattr(HeadStore, "commit", late)
        a["a"] = LARGE
        sent = sum(meta.size for meta in world.store.inner.list("db.d/"))
        assert a.push()
        assert a.lock is None
        assert seen == [held] * 5 + [True] * 3
        assert is_held() == held
        sent = sum(meta.size for meta in world.store.inner.list("db.d/")) - sent
        assert sent < 150_000  # the large value once, and small ones of many attempts
        if holder is not None:
            holder.close()
    with world.look() as db:
        assert dict(db.items()) == {"a": LARGE, "b": 7}
        assert db.fsck(check_objects=True).ok
