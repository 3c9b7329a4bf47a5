"""History: the commits that led to a snapshot, as users see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ebooklet.core.commit import Commit
from ebooklet.core.head import Recent
from ebooklet.core.notes import read_notes
from ebooklet.core.refs import CommitRef
from ebooklet.core.sealing import Sealer
from ebooklet.core.timestamps import to_datetime
from ebooklet.errors import EBookletError, RemoteIntegrityError
from ebooklet.services.commits import CommitReader
from ebooklet.services.explaining import explaining
from ebooklet.services.log import rows_back
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_FIRST_BATCH: Final = 8  # records asked for at once, for a reader that stops soon
_MAX_BATCH: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """One commit of the history.

    Attributes:
        id: 64 hexadecimal digits; the first few name the commit wherever a version is asked for.
        seq: its number; later commits have greater ones, not every number is a commit of a branch.
        time: when it was made, by the clock of who made it; aware, UTC.
        author: who made it; "" unless the writer's environment or program named somebody.
        message: why, in the author's words.
        op: what made it: "push", "replace", "merge", "revert", "compact" or "rotate"; of fsck,
            "repair" or "rescue".
        parents: ids of the commits it was made on: none for the first, two for a merge.
        n_keys: number of keys it holds.
        value_bytes: bytes of their values, serialised.
    """

    id: str
    seq: int
    time: datetime
    author: str
    message: str
    op: str
    parents: tuple[str, ...]
    n_keys: int
    value_bytes: int


def log(copy: WorkingCopy) -> Iterator[CommitInfo]:
    """Yield the retained commits behind what this copy stands on, newest first, by all parents.

    The newest comes with the head and costs no request. The records of older ones are fetched as
    the iteration comes to them, many at once.

    Raises:
        SnapshotExpired: a commit is no longer retained by now; the copy is behind: pull.
        RemoteIntegrityError: a record is damaged, or the history has a hole.
        OfflineError: a record is wanted, and the database was opened offline.
    """
    copy.require_open()
    with copy.lock:
        base, sealer = copy.base, copy.sealer
    return _infos(copy, base, sealer)


def _infos(copy: WorkingCopy, base: Snapshot | None, sealer: Sealer) -> Iterator[CommitInfo]:
    if base is None:
        return
    for ref, commit in line(copy, base):
        yield commit_info(ref, commit, sealer)


def line(copy: WorkingCopy, base: Snapshot) -> Iterator[tuple[CommitRef, Commit]]:
    """Yield the retained commits that led to a snapshot, newest first; see `log`."""
    return _Walk(copy, base, floor=min(base.line.oldest_seq, base.ref.seq)).commits()


def commit_info(ref: CommitRef, commit: Commit, sealer: Sealer) -> CommitInfo:
    """What users see of a commit, its words opened.

    Raises:
        RemoteIntegrityError: the record was not made by who has the key.
    """
    notes = read_notes(commit, sealer)
    return CommitInfo(
        id=ref.id.hex(),
        seq=commit.seq,
        time=to_datetime(commit.ms * 1000),
        author=notes.author,
        message=notes.message,
        op=commit.op,
        parents=tuple(parent.hex() for parent in commit.parents),
        n_keys=commit.count,
        value_bytes=commit.value_bytes,
    )


class _Walk:
    """The way back from one commit over every parent, in falling order of seq.

    A record names its parents by id alone; the rows of the head, and of its log, say where they
    lie. As a row stands for every commit, a parent is met after as many rows as it is old.

    Args:
        copy: whose history it is.
        base: the snapshot to go back from.
        floor: seq of the oldest commit that is retained.
    """

    def __init__(self, copy: WorkingCopy, base: Snapshot, floor: int) -> None:
        self._copy = copy
        self._base = base
        self._floor = floor
        self._reader = CommitReader(copy.segments, copy.db_key)
        self._rows = rows_back(copy.log_nodes, base.head)
        self._places: dict[bytes, CommitRef] = {}  # of commits not come to yet, newest first
        self._read: dict[bytes, Commit | EBookletError] = {}
        self._batch = _FIRST_BATCH

    def commits(self) -> Iterator[tuple[CommitRef, Commit]]:
        """Yield each retained commit once."""
        tip = self._base.ref
        self._read[tip.id] = self._base.commit
        self._places = {ref.id: ref for ref in (tip, *self._base.head.commits())}
        wanted, above = {tip.id}, tip.seq + 1
        while wanted:
            ref = max((self._place(commit) for commit in wanted), key=_seq)
            if ref.seq >= above:
                raise RemoteIntegrityError(
                    f"commit {ref.seq} is named as a parent of one that is not newer; run fsck",
                    op="log",
                    key=self._copy.db_key,
                )
            above = ref.seq
            wanted.remove(ref.id)
            del self._places[ref.id]
            if ref.seq < self._floor:
                continue
            commit = self._record(ref)
            yield ref, commit
            if ref.seq > self._floor:
                wanted.update(commit.parents)

    def _place(self, commit: bytes) -> CommitRef:
        while commit not in self._places:
            row = self._next_row()
            if row is None:
                raise RemoteIntegrityError(
                    f"the history names commit {commit.hex()}, and nothing tells its place; run "
                    "fsck",
                    op="log",
                    key=self._copy.db_key,
                )
            self._places.setdefault(row.commit.id, row.commit)
        return self._places[commit]

    def _next_row(self) -> Recent | None:
        with explaining(self._copy):
            return next(self._rows, None)

    def _record(self, ref: CommitRef) -> Commit:
        if ref.id not in self._read:
            batch = [ref, *self._ahead(ref)]
            self._read = dict(
                zip((each.id for each in batch), self._reader.read_many(batch), strict=True)
            )
        found = self._read.pop(ref.id)
        if isinstance(found, EBookletError):
            with explaining(self._copy, ref):
                raise found
        return found

    def _ahead(self, ref: CommitRef) -> list[CommitRef]:
        """Commits that are likely to come next: those that the rows tell of."""
        size = self._batch - 1
        self._batch = min(2 * self._batch, _MAX_BATCH)
        places = self._places.values()
        ahead = [place for place in places if self._floor <= place.seq < ref.seq]
        while len(ahead) < size and (row := self._next_row()) is not None:
            if row.commit.id in self._places:
                continue
            self._places[row.commit.id] = row.commit
            if self._floor <= row.commit.seq < ref.seq:
                ahead.append(row.commit)
            elif row.seq < self._floor:
                break
        return sorted(ahead, key=_seq, reverse=True)[:size]


def _seq(ref: CommitRef) -> int:
    return ref.seq
