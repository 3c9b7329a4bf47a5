"""What a run did, and what came of it: faults by kind, tries, losses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tests.torture.arena import ARENA, EVENT
from tests.torture.cases import LOCK, WIRE_FAULTS
from tests.torture.ledger import BEGIN, END, ERROR, LIFE, SEEN, Note
from tests.torture.oracle import Ack, Loss

CALLS: Final = ("open", LOCK, "push", "pull", "read", "gc", "compact", "fsck", "close")


class Row(NamedTuple):
    """One kind of fault."""

    kind: str
    tries: int
    told: int  # of them, calls that raised an error of ours or the system's
    losses: int


@dataclass(frozen=True)
class Report:
    """The tables of one run."""

    rows: Sequence[Row]
    wire: dict[str, dict[str, tuple[int, int]]]  # by call and fault: requests hit, and how often
    requests: dict[str, int]  # by call, at most
    acks: int
    reads: int
    rounds: int
    lives: int
    losses: Sequence[Loss]

    def markdown(self) -> str:
        """All tables."""
        lines = ["| fault | tries | told by an error | losses |", "|---|---|---|---|"]
        lines += [f"| {r.kind} | {r.tries:,} | {r.told:,} | {r.losses} |" for r in self.rows]
        total = sum(row.tries for row in self.rows)
        lines += [f"| all | {total:,} | {sum(r.told for r in self.rows):,} | {len(self.losses)} |"]
        faults = [fault.value for fault in WIRE_FAULTS]
        lines += [
            "",
            f"| call | requests | {' | '.join(faults)} |",
            "|---" * (len(faults) + 2) + "|",
        ]
        for call in CALLS:
            if call in self.wire:
                cells = (self.wire[call].get(f"wire: {fault}", (0, 0)) for fault in faults)
                shown = " | ".join(f"{hit} ({n})" for hit, n in cells)
                lines.append(f"| {call} | {self.requests.get(call, 0)} | {shown} |")
        return "\n".join(lines) + "\n"


def report(notes: Iterable[Note], acks: Sequence[Ack], losses: Sequence[Loss]) -> Report:
    """Count."""
    ordered = sorted(notes, key=lambda note: note["at"])
    tries: Counter[str] = Counter()
    told: Counter[str] = Counter()
    hit: dict[str, dict[str, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    requests: dict[str, int] = {}
    open_calls: dict[str, Note] = {}
    for note in ordered:
        who, what = note["who"], note["what"]
        if what == BEGIN:
            open_calls[who] = note
        elif what in (END, ERROR):
            begun = open_calls.pop(who, note)
            kind = _kind(begun, note)
            if kind:
                tries[kind] += 1
                told[kind] += what == ERROR
            _count_requests(begun, note, hit, requests)
        elif what == LIFE:
            if died := open_calls.pop(who, None):
                tries[f"killed in {died['call']}"] += 1
            if note.get("fault"):
                tries[f"local file {note['fault']}"] += 1
        elif what == EVENT and who == ARENA:
            tries[note["kind"]] += 1
    lost = Counter(_of_loss(loss, tries) for loss in losses)
    return Report(
        rows=[Row(kind, tries[kind], told[kind], lost[kind]) for kind in sorted({*tries, *lost})],
        wire={
            call: {fault: (len(at), at.total()) for fault, at in faults.items()}
            for call, faults in hit.items()
        },
        requests=requests,
        acks=len(acks),
        reads=sum(note["what"] == SEEN for note in ordered),
        rounds=sum(note["what"] == END and note["call"] == "round" for note in ordered),
        lives=sum(note["what"] == LIFE for note in ordered),
        losses=losses,
    )


def _kind(begun: Note, ended: Note) -> str:
    """What befell a call that came to its end; "" where nothing did, after all."""
    fault = str(begun.get("fault", ""))
    if fault.startswith("wire") and not ended.get("hits"):
        return ""
    return {"kill": "", "limit": "file size limit", "clock": "clock stepped"}.get(fault, fault)


def _count_requests(
    begun: Note, ended: Note, hit: dict[str, dict[str, Counter[int]]], requests: dict[str, int]
) -> None:
    call = str(ended["call"])
    if not begun.get("fault"):
        for name, n in ((call, ended.get("requests", 0)), (LOCK, ended.get("locking", 0))):
            requests[name] = max(requests.get(name, 0), n)
    if begun.get("target") and ended.get("hits"):
        hit[begun["target"]][begun["fault"]][begun["request"]] += 1


def _of_loss(loss: Loss, kinds: Counter[str]) -> str:
    """The row of the fault that came last."""
    names: dict[str, Any] = {"limit": "file size limit", "clock": "clock stepped"}
    fault, _, call = loss.after.rpartition(" in ") if " in " in loss.after else (loss.after, "", "")
    if fault == "kill":
        return f"killed in {call}"
    if f"local file {fault}" in kinds:
        return f"local file {fault}"
    return str(names.get(fault, fault)) or "none"
