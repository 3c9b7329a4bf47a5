"""The history of a database, as users hold it: thin, each method calls a service on the copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from ebooklet.mapping import MappedCopy
from ebooklet.services import history
from ebooklet.services.history import CommitInfo

V = TypeVar("V")


class VersionedCopy(MappedCopy[V], Generic[V]):
    """A working copy with the commits that led to it."""

    def log(self) -> Iterator[CommitInfo]:
        """Yield the commits behind what this handle stands on, newest first, by all parents.

        What is pending is no commit, and what others have committed since comes with a `pull`.
        The newest costs no request; the records of older ones are fetched as the iteration comes
        to them, many at once. It ends with the oldest commit that is retained.

        Raises:
            SnapshotExpired: a commit is no longer retained by now: pull, and begin anew.
            OfflineError: more than the newest is wanted, and the database was opened offline.
            EBookletError: a record cannot be read.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://log", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     _ = db.push("the first")
            ...     db["b"] = 2
            ...     _ = db.push("one more")
            ...     [(commit.seq, commit.message, commit.n_keys) for commit in db.log()]
            [(2, 'one more', 2), (1, 'the first', 1)]
        """
        return history.log(self._copy)
