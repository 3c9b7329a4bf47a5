"""The maintenance of a database, as users hold it: thin, each method calls a service on the copy."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Generic, TypeVar

from ebooklet.core.numbers import age_ms
from ebooklet.services.fsck.examining import DEFAULT_MIN_AGE_MS, examine
from ebooklet.services.fsck.repairing import repair_remote
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.maintenance.collecting import gc
from ebooklet.services.maintenance.compaction import compact
from ebooklet.services.maintenance.report import CompactionReport, GcReport
from ebooklet.services.place import place_of
from ebooklet.versioned import VersionedCopy

V = TypeVar("V")

DEFAULT_GRACE: Final = timedelta(days=7)


class MaintainedCopy(VersionedCopy[V], Generic[V]):
    """A working copy whose remote can be kept small, and sound."""

    def gc(self, *, dry_run: bool = False, grace: timedelta | float = DEFAULT_GRACE) -> GcReport:
        """Collect garbage: let go of commits that are too old, and delete what nothing needs.

        What is too old is said by `history` of `open`: without it, what is beyond 10 commits and
        30 days. Segments that only such commits needed are noted in the head at first, and deleted
        by a collection when `grace` has passed: until then readers that have not pulled go on
        reading. What uploads that came to nothing left is deleted when it is as old as that.

        Takes the write lock, unless this handle holds it; what is pending stays so. The database
        can be written to again as soon as it returns.

        Args:
            dry_run: change nothing, and say what would be done.
            grace: how long what is let go stays, and what is in the trash: a timedelta, or seconds.
                Zero deletes it at once: for when no one else reads or writes the database. Servers
                tell their time in whole seconds, so that what is newer than that may wait for the
                next collection.

        Returns:
            What was done. It is false, and says why, if not all is certain enough to be deleted, or
            a deletion failed.

        Raises:
            ReadOnlyError: the handle, or its remote, can only be read.
            RemoteMissingError: there is no database in the remote.
            LockTimeout: another writer has the database open.
            EBookletError: a request failed; nothing that is needed is gone.

        Example:
            >>> import ebooklet
            >>> from datetime import timedelta
            >>> with ebooklet.open("memory://small", flag="c", value_serializer="json", history=0) as db:
            ...     for n in range(3):
            ...         db["a"] = n
            ...         _ = db.push()
            ...     report = db.gc(grace=timedelta(0))
            ...     report.n_expired, report.n_commits, len(report.deleted)
            (2, 1, 2)
        """
        return gc(self._copy, dry_run=dry_run, grace_ms=age_ms("grace", grace))

    def compact(self, message: str | None = None) -> CompactionReport:
        """Lay down anew what is live in segments of which little is, and in many small ones.

        One commit of the same content, with the same fingerprint. It moves about 32 MiB at the
        most: call it until `finished`. It frees nothing by itself: what it leaves goes with the
        commits that need it, by `gc`. What is pending stays so. A push does one by itself where
        garbage is more than half of what the newest commit keeps alive, and more than 64 MiB.

        Raises:
            ReadOnlyError: the handle, or its remote, can only be read.
            RemoteMissingError: there is no database in the remote.
            ReplaceConflict: the next push is to replace the whole database.
            LockTimeout: another writer has the database open.
            EBookletError: nothing was committed.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://dense", flag="c", value_serializer="json") as db:
            ...     db.update({f"k{n}": "x" * 1000 for n in range(100)})
            ...     _ = db.push()
            ...     for n in range(90):
            ...         del db[f"k{n}"]
            ...     _ = db.push()
            ...     report = db.compact()
            ...     report.n_segments, report.finished, len(db)
            (2, True, 10)
        """
        return compact(self._copy, message=message or "")

    def fsck(self, *, check_objects: bool = False, repair: bool = False) -> FsckReport:
        """Compare the remote with its objects.

        `ebooklet.fsck`, which needs no open database, can also sweep, and `rescue` a database
        whose head is lost.

        Args:
            check_objects: read every segment in use as well.
            repair: put right what the rest of the bucket tells, see `ebooklet.fsck`; what is
                pending here stays so. Without it nothing is changed.

        Raises:
            ReadOnlyError: `repair` on a read-only handle.
            RemoteMissingError: this database has no remote.
            EBookletError: a request failed.
        """
        copy = self._copy
        copy.require_open()
        if repair:
            return repair_remote(copy, check_objects=check_objects)
        return examine(place_of(copy), min_age_ms=DEFAULT_MIN_AGE_MS, check_objects=check_objects)
