"""Which call comes next, and what befalls it: drawn from a seed, so that a run can be played again.

What other processes do meanwhile, and where in a call a kill hits, is the machine's choice and in no
seed. Requests are not left to chance: each call has a list of all its requests times all that can
happen to one, in an order of the seed's, and takes the next of it in whatever life it comes to.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from ebooklet.testing.faults import Fault
from tests.torture.ledger import BEGIN, END, Note

LOCK: Final = "lock"  # the requests of any call to the object of the lock
WEIGHTS: Final[Mapping[str, int]] = {
    "sync": 16,
    "push": 34,
    "pull": 10,
    "prune": 8,
    "gc": 7,
    "compact": 7,
    "fsck": 4,
    "close": 10,  # and the next life opens
}
KINDS: Final[Mapping[str, int]] = {"none": 22, "wire": 42, "kill": 22, "limit": 8, "clock": 6}
WIRE_FAULTS: Final = tuple(Fault)
_REQUESTS_AT_FIRST: Final = 4  # of a call that was not seen to the end yet


@dataclass(frozen=True, slots=True)
class Case:
    """A call and what befalls it.

    Attributes:
        call: which.
        kind: "none", "wire", "kill", "limit" (of file sizes), or "clock" (a step of hours).
        fault: of a request.
        request: the first that it befalls; 0 is the call's first.
        lasting: whether it befalls all that follow, too.
        amount: seconds of a clock's step, bytes that files may grow, or the part of the call's usual
            time after which the process is killed.
    """

    call: str
    kind: str = "none"
    fault: Fault | None = None
    request: int = 0
    lasting: bool = False
    amount: float = 0.0

    @property
    def name(self) -> str:
        """What the report calls it; "" if nothing befalls the call."""
        if self.kind == "none":
            return ""
        return f"wire: {self.fault.value}" if self.fault else self.kind


class Cases:
    """The cases of one actor, going on over all its lives.

    Args:
        seed: of the run, and of this actor.
        notes: of its lives so far.
    """

    def __init__(self, seed: str, notes: Sequence[Note]) -> None:
        self._seed = seed
        begun = [note for note in notes if note["what"] == BEGIN and note["call"] != "round"]
        self._chance = random.Random(f"{seed} {len(begun)}")
        self._wired = Counter(note["target"] for note in begun if note.get("target"))
        self._requests: dict[str, int] = {}
        for note in notes:
            if note["what"] == END:
                self.ended(note["call"], note.get("requests", 0), note.get("locking", 0))

    def ended(self, call: str, requests: int, locking: int) -> None:
        """Remember how many requests a call makes, and how many of them are about the lock."""
        for name, n in ((call, requests), (LOCK, locking)):
            self._requests[name] = max(n, self._requests.get(name, 0))

    def draw(self, calls: Mapping[str, int] | None = None) -> Case:
        """The next of these calls, by their weights."""
        weights = WEIGHTS if calls is None else calls
        (call,) = self._chance.choices(list(weights), list(weights.values()))
        (kind,) = self._chance.choices(list(KINDS), list(KINDS.values()))
        if kind == "wire":
            return self._wire(call)
        amount = self._chance.random()
        if kind == "clock":
            amount = self._chance.choice((-1, 1)) * 10 ** (5 * amount)  # s: to a day
        elif kind == "limit":
            amount = int(10 ** (5 * amount))  # bytes: to 100 kB
        return Case(call, kind, amount=amount)

    def spare(self) -> float:
        """A number in [0, 1), for whatever else is left to chance."""
        return self._chance.random()

    def _wire(self, call: str) -> Case:
        locking = call in ("open", "close", "gc") and self._chance.random() < 0.3
        target = LOCK if locking else call
        n_requests = self._requests.get(target, 0) or _REQUESTS_AT_FIRST
        n_done = self._wired[target]
        self._wired[target] += 1
        cells = list(product(range(n_requests), WIRE_FAULTS, (False, True)))
        random.Random(f"{self._seed} {target} {n_requests}").shuffle(cells)
        request, fault, lasting = cells[n_done % len(cells)]
        return Case(call, "wire", fault, request, lasting, amount=float(locking))
