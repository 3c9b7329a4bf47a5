"""Killed at any request of any call that commits or fetches: all of it happened, or nothing.

A push has such a test of its own in `tests/contract/test_s06_guarantees.py`, as have `delete_remote` in
`test_killed_deletions.py` and `copy_remote` in `test_copies.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

import ebooklet
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.database import EBooklet
from ebooklet.testing.faulty import StoreFault, StoreRule
from tests.contract.test_s06_guarantees import World, pending, restore

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

OLD: Final[dict[str, Any]] = {"gone": 0, "kept": "k" * 99, **{f"{n:02}": n for n in range(9)}}
Database = EBooklet[Any]


def mine(db: Database) -> None:
    """Leave something of each kind pending."""
    db["mine"] = "m" * 99
    del db["kept"]
    db.set_metadata({"title": "mine"})


def others(world: World) -> None:
    """Have somebody else commit a value that is set, one that is new and one that is deleted."""
    with world.open("other") as db:
        db.update({"00": "theirs", "new": "n" * 99})
        del db["gone"]
        assert db.push()


def on_dev(world: World) -> None:
    """Have somebody else commit on a branch."""
    with world.open("other", branch="dev") as db:
        db["dev"] = "d" * 99
        assert db.push()


def with_garbage(world: World) -> None:
    """Have somebody else drop a branch with a commit that nothing else leads to."""
    on_dev(world)
    with world.open() as db:
        db.delete_branch("dev")


@dataclass(frozen=True)
class Call:
    """What is done in the session that is killed."""

    act: Callable[[Database], object]
    before: Callable[[World], object] = lambda _: None  # by others, since the session began
    prepare: Callable[[Database], object] = lambda _: None  # in this session


def settled(db: Database) -> None:
    """Push what is pending."""
    db.push()


def merged_results(db: Database) -> None:
    """Stage in another process's stead, and commit what was staged."""
    with db.fork() as writer:
        writer["staged"] = "s" * 99
    db.merge(writer.result)


CALLS: Final = {
    "pull": Call(lambda db: db.pull(), others, prepare=mine),
    "load_items": Call(lambda db: (db.pull(), db.load_items()), others, prepare=mine),
    "push of metadata": Call(settled, prepare=lambda db: db.set_metadata({"only": 1})),
    "push onto others' commits": Call(settled, others, prepare=mine),
    "push after clear": Call(settled, prepare=lambda db: db.clear()),
    "revert": Call(lambda db: db.revert(1)),
    "merge of a branch": Call(lambda db: db.merge("dev"), on_dev),
    "merge of staged results": Call(merged_results),
    "tag": Call(lambda db: db.tag("v1", message="why"), prepare=mine),
    "branch": Call(lambda db: "new" in db.branches() or db.branch("new"), prepare=mine),
    "compact": Call(lambda db: db.compact(), prepare=mine),
    "gc": Call(lambda db: db.gc(grace=0), with_garbage, prepare=mine),
}


def stored(world: World) -> dict[str, bytes]:
    """The bucket, without the locks of who was killed."""
    inner = world.store.inner
    return {m.key: inner.get(m.key).body for m in inner.list("") if ".lock" not in m.key}


def told(world: World, name: str) -> tuple[Any, Any]:
    """What a stranger reads who comes now; and what this local half holds, and has pending."""
    with world.open(flag="r", store=world.store.inner) as reader:
        remote = (
            dict(reader.items()),
            reader.get_metadata(),
            sorted(reader.tags()),
            sorted(reader.branches()),
        )
    with world.open(name, store=world.store.inner) as db:  # a writer: who confirms what was pushed
        return remote, (dict(db.items()), db.get_metadata(), pending(db))


@pytest.mark.parametrize("mode", ["cas", "lock"])
@pytest.mark.parametrize("name", CALLS)
def test_killed_at_any_request(
    tmp_path: Path, name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remote and the local half are as before or as after, what was pending is, and it goes on.

    Repeated by the next session the call succeeds, and everything is as if nobody had been killed.
    """
    monkeypatch.setattr("os.fsync", lambda _: None)  # a kill leaves the system running
    call = CALLS[name]
    world = World(tmp_path, mode)
    ProbeCache().put(world.store.endpoint, world.clock, mode, "quoted", "as if it was probed")
    with world.open("a", "c", n_buckets=20) as db:
        for n in range(2):
            db.update(OLD | {"seq": n})
            assert db.push()
        db.branch("dev")
    with world.open("a") as db:
        call.prepare(db)
        db.sync()
        call.before(world)
        moments: dict[bytes, tuple[str, dict[str, bytes]]] = {}
        alone = threading.Lock()  # several threads send and fetch

        def note() -> None:
            with alone:
                objects = stored(world)
                files = [tmp_path / "a.blt", *sorted((tmp_path / "a.blt.ebk").iterdir())]
                bytes_of = [path.read_bytes() for path in files if path.name != "nodes"]
                state = sha256(repr((sorted(objects.items()), bytes_of)).encode()).digest()
                if state not in moments:
                    moments[state] = f"killed-{len(moments)}", objects
                    world.copied(moments[state][0])

        note()
        world.store.add(StoreRule(StoreFault.DELAY, times=None, amount=0, then=note))
        call.act(db)
        world.store.clear()
        note()
    names = list(moments.values())
    restore(world.store, names[0][1])
    before = told(world, names[0][0])
    restore(world.store, names[-1][1])
    after = told(world, names[-1][0])
    looked = {names[0][0]: before, names[-1][0]: after}
    for killed, objects in names:
        restore(world.store, objects)
        remote, local = looked.get(killed) or told(world, killed)
        assert remote in (before[0], after[0])
        # A local half that is behind is as before; one that is ahead would be believed too soon.
        assert local in ((before[1], after[1]) if remote == after[0] else (before[1],))
        assert ebooklet.fsck(world.store.inner, check_objects=True).ok
        with world.open(killed) as db:
            call.act(db)
        assert told(world, killed) == after
