"""The history of a database, as users hold it: thin, each method calls a service on the copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from ebooklet.branched import BranchedCopy
from ebooklet.services import history
from ebooklet.services.attempts import PushResult
from ebooklet.services.differences import Difference, differences
from ebooklet.services.fingerprints import fingerprint_of
from ebooklet.services.history import CommitInfo
from ebooklet.services.reverting import revert
from ebooklet.services.versions import VersionLike

V = TypeVar("V")


class VersionedCopy(BranchedCopy[V], Generic[V]):
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

    def diff(
        self, a: VersionLike | None = None, b: VersionLike | None = None
    ) -> Iterator[Difference]:
        """Yield what leads from one version to another, key by key, in order.

        What is pending is no part of any version: `changes()` tells of that.

        The cost follows what differs: index nodes that both versions share are not read, and no
        value is.

        Args:
            a: a tag, a branch, the id of a commit or its beginning, its seq, or a moment; None takes
                the parent of the other one, the branch's own where that is a merge.
            b: another one; None takes what this handle stands on.

        Returns:
            A dict for each key: `key`, `kind` ("added", "modified" or "deleted"),
            `old_timestamp` and `new_timestamp` (None where the key is not there).

        Raises:
            UnknownVersionError: nothing is called so; the message says what there is.
            SnapshotExpired: a version is no longer retained.
            RemoteMissingError: nothing was pushed yet.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://diff", flag="c", value_serializer="json") as db:
            ...     db.update({"a": 1, "b": 2})
            ...     _ = db.push()
            ...     db["b"] = 3
            ...     _ = db.push()
            ...     del db["a"]
            ...     _ = db.push()
            ...     [(change["key"], change["kind"]) for change in db.diff(1)]
            ...     [change["key"] for change in db.diff()]  # what the newest commit changed
            [('a', 'deleted'), ('b', 'modified')]
            ['a']
        """
        return differences(self._copy, a, b)

    def revert(self, version: VersionLike, message: str | None = None) -> PushResult:
        """Commit what an older version held anew, on top of what there is; history stays.

        Costs a record: the index and the values of the version are used again as they lie; what
        differs of the index is read, to count it. What is stored locally follows as with a `pull`. The user's metadata are no part of versions,
        and stay.

        Args:
            version: a tag, a branch, the id of a commit or its beginning, its seq, or a moment.
            message: the commit's message, at most 4 KiB of UTF-8.

        Returns:
            As of a push; false if the content is that of the version already.

        Raises:
            PendingChangesError: something is pending: push or discard it first.
            ReplaceConflict: another commit landed meanwhile, which the revert would undo, too.
            UnknownVersionError: nothing is called so; the message says what there is.
            SnapshotExpired: the version is no longer retained.
            EBookletError: nothing was committed, or the next push finds out that it was.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://revert", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     _ = db.push()
            ...     db["a"] = 2
            ...     _ = db.push()
            ...     _ = db.revert(1, "it was right before")
            ...     db["a"], next(db.log()).op
            (1, 'revert')
        """
        return revert(self._copy, version, message=message or "")

    def fingerprint(self) -> str:
        """One hash that says whether two databases show the same keys and values.

        Equal for equal content under equal parameters, whatever the remote, the local store and
        the way of getting there; timestamps and metadata do not count. What is pending does: it
        is what `log` and a push would then say. Values are compared as they are serialised, so
        both databases need one serializer, of which equal values give equal bytes. Encrypted
        databases have keys and a salt of their own, and share fingerprints with their copies only.

        Returns:
            64 hexadecimal digits.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://here", flag="c", value_serializer="json") as one:
            ...     one.update({"a": 1, "b": 2})
            ...     with ebooklet.open(None, flag="c", value_serializer="json") as two:
            ...         two["b"] = 2
            ...         two["a"] = 1
            ...         one.fingerprint() == two.fingerprint()
            True
        """
        return fingerprint_of(self._copy).hex()
