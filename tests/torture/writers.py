"""Writers: one holds the lock while it has the database open, the other merges.

Each sets its group of keys in rounds, never pushes half a round, and notes what it is promised.
"""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial
from typing import Any, Final

from ebooklet.database import EBooklet
from ebooklet.errors import (
    EBookletError,
    LocalFileError,
    LockLostError,
    LockTimeout,
    RemoteRewound,
)
from tests.torture.actor import Actor, GaveUp, Role
from tests.torture.cases import WEIGHTS, Case
from tests.torture.content import LOGS_KEPT, SHARED, ballast, log_key, look, mark, round_of
from tests.torture.damage import remove
from tests.torture.ledger import END, FOUND, MENDED

_LOCK_WAIT_S: Final = 3.0
_HISTORY: Final = 60  # commits: what is older goes, and so do its segments
_GRACES_S: Final = (0, 1, 5, 3600)
_NOT_AGAIN: Final = (LockLostError, RemoteRewound, LocalFileError)
_REST_S: Final = 0.25


class Writer(Actor):
    """One life of a writer."""

    def __init__(self, role: Role, fault: str = "", *, damaged: bool = False) -> None:
        super().__init__(role, fault, damaged=damaged)
        rounds = [note for note in self.past if note.get("call") == "round"]
        self.number = max((note.get("number", 0) for note in rounds), default=0)
        looked = [note for note in self.past if note["what"] == MENDED or note.get("damaged")]
        self.damaged = damaged or bool(looked and looked[-1].get("damaged"))
        last = [one for one in self.past if one.get("damaged") or one.get("call") == "round"]
        # Damage may have taken a part of a round that was finished before.
        self.half = self.damaged or (bool(last) and last[-1]["what"] != END)
        self.forced = bool(self.past)  # the last life may have died with the lock
        self.db: EBooklet[Any] | None = None

    def live(self) -> None:
        """Open, and do one thing after the other until the end."""
        with suppress(GaveUp):
            while not self.stopping:
                if self.db is None:
                    self.begin()
                else:
                    self.step(self.db)
                self.rest(_REST_S)
        self.end()

    def begin(self) -> None:
        """Open, and look at what is there."""
        options: dict[str, Any] = {"lock_timeout": _LOCK_WAIT_S, "conflict": "ours"}
        if self.role.name == "x":
            options.update(force_lock=self.forced, history=_HISTORY)
        else:
            options.update(lock="optimistic")
        case = self.draw({"open": 1})
        self.db = self.call(
            case, lambda: self.open("w", self.role.path, **options), lambda db: {"len": len(db)}
        )
        if self.db is not None:
            self.forced = False
            self.look_around(self.db)

    def look_around(self, db: EBooklet[Any]) -> None:
        """Read all; what cannot be read now is read before anything is written."""
        try:
            seen = look(dict(db.items()))
        except (EBookletError, OSError):
            if self.damaged:
                raise GaveUp from None
            return
        if seen.wrong:
            self.keep()
        lengths = len(db), len(list(db))
        if lengths[0] != lengths[1]:
            seen.wrong.append(f"{self.role.name}/: len is {lengths[0]}, keys are {lengths[1]}")
        self.ledger.note(FOUND, **seen.as_facts())
        if self.damaged:
            self.give_up_foreign(db)

    def give_up_foreign(self, db: EBooklet[Any]) -> None:
        """After damage, what others wrote and is stored here may be old, and counts as changed here.

        Whose file is damaged looks through what is pending, as docs/torture.md says.
        """
        own = (f"{self.role.name}/", f"log-{self.role.name}/", f"{SHARED}/")
        try:
            changed = [change["key"] for change in db.changes()]
            foreign = [key for key in changed if not key.startswith(own)]
            db.discard(foreign)
        except (EBookletError, OSError):
            raise GaveUp from None
        self.ledger.note(MENDED, discarded=foreign)
        self.damaged = False

    def step(self, db: EBooklet[Any]) -> None:
        """A round where one is wanted, and a call."""
        if self.half or self.cases.spare() < 0.5:
            self.round(db)
        case = self.draw(dict(WEIGHTS))
        if self.half and case.call in ("push", "close"):
            return  # readers would take it for a mixture
        getattr(self, f"_{case.call}")(db, case)

    def round(self, db: EBooklet[Any]) -> None:
        """Set all that a round has."""
        self.number += 1
        number, who = self.number, self.role.name
        self.half = True

        def write() -> None:
            for key, value in round_of(who, number):
                db[key] = value
            for key in list(db.keys(prefix=f"log-{who}/")):
                if key <= log_key(who, number - LOGS_KEPT):
                    del db[key]

        case = self.draw({"round": 1})
        if case.kind == "wire":
            case = Case("round")

        def written(_: None) -> dict[str, Any]:
            self.half = False
            return {"number": number}

        self.call(case, write, written, number=number)

    def _sync(self, db: EBooklet[Any], case: Case) -> None:
        self.call(case, db.sync, lambda _: {})

    def _push(self, db: EBooklet[Any], case: Case) -> None:
        def answer(result: Any) -> dict[str, Any]:
            if result.failures:
                raise OSError(f"not pushed: {result.failures}")
            return {"seq": result.seq, "commit": result.commit, "updated": result.updated}

        self.call(case, partial(db.push, mark(self.role.name, self.number)), answer)

    def _pull(self, db: EBooklet[Any], case: Case) -> None:
        self.call(case, db.pull, lambda result: {"seq": result.seq})

    def _prune(self, db: EBooklet[Any], case: Case) -> None:
        timestamp = self.clock.now_us() if self.cases.spare() < 0.3 else None
        self.call(case, partial(db.prune, timestamp), lambda n: {"removed": n})

    def _gc(self, db: EBooklet[Any], case: Case) -> None:
        grace = _GRACES_S[int(self.cases.spare() * len(_GRACES_S))]
        self.call(
            case, partial(db.gc, grace=grace), lambda report: {"deleted": len(report.deleted)}
        )

    def _compact(self, db: EBooklet[Any], case: Case) -> None:
        self.call(case, db.compact, lambda report: {"segments": report.n_segments})

    def _fsck(self, db: EBooklet[Any], case: Case) -> None:
        self.call(case, db.fsck, lambda report: {"ok": report.ok})

    def _close(self, db: EBooklet[Any], case: Case) -> None:
        self.db = None
        self.call(case, db.close, lambda _: {})

    def failed(self, failure: Exception | None) -> None:
        """Close what cannot go on; begin anew where the local file is refused."""
        if self.db is None:
            if isinstance(failure, LockTimeout):
                self.forced = self.cases.spare() < 0.5
            if isinstance(failure, LocalFileError) and self.damaged:
                remove(self.role.path)
        elif isinstance(failure, _NOT_AGAIN):
            raise GaveUp

    def end(self) -> None:
        """Leave in order; what a failing close leaves is what a crash would."""
        if self.db is not None:
            if self.half:
                self.db = None  # closing would sync half a round, which is no harm, and no promise
            else:
                self._close(self.db, Case("close"))
        self.leave()


def found(role: Role) -> None:
    """Create the database, with what is there from the beginning."""
    writer = Writer(role)
    with closing(writer.open("c", None, value_serializer="bytes", history=_HISTORY)) as db:
        db.update(ballast())
        db.push()
    writer.leave()


def write(role: Role, fault: str, damaged: bool) -> None:
    """The whole of a writer's process."""
    Writer(role, fault, damaged=damaged).live()


def settle(role: Role) -> None:
    """After all is over: open, see what is there, write a last round, push it and close."""
    writer = Writer(role)
    writer.forced = True
    writer.begin()
    if writer.db is None:
        raise AssertionError(f"{role.name} cannot open the database any more")
    writer.round(writer.db)
    writer._push(writer.db, Case("push"))
    writer._close(writer.db, Case("close"))
    writer.leave()
