"""Readers: each looks at the database again and again, and notes what commit showed what."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import Any, Final

from ebooklet.database import EBooklet
from ebooklet.errors import EBookletError
from tests.torture.actor import Actor, GaveUp, Role
from tests.torture.content import look
from tests.torture.damage import remove
from tests.torture.ledger import HISTORY, MENDED, SEEN

_REST_S: Final = 1.0
Look = dict[str, Any]


class Reader(Actor):
    """One life of a reader; one whose name ends in "cold" keeps no local file."""

    db: EBooklet[Any] | None = None

    @property
    def cold(self) -> bool:
        """Whether it begins anew each time."""
        return self.role.name.endswith("cold")

    def live(self) -> None:
        """Look, and look again."""
        with suppress(GaveUp):
            while not self.stopping:
                self.look_once()
                self.rest(_REST_S)
        if self.db is not None:
            self.db.close()
        self.leave()

    def look_once(self) -> None:
        """Open or pull, then read everything there is at that commit."""
        begun = time.monotonic()
        if self.db is None:
            path = None if self.cold else self.role.path
            self.db = self.call(
                self.draw({"open": 1}), lambda: self.open("r", path), lambda db: {"len": len(db)}
            )
        elif self.call(self.draw({"pull": 1}), self.db.pull, lambda r: {"seq": r.seq}) is None:
            return
        if self.db is None or (not self.cold and self.has_lost_its_base(self.db)):
            return
        db, case = self.db, self.draw({"read": 1})

        def read() -> Look:
            seen = look(dict(db.items()))
            return {**seen.as_facts(), "seq": next(db.log()).seq}

        facts = self.call(case, read, lambda _: {})
        if facts is not None:
            self.ledger.note(SEEN, begun=begun, **facts)
        if self.cold or self.cases.spare() < 0.1:
            self.db = None
            db.close()

    def has_lost_its_base(self, db: EBooklet[Any]) -> bool:
        """Whether there are changes, though a reader makes none; then its file goes.

        After damage beside the file nothing tells what was fetched long ago from what was changed here.
        """
        try:
            changed = [change["key"] for change in db.changes()]
        except (EBookletError, OSError):
            return False
        if changed:
            self.ledger.note(MENDED, discarded=changed)
            self.db = None
            with suppress(EBookletError, OSError):
                db.close()
            remove(self.role.path)
        return bool(changed)

    def failed(self, failure: Exception | None) -> None:
        """A reader's file holds nothing of its own: where it cannot be opened, it goes."""
        if failure is None or isinstance(failure, ConnectionError):
            return
        if self.db is None:
            remove(self.role.path)
        else:
            with suppress(EBookletError, OSError):
                self.db.close()
            self.db = None


def read(role: Role, fault: str, damaged: bool) -> None:
    """The whole of a reader's process."""
    Reader(role, fault, damaged=damaged).live()


def history(role: Role) -> None:
    """After all is over: what a stranger finds, what the commits were, and whether all is sound."""
    reader = Reader(role)
    begun = time.monotonic()
    with closing(reader.open("r", None)) as db:
        seen = look(dict(db.items()))
        commits = [(commit.seq, commit.id, commit.message) for commit in db.log()]
        report = db.fsck(check_objects=True)
        problems = [*report.damaged, *report.claimed_but_missing] or (
            [] if report.ok else [str(report)]
        )
        reader.ledger.note(SEEN, begun=begun, seq=commits[0][0], **seen.as_facts())
        reader.ledger.note(HISTORY, commits=commits, problems=problems)
    reader.leave()
