"""Ancestry: where two lines of commits parted, and what of them is retained since."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

from ebooklet.core.commit import Commit
from ebooklet.core.head import Branch
from ebooklet.core.refs import CommitRef
from ebooklet.errors import EBookletError, ObjectNotFound
from ebooklet.services.commits import CommitReader
from ebooklet.services.log import rows_back
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_OURS: Final = 1
_THEIRS: Final = 2
_BATCH: Final = 64  # records asked for at once


@dataclass(frozen=True, slots=True)
class Ancestry:
    """How another branch came to differ from the one that is open.

    Attributes:
        nearest: the newest commit that both have; None where that cannot be told any more.
        commit: its record.
        whole: all that the other branch has since is retained, as far back as ours retains. A commit
            may then name its tip as a parent, and whoever follows finds everything.
    """

    nearest: CommitRef | None
    commit: Commit | None
    whole: bool


def ancestry(copy: WorkingCopy, base: Snapshot, line: Branch, record: Commit) -> Ancestry:
    """Compare the history of a branch with that of a snapshot's own.

    Reads the records of what either has alone, many at once. Seqs fall from child to parent, so the
    first commit that both lead to, in falling order, is the ancestor of no other such one.

    Args:
        copy: whose history it is.
        base: the snapshot.
        line: the other branch, of the same head.
        record: of its tip.

    Raises:
        EBookletError: a record cannot be read, and not because it expired.
    """
    records = _Records(copy, base, line.commit, record)
    sides = {base.ref.id: _OURS}
    sides[line.commit.id] = sides.get(line.commit.id, 0) | _THEIRS
    queue = [
        (-ref.seq, ref.id) for ref in {base.ref.id: base.ref, line.commit.id: line.commit}.values()
    ]
    heapq.heapify(queue)
    reaches = line.oldest_seq <= base.line.oldest_seq
    whole = True
    while queue:
        negative, commit_id = heapq.heappop(queue)
        side, seq = sides[commit_id], -negative
        found = records.get(commit_id)
        if found is None:
            return Ancestry(None, None, reaches)
        ref, commit = found
        if side == _OURS | _THEIRS:
            left = any(sides[other] == _THEIRS for _, other in queue)
            return Ancestry(ref, commit, reaches or (whole and not left))
        whole = whole and (side == _OURS or seq >= line.oldest_seq)
        for parent in commit.parents:
            place = records.place(parent)
            if place is None:
                return Ancestry(None, None, reaches)
            if parent not in sides:
                heapq.heappush(queue, (-place.seq, parent))
            sides[parent] = sides.get(parent, 0) | side
    return Ancestry(None, None, reaches)


class _Records:
    """Commit records by id, read ahead along the rows of the history."""

    def __init__(
        self, copy: WorkingCopy, base: Snapshot, theirs: CommitRef, record: Commit
    ) -> None:
        self._reader = CommitReader(copy.reachable_remote(), copy.db_key)
        self._rows = rows_back(copy.log_nodes, base.head)
        self._places = {ref.id: ref for ref in base.head.commits()}
        for row in base.head.recent:
            self._places.setdefault(row.commit.id, row.commit)
        self._read: dict[bytes, Commit | EBookletError] = {
            base.ref.id: base.commit,
            theirs.id: record,
        }

    def place(self, commit_id: bytes) -> CommitRef | None:
        """Where a commit lies, as far as the history tells."""
        while commit_id not in self._places:
            row = next(self._rows, None)
            if row is None:
                return None
            self._places.setdefault(row.commit.id, row.commit)
        return self._places[commit_id]

    def get(self, commit_id: bytes) -> tuple[CommitRef, Commit] | None:
        """A commit with its place; None if its record is there no longer."""
        ref = self.place(commit_id)
        if ref is None:
            return None
        if commit_id not in self._read:
            older = [
                each
                for each in self._places.values()
                if each.seq < ref.seq and each.id not in self._read
            ]
            older.sort(key=lambda each: each.seq, reverse=True)
            batch = [ref, *older[: _BATCH - 1]]
            found = self._reader.read_many(batch)
            self._read.update(zip((each.id for each in batch), found, strict=True))
        record = self._read[commit_id]
        if isinstance(record, ObjectNotFound):
            return None
        if isinstance(record, EBookletError):
            raise record
        return ref, record
