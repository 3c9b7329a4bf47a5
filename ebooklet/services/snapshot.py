"""One committed state of a remote database, as one answer of the store showed it."""

from __future__ import annotations

from dataclasses import dataclass

from ebooklet.core.commit import Commit
from ebooklet.core.head import Branch, Head
from ebooklet.core.refs import CommitRef, NodeRef


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A head, its stored bytes and the ETag it was read or written with, seen from one branch.

    `etag` is "" when it is not known to be the current one; a conditional write then has to read
    the head first. The head brings along the tip of its default branch; of another one, `record`
    is what its commit says.
    """

    head: Head
    data: bytes
    etag: str
    other: str | None = None  # the branch it is seen from; None: the default one
    record: Commit | None = None  # of the tip of that other branch

    @property
    def branch(self) -> str:
        """The name of the branch."""
        return self.head.default_branch if self.other is None else self.other

    @property
    def line(self) -> Branch:
        """What the head says of the branch."""
        return self.head.branches[self.branch]

    @property
    def ref(self) -> CommitRef:
        """Where the branch's tip lies."""
        return self.line.commit

    @property
    def commit(self) -> Commit:
        """The tip of the branch."""
        return self.head.tip if self.record is None else self.record

    @property
    def root(self) -> NodeRef | None:
        """Root of the index; None when the database is empty."""
        return self.commit.root

    @property
    def count(self) -> int:
        """Number of keys."""
        return self.commit.count

    def is_as(self, other: Snapshot) -> bool:
        """Whether it shows the same state: the head of the same write, from the same branch."""
        return self.head.write_id == other.head.write_id and self.branch == other.branch

    def is_behind(self, seen: Snapshot) -> bool:
        """Whether it is no later state of the same database than one that was seen before.

        Who owns the bucket can write any number into a head, but make no commit of an encrypted one.
        """
        head, last = self.head, seen.head
        turned_back = head.encrypted and head.tip.seq < last.tip.seq
        return turned_back or (head.seq <= last.seq and head.write_id != last.write_id)
