"""What the lives of `machine` are played on: a place that fails as told, clients, and a clock."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
)

from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.bootstrap import open as open_database
from ebooklet.core.head import Head, decode_head
from ebooklet.database import EBooklet
from ebooklet.errors import (
    LockLostError,
    OutcomeUnknown,
    RemoteUnavailable,
)
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.changes import Changes
from ebooklet.testing.clock import ManualClock
from ebooklet.testing.faulty import FaultyRemoteStore, StoreFault, StoreRule
from tests.hostile.worlds import World as HostileWorld
from tests.hostile.worlds import copy_local_half
from tests.state.dictmodel import (
    Candidate,
    Commit,
    Content,
    Copy,
    Entry,
    History,
    candidates,
)

KEEP: Final = 3  # commits of a branch
NO_ANSWER: Final = (OutcomeUnknown, RemoteUnavailable)


class Trouble(NamedTuple):
    """What happens to some requests of one call."""

    fault: StoreFault
    op: str
    part: str  # of the keys it happens to
    skip: int
    times: int | None
    silent: bool = False  # nobody answers after that


class TickingClock(ManualClock):
    """No two things happen in one microsecond."""

    def now_us(self) -> int:
        self.advance(1e-6)
        return super().now_us()


class Held(NamedTuple):
    """A head write that is still under way, and what is so when it arrives."""

    name: str
    happens: Callable[[Head], None]


# What a kill leaves is copied, so that nothing here depends on a disk, which takes most of the time.
_IN_MEMORY: Final = Path("/dev/shm")


class Stage(RuleBasedStateMachine):
    """Two writers and a reader of one database. Subclasses say where that lies."""

    cold_looks: ClassVar[bool] = True  # whether each commit is read by somebody who has nothing

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
        self.clock = TickingClock()
        self.store = FaultyRemoteStore(self.new_store(), sleep=self.clock.sleep)
        # As if a probe had found that out: a life is not to take as long as that takes.
        ProbeCache().put(self.store.endpoint, self.clock, "cas", "quoted", "")
        self.history = History(keep=KEEP)
        self.copies: dict[str, Copy] = {}
        self.open: dict[str, EBooklet[Any]] = {}
        self.lives: dict[str, int] = {}
        self.holder: str | None = None  # of the lock
        self.dead_lock = False  # it may be held by nobody who lives
        self.lost: set[str] = set()  # writers whose lock was taken away
        self.held: Held | None = None
        self.reader: EBooklet[Any] | None = None
        self.reader_base = ""
        self.counter = 0
        self.seen: list[Any] = [None]  # metadata that were set ever

    def new_store(self) -> RemoteStore:
        """An empty place."""
        raise NotImplementedError

    def leave_store(self) -> None:
        """Let go of it."""
        self.store.close()

    # The stage

    def path(self, name: str) -> Path:
        return Path(self.folder.name) / f"{name}{self.lives.get(name, 0)}.blt"

    def opened(self, name: str, flag: Any = "w", *, exclusive: bool = False, **options: Any) -> Any:
        """The local file of a writer, or of the reader, on the database."""
        lock: Any = "optimistic"
        if exclusive:
            timing = LeaseTiming(background=False)
            lock = LeaseLockService(self.store, self.clock, timing)
        return open_database(
            self.store, self.path(name), flag, clock=self.clock, n_buckets=20, lock=lock, **options
        )

    def look(self, version: str | int | None = None) -> EBooklet[Any]:
        """Read the database without any local file, on a quiet server."""
        return open_database(self.store.inner, None, "r", version=version, clock=self.clock)

    def head(self) -> Head:
        return decode_head(self.store.inner.get("db").body, key="db")

    @initialize(exclusive=st.booleans())
    def create(self, exclusive: bool) -> None:
        """One writer founds the database, and the other one opens it."""
        warnings.simplefilter("ignore", UserWarning)  # conflicts, replacements still to be pushed
        self.store.put("db.lock.none", b"")  # so that every list has something to find
        self.store.delete(["db.lock.none"])
        with self.opened("a", "c", value_serializer="json", history=KEEP) as db:
            db.update({"k0": "first", "k1": "x" * 300})
            assert db.push()
            base = db._copy.base.ref
            content = self.read(db)
        self.history.commits[base.id.hex()] = Commit(base.id.hex(), base.seq, content, ())
        self.history.branches["main"] = base.id.hex()
        for name in "ab":
            self.copies[name] = Copy(self.history, base.id.hex())
        self.open["a"] = self.opened("a", exclusive=exclusive)
        self.holder = "a" if exclusive else None
        self.open["b"] = self.opened("b")
        self.reader = self.opened("r", "r")
        self.reader_base = base.id.hex()

    @staticmethod
    def read(db: EBooklet[Any]) -> Content:
        """All values with their times."""
        found = db.timestamps(include_value=True)
        return {key: Entry(value, moment) for key, moment, value in found}

    @contextmanager
    def troubled(self, name: str, trouble: Trouble | None) -> Iterator[list[StoreRule]]:
        """Have something happen to the requests made inside."""
        rules: list[StoreRule] = []
        if trouble is not None and not (trouble.fault is StoreFault.HOLD and self.held):
            exact = trouble.part == "db"
            rules.append(
                self.store.add(
                    StoreRule(
                        trouble.fault,
                        op=trouble.op,
                        key="db" if exact else lambda key: key.startswith(trouble.part),
                        skip=trouble.skip,
                        times=trouble.times,
                        then=self.fall_silent if trouble.silent else None,
                    )
                )
            )
        if name == self.holder and (lease := self.open[name].lock) is not None:
            lease.renew()  # type: ignore[attr-defined]  # as its background thread would
        try:
            yield rules
        finally:
            self.store.clear()

    def fall_silent(self) -> None:
        """Nobody answers any more, to anything."""
        self.store.add(StoreRule(StoreFault.REFUSE, op="get", times=None))

    def killed(self, name: str) -> None:
        """End the process of a writer, with what its files hold at this moment."""
        db, before = self.open.pop(name), self.path(name)
        self.lives[name] = self.lives.get(name, 0) + 1
        copy_local_half(before, self.path(name))
        HostileWorld.bury(db)

    # What is done, and what is so then

    def act(
        self,
        name: str,
        trouble: Trouble | None,
        action: Callable[[EBooklet[Any]], Any],
        happens: Callable[[Head], None] | None = None,
    ) -> Any:
        """Let a writer do something to the remote; None where that failed for want of an answer.

        Args:
            name: of the writer.
            trouble: what happens to its requests.
            action: what it does.
            happens: notes what is so once its head has landed, if it is the one that is there.
        """
        before = self.head()
        try:
            with self.troubled(name, trouble) as rules:
                result = action(self.open[name])
        except LockLostError:
            assert name in self.lost or trouble is not None
            self.lost.add(name)
            if name == self.holder:
                self.holder, self.dead_lock = None, True
            result = None
        except NO_ANSWER:
            assert any(one.struck for one in rules)
            result = None
        else:
            self.arrived(before, happens)
            self.stands(name)
            return result if result is not None else True
        if self.store.n_held and self.held is None and happens is not None:
            self.held = Held(name, happens)
        mine = {each.id: each for each in self.history.commits.values()}
        self.arrived(before, happens)
        self.copies[name].unanswered += self.history.commits.keys() - mine.keys()
        self.stands(name)
        return None

    def arrived(self, before: Head, happens: Callable[[Head], None] | None) -> None:
        """Note what the head names, which is what it named before or what was to happen."""
        head = self.head()
        if head.write_id != before.write_id and happens is not None:
            happens(head)
        assert {name: line.commit.id.hex() for name, line in head.branches.items()} == (
            self.history.branches
        )
        assert {name: tag.commit.id.hex() for name, tag in head.tags.items()} == self.history.tags

    def committed(
        self, branch: str, content: Content, parents: tuple[str, ...]
    ) -> Callable[[Head], None]:
        """What is so when a commit with this content has landed on a branch."""

        def happens(head: Head) -> None:
            ref = head.branches[branch].commit
            if ref.id.hex() == self.history.branches[branch]:
                return  # the head has moved for another reason, as maintenance has
            commit = Commit(ref.id.hex(), ref.seq, dict(content), parents)
            self.history.commits[commit.id] = commit
            self.history.branches[branch] = commit.id
            if self.cold_looks:
                with self.look(commit.id) as db:
                    assert self.read(db) == content

        return happens

    def stands(self, name: str) -> None:
        """Observe which commit a writer's copy is on by now, and what that made of its changes."""
        copy, db = self.copies[name], self.open[name]
        base = db._copy.base
        assert base is not None
        now = self.history.commits[base.ref.id.hex()]
        if now.id == copy.base:
            return
        assert now.seq > self.history.commits[copy.base].seq or copy.base in self.history.commits
        sure = copy.base in self.history.retained()
        moved = copy.after(now)
        if not sure and not copy.replaces:
            self.choose(db, moved, list(candidates(copy, now)))
        moved.synced()
        self.copies[name] = moved

    @staticmethod
    def choose(db: EBooklet[Any], copy: Copy, options: list[Mapping[str, Candidate]]) -> None:
        """Take of each key the candidate that shows; that one does is checked after each step."""
        told = {c["key"]: (c["kind"], c["conflict"]) for c in Changes(db._copy)}
        seen = Stage.read(db)
        for key in {key for option in options for key in option}:
            for option in options:
                change = option.get(key)
                copy.pending.pop(key, None)
                if change is not None:
                    copy.pending[key] = change
                if copy.view().get(key) == seen.get(key) and copy.changes().get(key) == told.get(
                    key
                ):
                    break

    def reader_stands(self) -> str:
        """The commit that the reader shows; it never goes back."""
        assert self.reader is not None
        base = self.reader._copy.base
        assert base is not None
        now = base.ref.id.hex()
        assert self.history.commits[now].seq >= self.history.commits[self.reader_base].seq
        self.reader_base = now
        return now

    def teardown(self) -> None:
        for db in (*self.open.values(), self.reader):
            if db is not None:
                db.close()
        self.leave_store()
        self.folder.cleanup()
