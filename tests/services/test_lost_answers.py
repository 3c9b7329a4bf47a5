"""Head writes whose answer never came: what they covered is settled, whoever committed since."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core.head import decode_head
from ebooklet.core.names import segment_key
from ebooklet.database import EBooklet
from ebooklet.errors import ConflictError, OutcomeUnknown, RemoteUnavailable
from ebooklet.services.journal import Journal
from ebooklet.services.snapshot import Snapshot
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.services.conftest import kinds


class World:
    """One remote, and local files that open on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.store = FaultyRemoteStore(MemoryRemoteStore(), sleep=self.clock.sleep)

    def open(self, name: str = "a", flag: Any = "w", **options: Any) -> EBooklet[Any]:
        options = {"lock": "optimistic", "clock": self.clock, **options}
        if flag in ("c", "n"):
            options["value_serializer"] = "json"
        return open_database(self.store, self.folder / f"{name}.blt", flag, **options)

    def create(self, **content: Any) -> None:
        with self.open(flag="c") as db:
            db.update(content)
            db.push()

    def push_without_answer(self, db: EBooklet[Any]) -> None:
        """The head is moved, and nothing comes back any more."""
        lost = self.store.add(StoreRule(StoreFault.LOSE_ANSWER, op="cas", key="db", times=None))
        # An optimistic push reads the head once before it writes.
        self.store.add(StoreRule(StoreFault.REFUSE, op="get", key="db", times=None, skip=1))
        with pytest.raises((OutcomeUnknown, RemoteUnavailable)):
            db.push()
        assert lost.struck
        self.store.clear()

    def kill(self, name: str = "a") -> None:
        """Leave beside `name` what a SIGKILL of its process at this moment would leave."""
        shutil.copytree(self.folder / f"{name}.blt.ebk", self.folder / "killed.blt.ebk")
        shutil.copy2(self.folder / f"{name}.blt", self.folder / "killed.blt")

    def others(self, n_commits: int, **content: Any) -> None:
        """Somebody else commits, the content first."""
        with self.open("other", "c") as db:
            db.update(content)
            db.push()
            for n in range(n_commits - 1):
                db["counter"] = n
                db.push()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A remote with one commit."""
    world = World(tmp_path)
    world.create(k="old", gone="old", kept="old")
    return world


@pytest.mark.parametrize("n_commits", [0, 1, 2, 70])
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "lives on"])
def test_what_was_pushed_is_no_conflict_later(world: World, killed: bool, n_commits: int) -> None:
    """Other commits on the same keys follow: theirs is what counts, and nobody is warned."""
    with world.open() as db:
        db["k"], db["new"] = "mine", 1
        del db["gone"]
        db.set_metadata({"by": "me"})
        world.push_without_answer(db)
        if killed:
            world.kill()
        else:
            if n_commits:
                world.others(n_commits, k="theirs", gone="theirs")
            assert not db.push().updated
            content, changes, metadata = dict(db.items()), kinds(db), db.get_metadata()
    if killed:
        if n_commits:
            world.others(n_commits, k="theirs", gone="theirs")
        with world.open("killed") as db:
            content, changes, metadata = dict(db.items()), kinds(db), db.get_metadata()
            assert not db.push().updated
    expected = {"k": "theirs", "gone": "theirs"} if n_commits else {"k": "mine"}
    content.pop("counter", None)
    assert content == {**expected, "new": 1, "kept": "old"}
    assert (changes, metadata) == ({}, {"by": "me"})


def test_what_was_changed_after_the_lost_answer_stands_on_it(world: World) -> None:
    """Set again, deleted, discarded: each is judged against what was pushed, not what was before."""
    with world.open() as db:
        db["k"], db["new"], db["kept"] = 1, 1, 1
        del db["gone"]
        world.push_without_answer(db)
        db["k"] = 2
        del db["new"]
        db["gone"] = "back"
        db.discard(["kept"])
        assert db["kept"] == "old"
        assert db.push().updated
        assert dict(db.items()) == {"k": 2, "gone": "back", "kept": 1}
    with world.open("fresh", "c") as fresh:
        assert dict(fresh.items()) == {"k": 2, "gone": "back", "kept": 1}


def test_a_true_conflict_on_top_of_it_is_reported(world: World) -> None:
    """Changed here after the push, and there after the push."""
    with world.open() as db:
        db["k"] = 1
        world.push_without_answer(db)
        db["k"] = 2
        world.others(1, k=3)
        with pytest.raises(ConflictError, match="'k' changed both"):
            db.push()
        assert kinds(db) == {"k": "modified"}
        assert db.push(conflict="ours").updated


def test_a_damaged_record_of_it_stops_no_push(world: World) -> None:
    """Each pending key is compared with what stands by now; nothing is lost, and pushes go on.

    Fails without: a record that cannot be read taken as one that is gone.
    """
    db = world.open()
    db.update({"k": "new", "mine": 1})
    world.push_without_answer(db)
    block = decode_head(world.store.inner.get("db").body, key="db").branch.commit.block
    world.others(1, theirs=2)
    key = segment_key("db", block.sid)
    damaged = bytearray(world.store.inner.get(key).body)
    damaged[block.offset] ^= 1
    world.store.inner.put(key, bytes(damaged))
    db["after"] = 3
    assert db.push()
    assert not list(db.changes())
    db.close()
    with world.open("reader", "r") as db:
        expected = {"k": "new", "gone": "old", "kept": "old", "mine": 1, "theirs": 2, "after": 3}
        assert dict(db.items()) == expected


def test_a_tag_leaves_the_doubt_to_who_moves_the_base(world: World) -> None:
    """A head that says something else settles nothing: what others committed on top of it stands.

    Mutation: `confirm_writes` that takes it for settled in `amend` has "ours" overwrite theirs.
    """
    with world.open() as db:
        db["k"] = "mine"
        world.push_without_answer(db)
        world.others(1, k="theirs")
        db.tag("t")
        assert not db.push(conflict="ours").updated
        assert (db["k"], kinds(db)) == ("theirs", {})


def test_a_write_that_lands_late_is_found(world: World) -> None:
    """It was taken for lost as long as nothing showed it; then it counts."""
    with world.open() as db:
        db["k"] = 1
        world.store.add(StoreRule(StoreFault.HOLD, op="cas", key="db", times=None))
        with pytest.raises(OutcomeUnknown):
            db.push()
        world.store.clear()
        db.pull()
        assert kinds(db) == {"k": "modified"}
        assert world.store.release_held() == 1
        db["k"] = 2
        db.pull()
        assert db.push().updated
        assert dict(db.items())["k"] == 2


def test_a_write_that_never_landed_stays_pending(world: World) -> None:
    """Somebody else's commit took its place: what it would have covered is pushed on top."""
    with world.open() as db:
        db["k"] = 1
        world.store.add(StoreRule(StoreFault.HOLD, op="cas", key="db", times=None))
        with pytest.raises(OutcomeUnknown):
            db.push()
        world.store.clear()
        world.others(1, kept="theirs")
        assert world.store.release_held() == 0
        assert kinds(db) == {"k": "modified"}
        assert db.push().n_set == 1
        assert (db["k"], db["kept"]) == (1, "theirs")


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "lives on"])
def test_a_replacement_that_landed_is_done(world: World, killed: bool) -> None:
    """It is not announced again, nor refused because the head moved: that was our own doing."""
    db = world.open("n", "n")
    db["only"] = 1
    world.push_without_answer(db)
    if killed:
        world.kill("n")
        db.close()
        db = world.open("killed")
    with db:
        db["more"] = 2
        assert db.push().updated
        assert dict(db.items()) == {"only": 1, "more": 2}
    with world.open("fresh", "c") as fresh:
        assert dict(fresh.items()) == {"only": 1, "more": 2}


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "lives on"])
def test_a_creation_that_landed_is_done(tmp_path: Path, killed: bool) -> None:
    """The database is there; what was set since goes on top of it."""
    world = World(tmp_path)
    db = world.open(flag="c")
    db["k"] = 1
    world.push_without_answer(db)
    if killed:
        world.kill()
        db.close()
        db = world.open("killed")
    with world.open("other", "c") as other:
        other["theirs"] = 1
        other.push()
    with db:
        db["k"] = 2
        assert db.push().updated
        assert dict(db.items()) == {"k": 2, "theirs": 1}


