"""Many writers in virtual time: delays, lost answers, late and repeated writes (FORMAT 10.2)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, NamedTuple

import pytest

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core.commit import Commit
from ebooklet.core.index.lookup import scan
from ebooklet.database import EBooklet
from ebooklet.errors import LockLostError, LockTimeout, OutcomeUnknown, RemoteUnavailable
from ebooklet.services.attempts import PushResult
from ebooklet.services.retained import HistoryReader
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.simulation import RoughWorldStore, World, WorldClock, on_one_processor
from tests.hostile.worlds import HEADS, LIFE_FACTOR, Mode
from tests.hostile.worlds import World as HostileWorld

PARTS: Final = 8  # of the schedules of each mode, for as many workers
RACES: Final = 228 * LIFE_FACTOR  # schedules a part: 1,824 in `make test`
QUEUES: Final = 24 * LIFE_FACTOR  # and 192, which makes 2,016
FIRST: Final = 0 if LIFE_FACTOR == 1 else SystemRandom().randrange(1 << 32)
MAX_ATTEMPTS: Final = 50
SIZES: Final = (*((2, 1),) * 11, (2, 2), (2, 2), (3, 1), (3, 2), (3, 3))  # writers, their pushes
WORTH_EXAMINING: Final = 2  # commits; above, all objects are, which costs as much as a push
FAILURES: Final = (OutcomeUnknown, RemoteUnavailable, LockLostError, LockTimeout)


class Edit(NamedTuple):
    """One change that some push made; no two have the same value."""

    key: str
    value: str


def append(key: str, base: Any, ours: Any, theirs: Any) -> Any:
    """The later writer's value stands; a list keeps what both have added to it."""
    if key == "all":
        return theirs + ours[len(base) :]
    return ours


@cache
def created(mode: Mode, folder: Path) -> dict[str, bytes]:
    """The objects of a database that everybody begins with."""
    world = HostileWorld(folder, mode)
    with world.open(mode, lock="optimistic") as db:
        db["all"] = []
        assert db.push()
    return {meta.key: world.store.inner.get(meta.key).body for meta in world.store.inner.list("db")}


class Schedule:
    """Writers of one database in one world; all that happens follows from the seed."""

    def __init__(self, seed: int, mode: Mode, objects: dict[str, bytes]) -> None:
        self.world = World(seed)
        self.n_writers, self.n_pushes = SIZES[seed % len(SIZES)]
        self.is_large = self.n_writers * self.n_pushes > WORTH_EXAMINING
        self.store = RoughWorldStore(
            self.world, conditions=mode == "cas", protected=HEADS, rough=0.15
        )
        for key, body in objects.items():
            MemoryRemoteStore.put(self.store, key, body)
        self.edits: list[Edit] = []
        self.commits: list[str] = []  # as they were acknowledged

    def run(self) -> None:
        """Let them all write, and see that what was acknowledged is there, once."""
        for name in "abc"[: self.n_writers]:
            self.world.spawn(lambda name=name: self.write(name))  # type: ignore[misc]  # bound now
        self.world.run()
        self.check()

    def write(self, name: str) -> None:
        """Push until it is acknowledged, again and again."""
        clock = WorldClock(self.world)
        options: dict[str, Any] = {"lock": "optimistic", "conflict": append, "clock": clock}
        db: EBooklet[Any] = open_database(self.store, None, "w", lock_timeout=1e5, **options)
        for number in range(self.n_pushes):
            value = f"{name}{number}"
            mine = [Edit(f"{name}/{number}", value), Edit("shared", value)]
            mine.append(Edit(f"shared/{self.world.random.randrange(2)}", value))
            db.update(mine)
            db["all"] = [*db["all"], value]
            result = self.push(db, clock)
            assert not result.failures
            self.edits += mine
            if result.updated:
                self.commits.append(result.commit)
        db.close()

    @staticmethod
    def push(db: EBooklet[Any], clock: WorldClock) -> PushResult:
        """Until it is acknowledged: nothing keeps a push from that for ever."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                result = db.push()
            except FAILURES:
                clock.sleep(1)
            else:
                # Only what may have landed before can leave nothing to push.
                assert result.updated or attempt
                return result
        raise AssertionError("a push was never acknowledged")

    # What must stand

    def check(self) -> None:
        """The history has each acknowledged commit once, and each change; the dict is its end."""
        quiet = MemoryRemoteStore()
        for meta in MemoryRemoteStore.list(self.store, "db"):
            quiet.put(meta.key, MemoryRemoteStore.get(self.store, meta.key).body)
        with open_database(quiet, None, "r", clock=ManualClock()) as db:
            content = dict(db.items())
            head = db._copy.heads.read()
            if self.is_large:
                assert db.fsck(check_objects=True).ok
        assert head is not None
        reader = HistoryReader(quiet, "db", head.head)
        history = sorted(reader.commits(), key=lambda found: found[1].seq)
        assert not reader.problems
        ids = [ref.id for ref, _ in history]
        assert [commit.parents for _, commit in history] == [(), *((id_,) for id_ in ids[:-1])]
        acknowledged = [bytes.fromhex(commit) for commit in self.commits]
        assert len(set(acknowledged)) == len(acknowledged)
        assert set(acknowledged) <= set(ids)
        assert len({commit.write_id for _, commit in history}) == len(history)

        replayed: dict[str, Any] = {}
        landed: dict[Edit, int] = {}
        for _, commit in history:
            now = dict(inline_values(reader, commit))
            for key, value in now.items() - replayed.items():
                landed[Edit(key, value)] = landed.get(Edit(key, value), 0) + 1
            replayed = now
        assert {edit: landed.get(edit) for edit in self.edits} == dict.fromkeys(self.edits, 1)
        assert landed.keys() == set(self.edits)
        added = sorted({edit.value for edit in self.edits})
        assert sorted(content.pop("all")) == added
        assert content == replayed


def inline_values(reader: HistoryReader, commit: Commit) -> Iterator[tuple[str, Any]]:
    """What a commit holds, but for the list."""
    for entries in reader.nodes.scan(scan(commit.root)):
        for entry in entries:
            if entry.key != "all" and entry.inline is not None:
                yield entry.key, json.loads(entry.inline)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the local file of whoever created the database."""
    return tmp_path_factory.mktemp("schedules")


def run_part(part: int, n: int, mode: Mode, folder: Path) -> None:
    """Schedules by their seeds; a failure tells which it was."""
    objects = created(mode, folder)
    with warnings.catch_warnings(), on_one_processor(part):
        warnings.simplefilter("ignore", UserWarning)
        for seed in range(FIRST + part * n, FIRST + (part + 1) * n):
            try:
                Schedule(seed, mode, objects).run()
            except BaseException as exc:
                exc.add_note(f"Schedule({seed}, {mode!r}, created({mode!r}, folder)).run()")
                raise


@pytest.mark.parametrize("part", range(PARTS))
def test_writers_who_race(folder: Path, part: int) -> None:
    """FORMAT 10.2: in mode cas every acknowledged commit is in history once, with all it changed.

    RACES schedules in each part. Fails without: the condition on the head's put; the look for the
    write id where an answer was lost; the look for the write id by whoever meets a head.
    """
    run_part(part, RACES, "cas", folder)


@pytest.mark.parametrize("part", range(PARTS))
def test_writers_who_queue(folder: Path, part: int) -> None:
    """FORMAT 10.2: the same in mode lock, with writers that are suspended for minutes.

    QUEUES schedules in each part. Fails without: the wait for the tickets that were there before.
    """
    run_part(part, QUEUES, "lock", folder)
