"""What the processes of writers and readers have in common: one call at a time, told beforehand."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import ebooklet
from ebooklet.database import EBooklet
from ebooklet.errors import EBookletError
from ebooklet.services.departing import await_departures
from ebooklet.testing.servers import S3Server
from tests.small_disks import room_for
from tests.torture.cases import Case, Cases
from tests.torture.clocks import SteppedClock
from tests.torture.ledger import BEGIN, END, ERROR, FOREIGN, LIFE, Ledger, Note, read
from tests.torture.wire import SpoiltWire, aimed

DB_KEY: Final = "db"
_USUAL_S: Final = 0.1  # a call that was never seen to its end takes so long
_READ_TIMEOUT_S: Final = 4
_TEXT: Final = 300  # characters of a message that are kept


@dataclass(frozen=True)
class Role:
    """What a process is to be; goes to it pickled."""

    name: str
    seed: str
    server: S3Server
    bucket: str
    folder: Path  # of its local half
    ledgers: Path
    stop: Path  # when this file appears, all come to an orderly end
    faults: bool = True

    @property
    def path(self) -> Path:
        """The local file."""
        return self.folder / f"{self.name}.blt"


class GaveUp(Exception):
    """This life cannot go on; the next one begins with an open."""


def usual_times(notes: list[Note]) -> dict[str, float]:
    """How long calls take that nothing befell, in seconds: a kill is to hit within."""
    usual: dict[str, float] = {}
    for begun, ended in pairwise(notes):
        if (begun["what"], ended["what"], begun.get("fault")) == (BEGIN, END, ""):
            took = ended["at"] - begun["at"]
            usual[ended["call"]] = (usual.get(ended["call"], took) + took) / 2
    return usual


class Actor:
    """One process's life: a wire, a clock, a ledger, and calls that are spoilt.

    Args:
        role: what it is to be.
        fault: what was done to its files between the last life and this one.
        damaged: whether that may have taken what was synced.
    """

    def __init__(self, role: Role, fault: str = "", *, damaged: bool = False) -> None:
        self.role = role
        self.past = read(role.ledgers / f"{role.name}.ledger")
        self.cases = Cases(f"{role.seed} {role.name}", self.past)
        self.ledger = Ledger(role.ledgers, role.name)
        self.wire = SpoiltWire(role.server.endpoint_url)
        self.clock = SteppedClock()
        self.usual_s = usual_times(self.past)
        self.ledger.note(LIFE, fault=fault, damaged=damaged, pid=os.getpid())
        warnings.simplefilter("ignore", UserWarning)  # heads that fell back, conflicts, offline

    @property
    def stopping(self) -> bool:
        """Whether the run is at its end."""
        return self.role.stop.exists()

    def open(self, flag: Any, path: Path | None, **options: Any) -> EBooklet[Any]:
        """Open the database through the wire."""
        connection = self.role.server.at(self.wire.url).connection(
            self.role.bucket, DB_KEY, read_timeout=_READ_TIMEOUT_S, retries=1
        )
        return ebooklet.open(connection, path, flag, clock=self.clock, **options)

    def draw(self, calls: dict[str, int]) -> Case:
        """The next case; none with a fault where there are to be none, or no more."""
        case = self.cases.draw(calls)
        return case if self.role.faults and not self.stopping else Case(case.call)

    def call(
        self,
        case: Case,
        action: Callable[[], Any],
        answer: Callable[[Any], dict[str, Any]],
        **told: object,
    ) -> Any:
        """Note it, do it, and note what became of it.

        Args:
            case: the call, and what befalls it.
            action: the call.
            answer: facts about its result, for the ledger.
            told: facts about the call, for the ledger.

        Returns:
            what the action returned; None if it raised what it may raise.
        """
        self.wire.arm(case)
        if case.kind == "clock":
            self.clock.offset_s = case.amount
        self.ledger.note(BEGIN, call=case.call, fault=case.name, **told, **aimed(case))
        if case.kind == "kill":
            usual = self.usual_s.get(case.call, _USUAL_S)
            signal.setitimer(signal.ITIMER_REAL, max(1e-5, 1.2 * usual * case.amount))
        try:
            room = (
                nullcontext()
                if case.kind != "limit"
                else room_for(self.role.folder, int(case.amount))
            )
            with room:
                result = action()
            facts, what = answer(result), END
        except (EBookletError, OSError) as exc:
            result, what = None, ERROR
            where = [frame.name for frame in traceback.extract_tb(exc.__traceback__)[-4:]]
            facts = {"error": type(exc).__name__, "text": str(exc)[:_TEXT], "where": where}
            failure: Exception | None = exc
        except Exception as exc:
            self.keep()
            text = traceback.format_exc()[-2 * _TEXT :]
            self.ledger.note(FOREIGN, call=case.call, error=repr(exc)[:_TEXT], text=text)
            raise
        else:
            failure = None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        counted = self.wire.calm(self.cases.spare())
        self.ledger.note(what, call=case.call, fault=case.name, **facts, **counted)
        self.cases.ended(case.call, counted["requests"], counted["locking"])
        self.failed(failure)
        return result

    def failed(self, failure: Exception | None) -> None:
        """What to do about what a call raised; nothing."""

    def keep(self) -> None:
        """Put the local half aside, as it is now."""
        aside = self.role.ledgers.parent / f"kept-{self.role.name}-{os.getpid()}"
        with suppress(OSError):
            shutil.copytree(self.role.folder, aside)

    def leave(self) -> None:
        """Let locks on their way out arrive, and cut the wire."""
        await_departures()
        self.wire.close()

    def rest(self, seconds: float) -> None:
        """Leave the machine to others for a while."""
        self.clock.sleep(seconds * self.cases.spare())
