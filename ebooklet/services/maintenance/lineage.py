"""The commits that a head retains, kept small, to work out what another head would retain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ebooklet.core.commit import Commit
from ebooklet.core.head import Branch, Head
from ebooklet.core.keeping import oldest_retained
from ebooklet.core.names import MAX_MS
from ebooklet.core.refs import CommitRef, NodeRef
from ebooklet.core.retention import RetainedCommits
from ebooklet.core.segment import join_sids, split_sids


class Row(NamedTuple):
    """What is remembered of a commit."""

    ref: CommitRef
    ms: int | None  # None: not known
    parents: tuple[bytes, ...] = ()
    root: NodeRef | None = None
    sids: bytes = b""  # that it lists, joined: a history may have thousands of these
    read: bool = True

    @property
    def listed(self) -> tuple[bytes, ...]:
        """The segments that its table lists; its record may lie in another."""
        return split_sids(self.sids)


class Lineage:
    """Retained commits.

    Args:
        times: seq and ms of all commits that the history tells of.
    """

    def __init__(self, times: Mapping[int, int]) -> None:
        self._times = times
        self._rows: dict[bytes, Row] = {}

    def __len__(self) -> int:
        """How many commits there are."""
        return len(self._rows)

    def add(self, ref: CommitRef, commit: Commit) -> None:
        """Add one."""
        sids = join_sids(row.sid for row in commit.segs)
        self._rows[ref.id] = Row(ref, commit.ms, commit.parents, commit.root, sids)

    def add_unread(self, ref: CommitRef) -> None:
        """Add one whose record cannot be read."""
        self._rows[ref.id] = Row(ref, self._times.get(ref.seq), read=False)

    def aged(self, branches: Mapping[str, Branch], now_ms: int) -> dict[str, Branch]:
        """The branches, of which what is too old is no longer retained."""
        return {
            name: replace(branch, oldest_seq=oldest_retained(branch, self._line(branch), now_ms))
            for name, branch in branches.items()
        }

    def retained(self, head: Head) -> Iterator[Row]:
        """Each commit that a head would still retain; what one that is not `read` leads to is not."""
        history = RetainedCommits(head)
        for row in self._newest_first():
            if history.retains(row.ref):
                history.follow(row.ref, row.parents)
                yield row

    def _line(self, branch: Branch) -> Iterator[tuple[int, int]]:
        """Seq and time of a branch's retained commits, newest first."""
        wanted = {branch.commit.id}
        for row in self._newest_first():
            if row.ref.id in wanted and row.ref.seq >= branch.oldest_seq:
                wanted.update(row.parents)
                yield row.ref.seq, MAX_MS if row.ms is None else row.ms
                if not row.read:  # any that is older may be its parent
                    yield from (
                        (seq, self._times[seq])
                        for seq in sorted(self._times, reverse=True)
                        if branch.oldest_seq <= seq < row.ref.seq
                    )
                    return

    def _newest_first(self) -> list[Row]:
        return sorted(self._rows.values(), key=lambda row: row.ref.seq, reverse=True)