@pytest.mark.filterwarnings("ignore:an earlier session opened:UserWarning")
@pytest.mark.parametrize("reopened", [True, False], ids=["reopened", "same handle"])
@pytest.mark.parametrize("flag", ["c", "n"], ids=["creation", "replacement"])
def test_what_was_cleared_after_the_lost_answer_is_gone(
    tmp_path: Path, flag: str, reopened: bool
) -> None:
    """What the write had put there goes with the rest; what was set since is all that is left."""
    world = World(tmp_path)
    if flag == "n":
        world.create(k="old")
    db = world.open("n", flag)
    db.set("same", "v", timestamp=1)
    db["gone"] = "v"
    world.push_without_answer(db)
    db.clear()
    db.set("same", "v", timestamp=1)
    db["new"] = 1
    if reopened:
        db.close()
        db = world.open("n")
    with db:
        assert dict(db.items()) == {"same": "v", "new": 1}
        assert db.push().updated
        assert not db.push().updated
        assert dict(db.items()) == {"same": "v", "new": 1}
    with world.open("fresh", "c") as fresh:
        assert dict(fresh.items()) == {"same": "v", "new": 1}


def test_a_replacement_killed_while_it_is_noted_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new base is written down, that the replacement is over is not: nothing is wiped again."""
    with world.open("n", "n") as db, monkeypatch.context() as patch:
        write_base = Journal.write_base

        def then_killed(journal: Journal, snapshot: Snapshot) -> None:
            write_base(journal, snapshot)
            world.kill("n")

        patch.setattr(Journal, "write_base", then_killed)
        db["only"] = 1
        db.push()
    with world.open("killed") as db:
        assert dict(db.items()) == {"only": 1}
        db["more"] = 2
        assert db.push().updated
    with world.open("fresh", "c") as fresh:
        assert dict(fresh.items()) == {"only": 1, "more": 2}


def test_a_deletion_repeated_goes_on_counting(world: World) -> None:
    """Its answer was lost; the next commit still comes after those that only the deletion saw."""
    with world.open() as db, world.open("colleague") as colleague:
        world.others(3, theirs=1)
        seen = colleague.pull().seq
        world.store.add(StoreRule(StoreFault.LOSE_ANSWER, op="delete", key="db"))
        with pytest.raises(OutcomeUnknown):
            db.delete_remote()
        db.delete_remote()
        db["k"] = "new"
        assert db.push().seq > seen
        colleague.pull()
        assert colleague["k"] == "new"
