"""The commits that a head retains, kept small, to work out what another head would retain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ebooklet.core.commit import Commit
from ebooklet.core.head import Branch, Head
from ebooklet.core.keeping import oldest_retained
from ebooklet.core.refs import CommitRef, NodeRef
from ebooklet.core.retention import RetainedCommits
from ebooklet.core.segment import join_sids, split_sids


class Row(NamedTuple):
    """What is remembered of a commit."""

    ref: CommitRef
    parents: tuple[bytes, ...]
    ms: int
    root: NodeRef | None
    sids: bytes  # that it lists, joined: a history may have thousands of these

    @property
    def listed(self) -> tuple[bytes, ...]:
        """The segments that its table lists; its record may lie in another."""
        return split_sids(self.sids)


class Lineage:
    """Retained commits, added newest first."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Row] = {}

    def __len__(self) -> int:
        """How many commits there are."""
        return len(self._rows)

    def add(self, ref: CommitRef, commit: Commit) -> None:
        """Add the next one."""
        sids = join_sids(row.sid for row in commit.segs)
        self._rows[ref.id] = Row(ref, commit.parents, commit.ms, commit.root, sids)

    def aged(self, branches: Mapping[str, Branch], now_ms: int) -> dict[str, Branch]:
        """The branches, of which what is too old is no longer retained."""
        return {
            name: replace(branch, oldest_seq=oldest_retained(branch, self._line(branch), now_ms))
            for name, branch in branches.items()
        }

    def retained(self, head: Head) -> Iterator[Row]:
        """Each commit that a head would still retain."""
        history = RetainedCommits(head)
        for row in self._rows.values():
            if history.retains(row.ref):
                history.follow(row.ref, row.parents)
                yield row

    def _line(self, branch: Branch) -> Iterator[tuple[int, int]]:
        """Seq and time of a branch's retained commits, newest first."""
        wanted = {branch.commit.id}
        for row in self._rows.values():
            if row.ref.id in wanted and row.ref.seq >= branch.oldest_seq:
                wanted.update(row.parents)
                yield row.ref.seq, row.ms
