"""One committed state of a remote database, as one answer of the store showed it."""

from __future__ import annotations

from dataclasses import dataclass

from ebooklet.core.commit import Commit
from ebooklet.core.head import Head
from ebooklet.core.refs import NodeRef


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A head, its stored bytes and the ETag it was read or written with.

    `etag` is "" when it is not known to be the current one; a conditional write then has to read
    the head first.
    """

    head: Head
    data: bytes
    etag: str

    @property
    def commit(self) -> Commit:
        """The tip of the default branch."""
        return self.head.tip

    @property
    def root(self) -> NodeRef | None:
        """Root of the index; None when the database is empty."""
        return self.head.tip.root

    @property
    def count(self) -> int:
        """Number of keys."""
        return self.head.tip.count
