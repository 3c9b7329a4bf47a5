"""Reading what a head keeps alive: the records of its retained commits, and R(H) (FORMAT §8)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from ebooklet.core.commit import Commit
from ebooklet.core.head import Head, PendingBatch, Recent, decode_log_row
from ebooklet.core.index.lookup import scan
from ebooklet.core.names import segment_key
from ebooklet.core.refs import CommitRef
from ebooklet.core.retention import RetainedCommits, RetainedSegments, has_expired
from ebooklet.core.sealing import PLAIN, Sealer
from ebooklet.core.segment import check_block, split_sids
from ebooklet.errors import EBookletError, RemoteIntegrityError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.commits import CommitReader
from ebooklet.services.log import log_params, log_segments
from ebooklet.services.nodes import NodeReader

_BATCH: Final = 256  # records asked for at once; they are far smaller than their limit


def read_batch(remote: RemoteStore, db_key: str, batch: PendingBatch) -> tuple[bytes, ...]:
    """The segments that one run of gc has dropped.

    Raises:
        EBookletError: the list cannot be read, or is damaged.
    """
    key, block = segment_key(db_key, batch.sids.sid), batch.sids
    data = remote.get(key, start=block.offset, stop=block.offset + block.length).body
    check_block(data, block, key)
    return split_sids(data)


class HistoryReader:
    """Reads the retained commits of one head.

    Args:
        remote: where the database is.
        db_key: its key.
        head: whose history to read.
        sealer: opens the nodes of an encrypted database; the history itself needs none.

    Attributes:
        nodes: reads the trees of this head's commits.
        log_nodes: reads the tree of its older history.
        problems: what could not be read. While there are any, what was yielded is not all, and
            nothing may be deleted on the strength of it.
        unread: the retained commits among them, and why their records could not be read. Nor is
            known what came before them.
        times: seq and ms of the commits that the history has a row of, whether retained or not.
    """

    def __init__(
        self, remote: RemoteStore, db_key: str, head: Head, sealer: Sealer = PLAIN
    ) -> None:
        self._remote = remote
        self._db_key = db_key
        self._head = head
        self._commits = CommitReader(remote, db_key)
        self.nodes = NodeReader(remote, db_key)
        self.nodes.params, self.nodes.sealer = head.params, sealer
        self.log_nodes = NodeReader(remote, db_key)
        self.log_nodes.params = log_params(head.params)
        self.problems: list[EBookletError] = []
        self.unread: dict[CommitRef, EBookletError] = {}
        self.times: dict[int, int] = {}

    def commits(self) -> Iterator[tuple[CommitRef, Commit]]:
        """Yield every retained commit once, newest first; see `problems` when it is through."""
        for ref, commit, _ in self._followed():
            yield ref, commit

    def floor_of(self, ref: CommitRef) -> int | None:
        """How far back a commit and those it was made on are retained: a seq; None: it is not.

        Reads the records of what is newer, and no more.
        """
        for each, _, floor in self._followed():
            if each.id == ref.id:
                return floor
            if each.seq < ref.seq:
                break
        return None

    def line_of(self, ref: CommitRef) -> int:
        """How far back a branch that is to stand at a retained commit finds all retained: a seq.

        What this head retains may be named by the next one, and nothing else (FORMAT §9, I3). Reads
        the records of what is newer than the commit's parents; all, if one of those is not retained.
        """
        floors: list[int] = []
        left: set[bytes] | None = None  # parents that were not come to yet
        for each, commit, floor in self._followed():
            if each.id == ref.id:
                left = set(commit.parents)
            elif left is not None and each.id in left:
                left.remove(each.id)
                floors.append(floor)
            if left is not None and not left:
                break
        return ref.seq if left or not floors else max(floors)

    def _followed(self) -> Iterator[tuple[CommitRef, Commit, int]]:
        history = RetainedCommits(self._head)
        refs = self._refs()
        retainable = sum(ref.seq >= history.lowest_seq for ref in refs)
        for at in range(0, retainable, _BATCH):
            batch = refs[at : min(at + _BATCH, retainable)]
            for ref, found in zip(batch, self._records(batch), strict=True):
                if not history.retains(ref):
                    continue
                if isinstance(found, EBookletError):
                    self.problems.append(found)
                    self.unread[ref] = found
                    history.follow(ref, ())
                    continue
                yield ref, found, history.follow(ref, found.parents)
        for ref in refs[retainable:]:
            history.retains(ref)  # known, and known to be too old
        unmet = history.unmet
        if unmet and len(self.problems) == len(self.unread):
            self.problems.append(
                RemoteIntegrityError(
                    f"the history names {len(unmet)} commits that nothing tells the place of, the "
                    f"first {min(unmet).hex()}",
                    op="read",
                    key=self._db_key,
                )
            )

    def log_segments(self) -> set[bytes]:
        """The segments that hold the nodes of the older history."""
        try:
            return log_segments(self.log_nodes, self._head.log)
        except EBookletError as exc:
            self.problems.append(exc)
            return set()

    def dropped(self) -> set[bytes]:
        """Segments that gc has dropped and will delete when their grace has passed."""
        sids: set[bytes] = set()
        for batch in self._head.gc.pending:
            try:
                sids.update(read_batch(self._remote, self._db_key, batch))
            except EBookletError as exc:
                self.problems.append(exc)
        return sids

    def _refs(self) -> list[CommitRef]:
        """Where the records of all known commits are, newest first."""
        known = {ref.id: ref for ref in self._head.commits()}
        for row in chain(self._head.recent, self._log_rows()):
            known.setdefault(row.commit.id, row.commit)
            if row.seq == row.commit.seq:  # of the commit itself, and no later word about it
                self.times[row.seq] = row.ms
        return sorted(known.values(), key=lambda ref: ref.seq, reverse=True)

    def _log_rows(self) -> Iterator[Recent]:
        try:
            for entries in self.log_nodes.scan(scan(self._head.log)):
                for entry in entries:
                    yield decode_log_row(entry.inline or b"", entry.key)
        except EBookletError as exc:
            self.problems.append(exc)

    def _records(self, refs: list[CommitRef]) -> Iterator[Commit | EBookletError]:
        """The records of these commits, in order; each that cannot be read as its error."""
        tip = self._head.branch.commit.id  # the head brings its record along
        read = self._commits.read_many([ref for ref in refs if ref.id != tip])
        for ref in refs:
            yield self._head.tip if ref.id == tip else next(read)


def is_retained(remote: RemoteStore, db_key: str, head: Head, ref: CommitRef) -> bool:
    """Whether a head retains a commit whose own record may be gone.

    Reads the records of what is newer: for who found something missing, and has to say why. Where
    they cannot all be read, it is taken for retained.
    """
    if has_expired(head, ref):
        return False
    reader = HistoryReader(remote, db_key, head)
    return reader.floor_of(ref) is not None or bool(reader.problems)


def retained_segments(remote: RemoteStore, db_key: str, head: Head) -> RetainedSegments:
    """R(H): every segment that any retained commit of the head needs.

    Raises:
        EBookletError: part of the history cannot be read, so that it cannot be told.
    """
    reader = HistoryReader(remote, db_key, head)
    segments = RetainedSegments(head)
    for ref, commit in reader.commits():
        segments.add(ref, commit)
    segments.hold(reader.log_segments())
    for problem in reader.problems:
        raise problem
    return segments
