"""RemoteSession: a remote database as a whole, without a local file. Thin: services do the work."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self
from uuid import UUID

from ebooklet.core.closeable import Closeable
from ebooklet.core.names import check_db_key
from ebooklet.core.timestamps import Timestamp, to_microseconds
from ebooklet.errors import LockLostError, LockTimeout, ReadOnlyError
from ebooklet.ports.lock_service import Lease, LockInfo, LockService
from ebooklet.ports.remote_store import ObjectMeta
from ebooklet.services import catalog, inventory, locking
from ebooklet.services.place import OpenPlace, RemoteLike, RemotePlace
from ebooklet.services.removal import delete_database
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.transfer import copy_database


class RemoteSession(Closeable):
    """What a remote database says of itself, and what is done to it as a whole.

    Made by `S3Connection.open` or `ebooklet.open_session`. Makes no request before it is asked
    something. The properties show what was read last; the `get_` methods ask again.

    Args:
        place: the remote database's place; closed with the session.
        open_place: opens other places, as `copy_remote` needs them.
        writable: whether it may delete, copy and lock.
        lock_timeout: seconds to wait for the write lock where one is needed.

    Raises:
        ReadOnlyError: `writable`, but the place can only be read.
        ValueError: its key can name no database.

    Example:
        >>> import ebooklet
        >>> with ebooklet.open("memory://seen", flag="c", value_serializer="json") as db:
        ...     db["a"] = 1
        ...     _ = db.push()
        >>> with ebooklet.open_session("memory://seen") as session:
        ...     session.initialized, session.type, session.uuid == db.uuid
        (True, 'EVariableLengthValue', True)
    """

    def __init__(
        self, place: RemotePlace, open_place: OpenPlace, *, writable: bool, lock_timeout: float
    ) -> None:
        check_db_key(place.db_key)
        if writable and not place.store.capabilities.writable:
            raise ReadOnlyError(
                f"{place.location} can only be read: open it with flag 'r', or by an S3Connection "
                "with credentials",
                op="open",
                key=place.db_key,
            )
        self._place = place
        self._open_place = open_place
        self._writable = writable
        self._lock_timeout = lock_timeout
        self._asked = False
        self._seen: Snapshot | None = None
        self._service: LockService | None = None
        self._locks: list[RemoteLock] = []
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "writable" if self._writable else "read-only"
        return f"<RemoteSession {self._place.location} ({state})>"

    # What is there

    @property
    def uuid(self) -> UUID | None:
        """The database's identity; None if there is no database."""
        seen = self._last_seen()
        return None if seen is None else catalog.describe(seen).uuid

    def get_uuid(self) -> UUID | None:
        """`uuid`, asked again as long as there is no database."""
        self._last_seen(or_ask_again=True)
        return self.uuid

    @property
    def type(self) -> str | None:
        """The class's older name, as `EBooklet.type` gives it; None if there is no database."""
        seen = self._last_seen()
        return None if seen is None else catalog.describe(seen).type

    def get_type(self) -> str | None:
        """`type`, asked again as long as there is no database."""
        self._last_seen(or_ask_again=True)
        return self.type

    @property
    def timestamp(self) -> int | None:
        """When the last commit was made, µs since the epoch, UTC; None if there is no database."""
        seen = self._last_seen()
        return None if seen is None else catalog.describe(seen).timestamp

    def get_timestamp(self) -> int | None:
        """`timestamp`, asked again."""
        self._ask()
        return self.timestamp

    def get_user_metadata(self) -> Any:
        """The user's metadata as they are now; None if never set, or if there is no database."""
        seen = self._ask()
        return None if seen is None else catalog.user_metadata(self._place, seen)

    @property
    def initialized(self) -> bool:
        """Whether there is a database: something was pushed, and it was not deleted."""
        return self._last_seen() is not None

    @property
    def writable(self) -> bool:
        """Whether this session may delete, copy and lock: by its flag and credentials, unprobed."""
        return self._writable

    def list_objects(self) -> list[ObjectMeta]:
        """The database's objects: its head, and the segments under its name, unnamed ones too."""
        self._require_open()
        return inventory.list_objects(self._place)

    def list_object_versions(self) -> list[ObjectMeta]:
        """The same, kept for older programs.

        Versions that a bucket keeps of what was overwritten or deleted are not listed: this
        library needs none of them.
        """
        return self.list_objects()

    # What is done to it

    def delete_remote(self) -> None:
        """Delete the database, its head first; none is no error. Takes the write lock for it.

        Local files that follow it keep what they have; see `EBooklet.delete_remote`.

        Raises:
            ReadOnlyError: this session was opened with flag "r".
            LockTimeout: a writer has the database open.
            EBookletError: a request failed. If segments are left, a note on the error says so.
        """
        self._require_writable("delete_remote")
        own = next((lock.lease for lock in self._locks if lock.locked()), None)
        delete_database(self._place, lease=own, lock_timeout=self._lock_timeout)
        self._ask()

    def copy_remote(self, remote_conn: RemoteLike) -> None:
        """Copy the database to a place without one; see `EBooklet.copy_remote`.

        Raises:
            ReadOnlyError: this session was opened with flag "r", or the target can only be read.
            RemoteMissingError: there is no database here.
            ValueError: there is one at the target, or it is the same place.
            EBookletError: it failed; there is no database at the target.
        """
        self._require_writable("copy_remote")
        with self._open_place(remote_conn) as target:
            copy_database(self._place, target, lock_timeout=self._lock_timeout)

    def create_lock(self) -> RemoteLock:
        """The write lock of this database, not taken yet; the session gives it back when closed.

        Raises:
            ReadOnlyError: this session was opened with flag "r".

        Example:
            >>> import ebooklet
            >>> with ebooklet.open_session("memory://seen", "w") as session:
            ...     with session.create_lock() as lock:
            ...         lock.locked()
            True
        """
        self._require_writable("create_lock")
        lock = RemoteLock(self, self._lock_timeout)
        self._locks.append(lock)
        return lock

    def break_other_locks(self, timestamp: Timestamp = None) -> list[LockInfo]:
        """Take the write lock from others.

        Only a living writer's lock lasts long enough to be in the way: a dead one's expires within
        two minutes. Who lost it cannot commit any more: its next push raises `LockLostError`, and
        its changes stay pending. Locks of this session are left alone.

        Args:
            timestamp: only locks held since before this moment, in µs since the epoch, as an ISO
                8601 text with zone, or as an aware datetime; None for all of them.

        Returns:
            Who held them.

        Raises:
            ReadOnlyError: this session was opened with flag "r".
        """
        self._require_writable("break_other_locks")
        now = self._place.clock.now_us()
        older_than_s = max(0.0, (now - to_microseconds(timestamp, now)) / 1e6)
        return locking.break_others(self._place, self._lock_service(), older_than_s=older_than_s)

    def close(self) -> None:
        """Give back the locks taken here, and close the connection; idempotent."""
        if self._closed:
            return
        for lock in self._locks:
            lock.release()
        self._closed = True
        self._place.close()

    # Inside

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError(f"the session of {self._place.db_key!r} is closed: open another")

    def _require_writable(self, op: str) -> None:
        self._require_open()
        if not self._writable:
            raise ReadOnlyError(
                f"cannot {op}: the session was opened with flag 'r'; open it with 'w'",
                op=op,
                key=self._place.db_key,
            )

    def _ask(self) -> Snapshot | None:
        self._require_open()
        self._seen = self._place.heads().read()
        self._asked = True
        return self._seen

    def _last_seen(self, *, or_ask_again: bool = False) -> Snapshot | None:
        if not self._asked or (or_ask_again and self._seen is None):
            self._ask()
        return self._seen

    def _lock_service(self) -> LockService:
        """One for the whole session, so that it knows its own locks."""
        if self._service is None:
            self._service = locking.lock_service(self._place, self._last_seen())
        return self._service

    def _acquire(self, timeout: float) -> Lease:
        self._require_open()
        fence = 0 if self._seen is None else self._seen.head.fence
        return self._lock_service().acquire(self._place.db_key, timeout=timeout, fence=fence)

    def _others(self, own: Lease | None) -> list[LockInfo]:
        self._require_open()
        found = self._lock_service().inspect(self._place.db_key)
        if found is None or found.state != "held":
            return []
        return [] if own is not None and own.info.owner == found.owner else [found]


