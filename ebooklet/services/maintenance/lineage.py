"""The commits that a head retains, kept small, to work out what another head would retain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ebooklet.core.commit import Commit
from ebooklet.core.head import Branch, Head
from ebooklet.core.keeping import oldest_retained
from ebooklet.core.refs import CommitRef
from ebooklet.core.retention import RetainedCommits
from ebooklet.core.segment import join_sids, split_sids


class _Row(NamedTuple):
    ref: CommitRef
    parents: tuple[bytes, ...]
    ms: int
    sids: bytes  # of the segments that it needs, joined: a history may have thousands of these


class Lineage:
    """Retained commits, added newest first."""

    def __init__(self) -> None:
        self._rows: dict[bytes, _Row] = {}

    def __len__(self) -> int:
        """How many commits there are."""
        return len(self._rows)

    def add(self, ref: CommitRef, commit: Commit) -> None:
        """Add the next one."""
        sids = join_sids((ref.block.sid, *(row.sid for row in commit.segs)))
        self._rows[ref.id] = _Row(ref, commit.parents, commit.ms, sids)

    def aged(self, branches: Mapping[str, Branch], now_ms: int) -> dict[str, Branch]:
        """The branches, of which what is too old is no longer retained."""
        return {
            name: replace(branch, oldest_seq=oldest_retained(branch, self._line(branch), now_ms))
            for name, branch in branches.items()
        }

    def retained(self, head: Head) -> Iterator[tuple[bytes, ...]]:
        """The segments of each commit that a head would still retain."""
        history = RetainedCommits(head)
        for row in self._rows.values():
            if history.retains(row.ref):
                history.follow(row.ref, row.parents)
                yield split_sids(row.sids)

    def _line(self, branch: Branch) -> Iterator[tuple[int, int]]:
        """Seq and time of a branch's retained commits, newest first."""
        wanted = {branch.commit.id}
        for row in self._rows.values():
            if row.ref.id in wanted and row.ref.seq >= branch.oldest_seq:
                wanted.update(row.parents)
                yield row.ref.seq, row.ms
