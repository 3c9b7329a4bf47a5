"""EBooklet: the mapping that users hold. Thin: each method calls a service on the working copy."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Final, Generic, Never, Self, TypeVar, overload
from uuid import UUID

from ebooklet.core.keys import RESERVED_KEYS, check_key
from ebooklet.core.timestamps import Timestamp, to_microseconds
from ebooklet.errors import EBookletError
from ebooklet.ports.lock_service import Lease
from ebooklet.ports.serializer import Serializer
from ebooklet.services import iterating, metadata, reading, writing
from ebooklet.services.changes import Changes
from ebooklet.services.closing import close_copy
from ebooklet.services.fsck import DEFAULT_MIN_AGE_MS, FsckReport, examine
from ebooklet.services.loading import load
from ebooklet.services.place import OpenPlace, RemoteLike, place_of
from ebooklet.services.pull import PullResult, pull
from ebooklet.services.push import PushResult, push
from ebooklet.services.removal import delete_remote
from ebooklet.services.reopening import Mode
from ebooklet.services.streaming import stream
from ebooklet.services.transfer import copy_database
from ebooklet.services.workers import map_items
from ebooklet.services.working_copy import ConflictPolicy, WorkingCopy, forked
from ebooklet.views import KeyRange, RangeItems, RangeKeys, RangeValues

V = TypeVar("V")
D = TypeVar("D")
Result = TypeVar("Result")
_NO_DEFAULT: Final = object()


class EBooklet(MutableMapping[str, V], Generic[V]):
    """A `MutableMapping[str, V]` in one local file, kept in step with a remote database.

    Made by `ebooklet.open`. Reads and writes are local; `push` and `pull` move data, and reading
    a value that is not here yet fetches it. Many threads may share one handle.

    Args:
        copy: the working copy.
        serializer: of the values.
        open_place: opens other remote databases, as `copy_remote` needs them.
        reopen: changes the working copy's mode in place.

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
    ) -> None:
        self._copy = copy
        self._open_place = open_place
        self._reopen = reopen
        self._serializer = serializer
        # The hot path, bound once: a warm read or write is to cost little more than Booklet's.
        self._loads: Callable[[bytes], V] = serializer.loads
        self._dumps: Callable[[V], bytes] = serializer.dumps
        self._local_get: Callable[[str], bytes | None] = copy.local.get
        self._local_set: Callable[[str, bytes, int], None] = copy.local.set
        self._now_us = copy.clock.now_us
        self._lock = copy.lock
        # `with` on a lock takes twice as long.
        self._acquire: Callable[[], object] = copy.lock.acquire
        self._release = copy.lock.release
        self._touched = copy.pending.touched
        self._refuse_writes = not copy.settings.writable
        # A handle that is dropped, or lost at the interpreter's exit, is closed all the same.
        self._finalizer = weakref.finalize(self, close_copy, copy)
        _OPEN[id(self)] = self

    # One key

    def __getitem__(self, key: str) -> V:
        try:
            raw = None if key in RESERVED_KEYS else self._local_get(key)
        except (TypeError, AttributeError, UnicodeEncodeError):
            raw = None  # no key at all; `_read_missing` knows
        if raw is None:
            raw = self._read_missing(key)
            if raw is None:
                raise KeyError(key)
        return self._loads(raw)

    def __setitem__(self, key: str, value: V) -> None:
        if self._refuse_writes:
            self._copy.require_writable("set")
        if type(key) is not str or not key.isascii() or len(key) > 1000 or key in RESERVED_KEYS:
            check_key(key)
            key = str.__str__(key)  # of a subclass, the text alone
        raw = self._dumps(value)
        self._acquire()
        try:
            if self._refuse_writes:  # again, as another thread may have reopened it meanwhile
                self._copy.require_writable("set")
            # Marked first: an interrupt between the two leaves a mark too many, not one too few.
            self._touched[key] = None
            self._local_set(key, raw, self._now_us())
        finally:
            self._release()

    def __delitem__(self, key: str) -> None:
        self._copy.require_writable("delete")
        if not writing.delete(self._copy, key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return reading.contains(self._copy, key)

    @overload
    def get(self, key: str, /) -> V | None: ...
    @overload
    def get(self, key: str, /, default: V | D) -> V | D: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default` when it is absent.

        Raises:
            EBookletError: a fetch failed; that is no absent key.
        """
        try:
            return self[key]
        except KeyError:
            return default

    def set(
        self,
        key: str,
        value: Any,
        timestamp: Timestamp = None,
        encode_value: bool = True,
    ) -> None:
        """Write one value locally, with a timestamp of your own if wanted.

        Args:
            key: at most 65,535 bytes of UTF-8.
            value: what the serializer takes, or raw bytes with `encode_value=False`.
            timestamp: µs since the epoch, an ISO 8601 text with zone, or an aware datetime.
            encode_value: whether to serialise.

        Raises:
            ReadOnlyError: the database was opened with flag "r".
            InvalidKeyError, TypeError: not a key.
            SerializationError: the serializer cannot hold the value.
            TypeError: with `encode_value=False` the value is not bytes.
            ValueError: the timestamp says no moment, or the handle is closed.
        """
        self._copy.require_writable("set")
        check_key(key)
        key = str.__str__(key)  # of a subclass, the text alone
        if encode_value:
            raw = self._dumps(value)
        elif isinstance(value, bytes):
            raw = value
        else:
            raise TypeError("with encode_value=False the value must be bytes")
        moment = to_microseconds(timestamp, self._now_us())
        with self._lock:
            self._copy.require_writable("set")
            self._touched[key] = None
            self._local_set(key, raw, moment)

    # Many keys

    def __iter__(self) -> Iterator[str]:
        return iterating.iterate(self._copy)

    def __len__(self) -> int:
        return iterating.length(self._copy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]  # mutable, as every dict
    __reversed__ = None

    def keys(
        self, prefix: str | None = None, *, start: str | None = None, stop: str | None = None
    ) -> RangeKeys:
        """Keys in order, all of them or a range; reads index nodes in the range only.

        Args:
            prefix: only keys that begin with it.
            start: first key of the range, inclusive.
            stop: end of the range, exclusive.

        Example:
            >>> import ebooklet
            >>> with ebooklet.open("memory://ranges", flag="c", value_serializer="json") as db:
            ...     db.update({"a/1": 1, "a/2": 2, "b/1": 3})
            ...     list(db.keys("a/")), list(db.items(start="a/2"))
            (['a/1', 'a/2'], [('a/2', 2), ('b/1', 3)])
        """
        keys = KeyRange.of(prefix, start, stop)
        return RangeKeys(self, self._copy, self._loads, keys)

    def values(
        self, prefix: str | None = None, *, start: str | None = None, stop: str | None = None
    ) -> RangeValues[V]:
        """Values in key order; see `keys`. Missing ones are fetched many at a time."""
        keys = KeyRange.of(prefix, start, stop)
        return RangeValues(self, self._copy, self._loads, keys)

    def items(
        self, prefix: str | None = None, *, start: str | None = None, stop: str | None = None
    ) -> RangeItems[V]:
        """(key, value) pairs in key order; see `keys`. Missing ones are fetched many at a time."""
        keys = KeyRange.of(prefix, start, stop)
        return RangeItems(self, self._copy, self._loads, keys)

    def get_items(self, keys: Iterable[str], default: Any = None) -> Iterator[tuple[str, Any]]:
        """Yield (key, value) for the given keys in the given order, fetching in parallel.

        Raises:
            EBookletError: a fetch failed.
        """
        found = stream(self._copy, keys)
        return ((key, default if one is None else self._loads(one.value)) for key, one in found)

    def load_items(self, keys: Iterable[str] | None = None) -> dict[str, EBookletError]:
        """Fetch values into the local file, all or those of `keys`; unknown keys are ignored.

        Returns:
            The failures by key, empty when all went well.
        """
        return load(self._copy, keys)

    def map(
        self,
        func: Callable[[str, V], Result | None],
        keys: Iterable[str] | None = None,
        n_workers: int | None = None,
        *,
        executor: Executor | None = None,
    ) -> Generator[Result, None, None]:
        """Run `func(key, value)` for many items at once, and yield its results as they finish.

        By default in new processes, so a script that calls it needs `if __name__ == "__main__":`
        around what it does, and `func`, like a serializer class of your own, must be defined at
        the top of a module. Writing to the database meanwhile is allowed; what is written is not
        seen by an iteration that has begun.

        Args:
            func: returns whatever is to be yielded, by custom a pair (key, value); None is
                skipped.
            keys: which; unknown ones are skipped. None: all.
            n_workers: number of processes, by default as many as processors; or of an executor's
                workers to be kept busy.
            executor: runs the function instead: threads, processes, or other machines. It stays
                open.

        Raises:
            TypeError: without an executor, for a function that cannot be pickled.
            BaseException: what `func` raised; what was not begun by then is not run.

        Example:
            >>> import ebooklet
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> with ebooklet.open("memory://squares", flag="c", value_serializer="json") as db:
            ...     db.update({"a": 2, "b": 3})
            ...     with ThreadPoolExecutor() as pool:
            ...         sorted(db.map(lambda key, value: (key, value**2), executor=pool))
            [('a', 4), ('b', 9)]
        """
        return map_items(self._copy, self._serializer, func, keys, n_workers, executor)

    def update(self, other: Any = (), /, **kwargs: V) -> None:
        """Set many keys, from a mapping, pairs or keywords; what is set before an error stays."""
        self._copy.require_writable("update")
        super().update(other, **kwargs)

    def clear(self) -> None:
        """Delete every key; user metadata stay. The remote follows at the next push, at once."""
        self._copy.require_writable("clear")
        writing.clear(self._copy)

    # In one step, whatever other threads do

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V | D) -> V | D: ...
    def pop(self, key: str, /, default: Any = _NO_DEFAULT) -> Any:
        """Delete `key` and return its value; of many threads that try, one gets it.

        Raises:
            KeyError: it is absent, and no default was given.
        """
        self._copy.require_writable("pop")
        taken = writing.take(self._copy, key, self._loads)
        if taken is not None:
            return taken[0]
        if default is _NO_DEFAULT:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, V]:
        """Delete some key and return it with its value.

        Raises:
            KeyError: there is none.
        """
        self._copy.require_writable("popitem")
        taken = writing.take_any(self._copy, self._loads)
        if taken is None:
            raise KeyError("the database is empty")
        return taken

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of `key`, after setting it to `default` if it is absent."""
        self._copy.require_writable("setdefault")
        check_key(key)
        try:
            return self[key]
        except KeyError:
            raw = self._dumps(default)
        found = writing.set_if_absent(self._copy, str.__str__(key), raw, self._now_us())
        return default if found is raw else self._loads(found)

    # Timestamps and metadata

    def timestamps(self, include_value: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield (key, timestamp) or (key, timestamp, value) for every key; timestamps in µs."""
        found = iterating.iter_timestamps(self._copy, values=include_value)
        if include_value:
            return ((key, timestamp, self._loads(raw or b"")) for key, timestamp, raw in found)
        return ((key, timestamp) for key, timestamp, _ in found)

    def get_timestamp(
        self,
        key: str,
        include_value: bool = False,
        decode_value: bool = True,
        default: Any = None,
    ) -> Any:
        """When `key` was written, in µs; with its value (raw unless decoded) on request."""
        if not include_value:
            moment = reading.timestamp_of(self._copy, key)
            return default if moment is None else moment
        found = reading.read(self._copy, key)
        if found is None:
            return default
        return found.timestamp, self._loads(found.value) if decode_value else found.value

    def set_timestamp(self, key: str, timestamp: Timestamp) -> None:
        """Change when `key` was written; this counts as a change. `KeyError` if it is absent."""
        self._copy.require_writable("set_timestamp")
        moment = to_microseconds(timestamp, self._now_us())
        if not writing.restamp(self._copy, key, moment):
            raise KeyError(key)

    def set_metadata(self, data: Any, timestamp: Timestamp = None) -> None:
        """Replace the user's metadata, anything JSON can hold; pushed with the next push."""
        self._copy.require_writable("set_metadata")
        metadata.set_metadata(self._copy, data, to_microseconds(timestamp, self._now_us()))

    def get_metadata(self, include_timestamp: bool = False) -> Any:
        """The user's metadata, or (metadata, timestamp in µs), or None if never set."""
        return metadata.get_metadata(self._copy, include_timestamp=include_timestamp)

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
            force_push: commit even without changes, and replace even a head that moved.
            conflict: what to do with keys that changed on both sides, "error", "ours" or
                "theirs"; None uses what `open` was given.

        Raises:
            ConflictError: keys changed on both sides; nothing was committed, all stay pending.
            ReplaceConflict: the database is to be replaced, but its head moved.
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

    def fsck(self, *, check_objects: bool = False) -> FsckReport:
        """Compare the remote with its objects; changes nothing. `ebooklet.fsck` can also sweep.

        Args:
            check_objects: read every segment in use as well.

        Raises:
            RemoteMissingError: this database has no remote.
            EBookletError: a request failed.
        """
        self._copy.require_open()
        return examine(
            place_of(self._copy), min_age_ms=DEFAULT_MIN_AGE_MS, check_objects=check_objects
        )

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
        self._local_get = self._local_set = _closed
        self._finalizer.detach()
        close_copy(self._copy)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._copy.closed else "writable" if self.writable else "read-only"
        return f"<{type(self).__name__} {self._copy.location} ({state})>"

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
        """The write lock held on the remote, if any."""
        return self._copy.lease

    @property
    def offline(self) -> bool:
        """Whether this handle makes no requests."""
        return self._copy.settings.offline

    @property
    def group_bytes(self) -> int:
        """Size of the groups that EBooklet 0.11 packed values into, in bytes; has no effect."""
        return self._copy.settings.group_bytes

    # Inside

    def _abandon_in_child(self) -> None:
        self._local_get = self._local_set = self._acquire = _inherited
        self._copy.abandon_in_child()

    def _read_missing(self, key: object) -> bytes | None:
        self._copy.require_open()
        found = reading.read_missing(self._copy, key)
        return None if found is None else found.value


def _closed(*_: object) -> Never:
    raise ValueError("the database is closed")


def _inherited(*_: object) -> Never:
    raise forked()


def _let_go() -> None:
    """In a forked child: make every inherited handle refuse, before one deadlocks or does harm."""
    for db in list(_OPEN.values()):
        db._abandon_in_child()  # noqa: SLF001


_OPEN: Final[weakref.WeakValueDictionary[int, EBooklet[Any]]] = weakref.WeakValueDictionary()
os.register_at_fork(after_in_child=_let_go)