class RemoteLock:
    """The write lock of a remote database, taken and given back by hand.

    Whoever holds it keeps out all who open the database for writing. It is renewed in the
    background; a process that dies frees it within two minutes.

    Args:
        session: where the lock is.
        timeout: seconds that `with` waits.
    """

    def __init__(self, session: RemoteSession, timeout: float) -> None:
        self._session = session
        self._timeout = timeout
        self._lease: Lease | None = None

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            LockTimeout: another held it for the whole wait.
        """
        if not self.locked():
            self._lease = self._session._acquire(self._timeout)  # noqa: SLF001 - its own lock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def lease(self) -> Lease | None:
        """The lock as long as it is held, with its token and holder; None otherwise."""
        return self._lease if self.locked() else None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as `threading.Lock` does; one that is held already stays held.

        Args:
            blocking: whether to wait.
            timeout: seconds to wait; -1 for as long as it takes.

        Returns:
            Whether it is held.

        Raises:
            ValueError: a negative timeout other than -1, or one without waiting.
        """
        if self.locked():
            return True
        if not blocking and timeout != -1:
            raise ValueError("a timeout goes with blocking only")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout must be seconds, or -1 for as long as it takes")
        wait = 0.0 if not blocking else float("inf") if timeout == -1 else timeout
        try:
            self._lease = self._session._acquire(wait)  # noqa: SLF001 - as above
        except LockTimeout:
            return False
        return True

    def release(self) -> None:
        """Give it back; idempotent."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def locked(self) -> bool:
        """Whether this object holds the lock, as far as is known without a request."""
        return self._lease is not None and not self._lease.lost

    def verify(self) -> bool:
        """Ask the store whether this object still holds the lock."""
        if self._lease is None:
            return False
        try:
            self._lease.verify()
        except LockLostError:
            return False
        return True

    def other_locks(self) -> list[LockInfo]:
        """Who else holds the lock."""
        return self._session._others(self._lease)  # noqa: SLF001 - as above

    def break_other_locks(self, timestamp: Timestamp = None) -> list[LockInfo]:
        """See `RemoteSession.break_other_locks`."""
        return self._session.break_other_locks(timestamp)
