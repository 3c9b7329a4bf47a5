"""What must hold, given what was acknowledged: nothing lost, nothing mixed, no way back.

Pure: notes in, losses out. A *loss* is any promise that was not kept, a foreign exception included.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.torture.content import LOGS_KEPT, SHARED, WRITERS, mark, number_of
from tests.torture.ledger import (
    BEGIN,
    END,
    FOREIGN,
    FOUND,
    HISTORY,
    LIFE,
    MENDED,
    SEEN,
    Note,
)

PROMISING: Final = ("sync", "close", "push")  # calls after which a round is durable


class Loss(NamedTuple):
    """A promise that was not kept."""

    who: str  # found it
    at: float
    what: str
    after: str  # the fault that came last on that way


class Ack(NamedTuple):
    """A push that was acknowledged."""

    writer: str
    number: int  # of the round
    seq: int  # of the commit
    commit: str
    begun: float
    at: float
    updated: bool


@dataclass
class _Writer:
    """What a writer has begun and been promised, up to some note."""

    begun: int = 0  # the last round
    complete: int = 0
    synced: int = 0
    pushed: int = 0
    damaged: bool = False


@dataclass
class Oracle:
    """Reads notes in the order of time, and keeps what was not as promised."""

    losses: list[Loss] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    _writers: dict[str, _Writer] = field(default_factory=lambda: {w: _Writer() for w in WRITERS})
    _rounds: dict[str, list[float]] = field(default_factory=lambda: {w: [] for w in WRITERS})
    _after: dict[str, str] = field(default_factory=dict)
    _started: dict[tuple[str, str], float] = field(default_factory=dict)
    _seqs: dict[str, int] = field(default_factory=dict)

    def judge(self, notes: Iterable[Note]) -> list[Loss]:
        """Read all; what a reader saw is compared with what was acknowledged before and after."""
        ordered = sorted(notes, key=lambda note: note["at"])
        for note in ordered:
            if note["what"] == LIFE and note.get("fault"):
                self._after[note["who"]] = note["fault"]
            if note["what"] == BEGIN and note.get("fault"):
                self._after[note["who"]] = f"{note['fault']} in {note['call']}"
            if note["who"] in WRITERS:
                self._of_writer(note, self._writers[note["who"]])
            if note["what"] == FOREIGN:
                self._lose(note, f"{note['call']} raised {note['error']}")
        self._seq_is_one_commit(ordered)
        for note in ordered:
            if note["what"] == SEEN:
                self._of_reader(note)
            elif note["what"] == HISTORY:
                self._of_history(note)
        return self.losses

    def _lose(self, note: Note, what: str) -> None:
        after = note.get("fault") or self._after.get(note["who"], "")
        self.losses.append(Loss(note["who"], note["at"], what, after))

    # Writers

    def _of_writer(self, note: Note, writer: _Writer) -> None:
        what, call, who = note["what"], note.get("call"), note["who"]
        if what == LIFE:
            writer.complete = writer.synced  # a crash may take what was not synced
        if what == LIFE and note.get("damaged"):
            writer.damaged = True
            writer.synced = writer.complete = (
                writer.pushed
            )  # what was pushed comes back from the remote
        elif what == BEGIN:
            self._started[who, str(call)] = note["at"]
            if call == "round":
                writer.begun = note["number"]
                self._rounds[who].append(note["at"])
        elif what == END and call == "round":
            writer.complete = note["number"]
        elif what == END and call in PROMISING:
            writer.synced = writer.complete
            if call == "push":
                writer.pushed = writer.complete
                self.acks.append(
                    Ack(
                        *(who, writer.complete, note["seq"], note["commit"]),
                        *(self._started[who, "push"], note["at"], note["updated"]),
                    )
                )
        elif what == FOUND:
            self._local(note, writer)
            marks = note["marks"][who]
            if (
                len(marks) == 1
            ):  # a whole round outlived the crash, and is promised by the next push
                writer.complete = max(writer.synced, number_of(marks[0]))
        elif what == MENDED:
            writer.damaged = False

    def _local(self, note: Note, writer: _Writer) -> None:
        """At the beginning of a life: each key from a round that was promised, or a later one."""
        who = note["who"]
        own = [
            key for key in note["wrong"] if key.startswith((f"{who}/", f"log-{who}/", "ballast"))
        ]
        if own:
            self._lose(note, f"the local half has values that nobody wrote: {own[:3]}")
        numbers = [number_of(one) for one in note["marks"][who]]
        if numbers and not writer.synced <= min(numbers) <= max(numbers) <= writer.begun:
            self._lose(
                note,
                f"the local half has rounds {numbers}, promised were {writer.synced} "
                f"to {writer.begun}",
            )
        if writer.synced and not numbers:
            self._lose(note, f"the local half has nothing of round {writer.synced}")
        logs, synced = note["logs"][who], writer.synced
        if synced and synced + LOGS_KEPT > writer.begun and synced not in logs:
            self._lose(note, f"the key of round {synced} is gone, there are {logs}")
        if not writer.damaged and any(n <= synced - LOGS_KEPT for n in logs):
            self._lose(note, f"deleted keys are back: {logs}, promised was {synced}")

    # Readers

    def _of_reader(self, note: Note) -> None:
        who, seq, begun = note["who"], note["seq"], note["begun"]
        if note["wrong"]:
            self._lose(note, f"at seq {seq} values that nobody wrote: {note['wrong'][:3]}")
        acked = max((ack.seq for ack in self.acks if ack.at < begun), default=0)
        if seq < max(acked, self._seqs.get(who, 0)):
            known = f"{acked} was acknowledged, {self._seqs.get(who, 0)} was seen before"
            self._lose(note, f"seq went back to {seq}: {known}")
        self._seqs[who] = max(seq, self._seqs.get(who, 0))
        for writer in WRITERS:
            self._group(note, writer)
        self._shared(note)

    def _group(self, note: Note, writer: str) -> None:
        marks, logs, seq = note["marks"][writer], note["logs"][writer], note["seq"]
        floor = max((a.number for a in self._acks(writer) if self._covers(a, note)), default=0)
        ceiling = min(
            (a.number for a in self._acks(writer) if a.updated and a.seq > seq),
            default=bisect_right(self._rounds[writer], note["at"]) + 1,
        )
        if len(marks) > 1:
            self._lose(note, f"a mixture at seq {seq}: {marks}")
        elif not marks:
            if floor:
                self._lose(note, f"nothing of {writer} at seq {seq}, acknowledged was {floor}")
        else:
            number = number_of(marks[0])
            if not floor <= number < ceiling:
                told = f"acknowledged were {floor} by then, and {ceiling} later"
                self._lose(note, f"{marks[0]} at seq {seq}: {told}")
            if number not in logs or any(not number - LOGS_KEPT < n <= number for n in logs):
                self._lose(note, f"keys of rounds {logs} beside {marks[0]} at seq {seq}")

    def _shared(self, note: Note) -> None:
        """The last acknowledged push has it, or one whose end nobody was told."""
        marks, seq = note["marks"][SHARED], note["seq"]
        if len(marks) > 1:
            self._lose(note, f"a mixture at seq {seq}: {marks}")
            return
        committed = [ack for ack in self.acks if ack.updated and ack.seq <= seq]
        if not committed or not marks:
            return
        last = max(committed, key=lambda ack: ack.seq)
        told = {
            mark(ack.writer, ack.number) for ack in self.acks if ack.updated and ack is not last
        }
        if marks[0] in told:
            self._lose(note, f"{marks[0]} at seq {seq}, after {last.writer}{last.number}")

    def _acks(self, writer: str) -> Sequence[Ack]:
        return [ack for ack in self.acks if ack.writer == writer]

    @staticmethod
    def _covers(ack: Ack, note: Note) -> bool:
        return (ack.updated and ack.seq <= note["seq"]) or ack.at < note["begun"]

    # History

    def _seq_is_one_commit(self, ordered: Sequence[Note]) -> None:
        by_seq: dict[int, str] = {}
        for ack in self.acks:
            if ack.updated and by_seq.setdefault(ack.seq, ack.commit) != ack.commit:
                note = {"who": ack.writer, "at": ack.at}
                self._lose(note, f"two commits were acknowledged as seq {ack.seq}")

    def _of_history(self, note: Note) -> None:
        """Each acknowledged commit that is retained is there, and each push once."""
        commits = {seq: (commit, message) for seq, commit, message in note["commits"]}
        oldest = min(commits)
        for ack in self.acks:
            if (
                ack.updated
                and ack.seq >= oldest
                and commits.get(ack.seq, ("", ""))[0] != ack.commit
            ):
                self._lose(note, f"{ack.writer}{ack.number}, seq {ack.seq}, is not in history")
        messages = [message for _, message in commits.values() if message]
        for twice in {message for message in messages if messages.count(message) > 1}:
            self._lose(note, f"{twice} was committed more than once")
        for problem in note["problems"]:
            self._lose(note, f"fsck: {problem}")
