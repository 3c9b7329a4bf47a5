"""EBooklet: the database that users hold. Thin: each method calls a service on the working copy."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Generic, TypeVar
from uuid import UUID

from ebooklet.core.closeable import Closeable
from ebooklet.core.timestamps import Timestamp, to_microseconds
from ebooklet.errors import EBookletError
from ebooklet.maintained import MaintainedCopy
from ebooklet.mapping import MappedCopy
from ebooklet.parallel import ParallelCopy, WriterPlaces
from ebooklet.ports.lock_service import Lease
from ebooklet.ports.serializer import Serializer
from ebooklet.services import writing
from ebooklet.services.attempts import PushResult
from ebooklet.services.changes import Changes
from ebooklet.services.closing import close_copy, close_lost
from ebooklet.services.dictionaries import train_at_next_push
from ebooklet.services.loading import load
from ebooklet.services.place import OpenPlace, RemoteLike, place_of
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.pull import PullResult, pull
from ebooklet.services.push import push
from ebooklet.services.removal import delete_remote
from ebooklet.services.reopening import Mode
from ebooklet.services.rotation import rotate
from ebooklet.services.transfer import copy_database
from ebooklet.services.working_copy import WorkingCopy

V = TypeVar("V")


class EBooklet(ParallelCopy[V], MaintainedCopy[V], Closeable, Generic[V]):
    """A `MutableMapping[str, V]` in one local file, kept in step with a remote database.

    Made by `ebooklet.open`. Reads and writes are local; `push` and `pull` move data, and reading
    a value that is not here yet fetches it. Many threads may share one handle.

    Args:
        copy: the working copy.
        serializer: of the values.
        open_place: opens other remote databases, as `copy_remote` needs them.
        reopen: changes the working copy's mode in place.
        writer_places: how forked writers find the database.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open("memory://tour", flag="c", value_serializer="json") as db:
        ...     db["greeting"] = {"en": "hello"}
        ...     db.push().updated
        True
    """

    def __init__(
        self,
        copy: WorkingCopy,
        serializer: Serializer,
        open_place: OpenPlace,
        reopen: Callable[[WorkingCopy, Mode], None],
        writer_places: WriterPlaces,
    ) -> None:
        super().__init__(copy, serializer, writer_places)
        self._open_place = open_place
        self._reopen = reopen
        # A handle that is dropped, or lost at the interpreter's exit, is closed all the same.
        self._finalizer = weakref.finalize(self, close_lost, copy)

    # Many values at once

    def load_items(self, keys: Iterable[str] | None = None) -> dict[str, EBookletError]:
        """Fetch values into the local file, all or those of `keys`.

        Returns:
            The failures by key, empty when all went well. That a key is absent is none: there is
            nothing to fetch.
        """
        return load(self._copy, keys)

    # Moving data

    def changes(self) -> Changes:
        """What is pending, always current; makes no request.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://pending", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     [(change["key"], change["kind"]) for change in db.changes()]
            [('a', 'added')]
        """
        self._copy.require_open()
        self._copy.sync()
        return Changes(self._copy)

    def push(
        self,
        message: str | None = None,
        force_push: bool = False,
        *,
        conflict: ConflictPolicy | None = None,
    ) -> PushResult:
        """Commit everything pending in one atomic step.

        Args:
            message: the commit's message, at most 4 KiB of UTF-8.
            force_push: commit even without changes, replace even a head that moved, and create the
                database here although this copy was last in step with another place, or segments of
                one whose head was lost lie here.
            conflict: what to do with keys that changed on both sides, "error", "ours", "theirs",
                or a function of key, base, ours and theirs (see `open`); None uses what `open` was
                given.

        Raises:
            ConflictError: keys changed on both sides; nothing was committed, all stay pending.
            ReplaceConflict: the database is to be replaced, but its head moved.
            RemoteMissingError: there is no database here, and this copy was last in step elsewhere,
                or segments of one whose head was lost are here: rescue that one by `ebooklet.fsck`.
            Exception: what a hook raised to refuse the push, or the function given as `conflict`;
                nothing was committed.
            EBookletError: nothing is lost; what is pending stays so, and the next push finds out
                what happened.
        """
        return push(self._copy, message=message or "", force=force_push, conflict=conflict)

    def pull(self) -> PullResult:
        """Take in what others committed; pending changes stay.

        Raises:
            RemoteMissingError: this copy had a remote, and it is gone; local data are kept.
            RemoteRewound: the remote shows an older head than one seen before.
        """
        return pull(self._copy)

    def discard(self, keys: Iterable[str] | None = None) -> None:
        """Drop pending changes, of `keys` or all of them, metadata included; unknown keys are ignored."""
        self._copy.require_writable("discard")
        writing.discard(self._copy, keys)

    def rotate_keys(self, message: str | None = None) -> PushResult:
        """Seal everything that is current anew, under the key that is now the current one.

        One commit, of the same content with the same fingerprint, that costs the download and the
        upload of the whole database. What is pending stays pending. Older commits stay under the
        keys they were written with, as long as they are retained: see `key_ids`.

        Returns:
            As of a push; false if everything lies under the current key already.

        Raises:
            EncryptionError: the database is not encrypted, or a key that is needed is missing.
            EBookletError: nothing was committed; what was pending still is.
        """
        return rotate(self._copy, message=message or "")

    def train_dictionary(self) -> None:
        """Have the next push train a new dictionary, from what is pending then.

        For a database with `zstd:dict` in its serializer's name whose values have come to look
        different. What was written with an older dictionary stays as it is.

        Raises:
            ReadOnlyError: the database was opened with flag "r".
            ValueError: its serializer uses no dictionaries, or it has 16 of them.
        """
        train_at_next_push(self._copy)

    # The whole remote

    def delete_remote(self) -> None:
        """Delete the remote database, its head first; none is no error.

        What is stored here stays, metadata included, and is the content of the next push, which
        creates the database anew under the same uuid: `changes()` says "added" of every key.
        Values that were never fetched are gone with the remote; call `load_items()` first to keep
        all of them. Its locks and its neighbours in the bucket are not touched.

        Raises:
            ReadOnlyError: the handle, or its remote, can only be read.
            OfflineError: the database was opened offline.
            PushInProgressError: a push is under way on this handle.
            LockTimeout: with `lock="optimistic"`, another writer has the database open.
            UUIDMismatchError: somebody has put another database there; it is untouched.
            EBookletError: a request failed. If the remote is deleted and segments are left, a note
                on the error says so.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://short-lived", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     _ = db.push()
            ...     db.delete_remote()
            ...     [(change["key"], change["kind"]) for change in db.changes()]
            [('a', 'added')]
        """
        delete_remote(self._copy)

    def copy_remote(self, remote_conn: RemoteLike) -> None:
        """Copy what is committed, with its history and its uuid, to a place without a database.

        Pending changes are not copied. Between buckets of one server with the same keys the server
        copies; otherwise the data pass through here, without being held.

        Args:
            remote_conn: where to, named as for `open`.

        Raises:
            ValueError: there is a database already, or it is this one's own place.
            RemoteMissingError: nothing was pushed yet.
            ReadOnlyError: this handle, or the target, can only be read.
            EBookletError: it failed; there is no database at the target.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://first", flag="c", value_serializer="json") as db:
            ...     db["a"] = 1
            ...     _ = db.push()
            ...     db.copy_remote("memory://second")
            >>> with ebooklet.open("memory://second") as copy:
            ...     copy["a"]
            1
        """
        self._copy.require_writable("copy_remote")
        with self._open_place(remote_conn) as target:
            copy_database(place_of(self._copy), target)

    # Life

    def sync(self, force_shutdown: bool = False) -> None:
        """Make local changes durable; makes no request."""
        if not self._copy.closed:
            self._copy.require_open()
            self._copy.sync()

    def prune(self, timestamp: Timestamp = None, reindex: bool = False) -> int:
        """Reclaim local space; with a timestamp also evict cached values older than it.

        Never touches the remote, pending changes or any readable value.

        Returns:
            Number of entries removed from the local file.
        """
        self._copy.require_writable("prune")
        moment = None if timestamp is None else to_microseconds(timestamp, self._now_us())
        return writing.prune(self._copy, moment)

    def reopen(self, flag: Mode) -> None:
        """Change between reading and writing, in place: views, and what is pending, stay.

        Becoming a writer takes the locks that `open` with "w" takes, with the options of the
        open but for `force_lock`, and reads what others have committed meanwhile. Becoming a
        reader gives them back and asks nobody. A handle that fell back to working offline tries
        the remote again.

        Args:
            flag: "r" or "w".

        Raises:
            ValueError: another flag, or the handle is closed.
            LockTimeout: another writer kept the lock. As after every error, the handle is then
                usable in its old mode.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://modes", flag="c", value_serializer="json") as db:
            ...     db.reopen("r")
            ...     db.writable
            False
        """
        if flag == "r":
            self._refuse_writes = True
        try:
            self._reopen(self._copy, flag)
        finally:
            self._refuse_writes = not self._copy.settings.writable

    def close(self, force_shutdown: bool = False) -> None:
        """Sync, release the lock and close; never pushes. Idempotent."""
        self._shut()
        self._finalizer.detach()
        close_copy(self._copy)

    def __repr__(self) -> str:
        state = "closed" if self._copy.closed else "writable" if self.writable else "read-only"
        mode = "" if self.commit_mode is None else f", mode {self.commit_mode}"
        if self._copy.settings.stays_at is not None and self._copy.base is not None:
            mode = f", commit {self._copy.base.ref.seq}"
        offline = ", offline" if self.offline else ""
        return f"<{type(self).__name__} {self._copy.location} ({state}{mode}{offline})>"

    # Attributes

    @property
    def writable(self) -> bool:
        """Whether this handle may write."""
        return self._copy.settings.writable

    @property
    def type(self) -> str:
        """The older name of the class: "EVariableLengthValue" or "RemoteConnGroup"."""
        return "EVariableLengthValue"

    @property
    def uuid(self) -> UUID:
        """The database's identity, the same in the local file and in the bucket."""
        return self._copy.uuid

    @property
    def lock(self) -> Lease | None:
        """The write lock held on the remote while it is open; with `lock="optimistic"` none is."""
        return self._copy.lease

    @property
    def commit_mode(self) -> str | None:
        """What a commit rests on: "cas", a conditional write of the server, or "lock", the write lock.

        Found out when the database was created, and the same for everybody. In mode lock commits
        queue, with `lock="optimistic"` too. None for a reader where there is no database, and
        without a remote.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://modes-of-commits", flag="c") as db:
            ...     db.commit_mode
            'cas'
        """
        return self._copy.commit_mode

    @property
    def offline(self) -> bool:
        """Whether this handle makes no requests."""
        return self._copy.settings.offline

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of the keys that anything retained may lie under; () unless it is encrypted."""
        base = self._copy.base
        table = None if base is None else base.head.encryption
        return () if table is None else tuple(key_id for key_id, _ in table.checks)

    @property
    def group_bytes(self) -> int:
        """Size of the groups that EBooklet 0.11 packed values into, in bytes; has no effect."""
        return self._copy.settings.group_bytes


def _name_publicly() -> None:
    """Have the `TypeError` of a wrong call name the class that callers hold, not a part of it."""
    for part in EBooklet.__mro__:
        if issubclass(part, MappedCopy):
            for name, member in vars(part).items():
                if isinstance(member, FunctionType) and not name.startswith("_"):
                    member.__qualname__ = f"{EBooklet.__name__}.{name}"


_name_publicly()
