"""One LMDB file while it is open: three tables, and writes collected for one transaction.

Tables: `values` has timestamp (7 bytes, little endian, µs since the Unix epoch) + value under each
key of 1 to 511 bytes of UTF-8, which is as long as LMDB takes them. `others` has the empty key and
the longer ones: timestamp + length of the key (2 bytes) + key + value under the key's SHA-256.
`about` says whose file it is: `format`, `uuid`, `serializer` and `metadata` (timestamp + JSON).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from uuid import UUID

import lmdb

from ebooklet.adapters.local.lmdb import environments
from ebooklet.adapters.local.lmdb.environments import FORKING, Shared, failure, translated
from ebooklet.errors import LocalFileError
from ebooklet.ports.local_store import LocalValue

if TYPE_CHECKING:
    from lmdb import _Database as Table

_STAMP: Final = 7  # bytes of a timestamp
_LONGEST: Final = 511  # bytes of a key
_PER_WRITE: Final = 100  # bytes that one collected write is taken for, beside its value
_FORMAT: Final = b"1"
_VALUES, _OTHERS, _ABOUT = b"values", b"others", b"about"
_UUID, _SERIALIZER, _METADATA, _FORMAT_KEY = b"uuid", b"serializer", b"metadata", b"format"
_WORTHWHILE: Final = 8  # unused pages; fewer are LMDB's own


class Identity(NamedTuple):
    """Whose file it is."""

    uuid: UUID
    serializer: str | None  # name of the value serializer; None for a class of the user's own


class LmdbFile:
    """An open file with the lock on it. Not for several threads at once."""

    def __init__(
        self,
        path: Path,
        fd: int,
        shared: Shared,
        buffer_size: int,
        before_writing: Callable[[], object],
    ) -> None:
        self.fd = fd
        self._before_writing = before_writing
        self._path = path
        self._shared: Shared | None = shared
        self._environment = shared.environment
        self._buffer_size = buffer_size
        self._room = buffer_size  # bytes of writes until they are put into the file
        # Writes, as timestamp and value; None deletes. Plain tuples, which are made in half the time.
        self._waiting: dict[str, tuple[int, bytes] | None] = {}
        with translated(path, "open"):
            try:
                self._values, self._others, self._about = (
                    self._environment.open_db(name, create=False)
                    for name in (_VALUES, _OTHERS, _ABOUT)
                )
            except lmdb.NotFoundError:
                raise _stranger(path) from None
            self._look()

    # Opening and closing.

    def _look(self) -> None:
        """See what the file holds now."""
        self._transaction = self._environment.begin(db=self._values)
        self._get: Callable[[bytes], bytes | None] = self._transaction.get

    def flush(self) -> None:
        """Put the writes that wait into the file, in one transaction; durable after an fsync."""
        if self._waiting:
            self._write(self._put_waiting)
            self._waiting.clear()
            self._room = self._buffer_size

    def close(self) -> None:
        """Flush, close and unlock; idempotent."""
        shared = self._shared
        if shared is None:
            return
        try:
            self.flush()
        finally:
            self._shared = None
            self._transaction.abort()
            environments.given_back(shared)
            _unlock_and_close(self.fd)

    # One value.

    def get(self, key: str) -> bytes | None:
        """A value, or None."""
        waiting = self._waiting
        if waiting and key in waiting:
            found = waiting[key]
            return None if found is None else found[1]
        name = key.encode()
        if not 0 < len(name) <= _LONGEST:
            entry = self._other(name)
            return None if entry is None else entry.value
        try:
            record = self._get(name)
        except lmdb.Error as exc:
            raise failure(exc, self._path, "get", key) from exc
        return None if record is None else record[_STAMP:]

    def get_entry(self, key: str) -> LocalValue | None:
        """A value with its timestamp, or None."""
        waiting = self._waiting
        if waiting and key in waiting:
            found = waiting[key]
            return None if found is None else LocalValue(*found)
        name = key.encode()
        if not 0 < len(name) <= _LONGEST:
            return self._other(name)
        with translated(self._path, "get", key):
            record = self._get(name)
        if record is None:
            return None
        return LocalValue(int.from_bytes(record[:_STAMP], "little"), record[_STAMP:])

    def contains(self, key: str) -> bool:
        """Whether a key is there."""
        return self.get(key) is not None

    def set(self, key: str, value: bytes, timestamp: int) -> None:
        """Write a value, once the writes that wait are many enough."""
        self._waiting[key] = (timestamp, value)
        self._room -= len(value) + _PER_WRITE
        if self._room < 0:
            self.flush()

    def set_many(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        """Write keys, values and timestamps; many of them at once, in a transaction of their own."""
        size = sum([len(value) for _, value, _ in items]) + _PER_WRITE * len(items)
        if size < self._buffer_size // 2:
            for key, value, timestamp in items:
                self.set(key, value, timestamp)
            return
        self.flush()
        # Of two with the same key the last counts.
        records = {
            key.encode(): timestamp.to_bytes(_STAMP, "little") + value
            for key, value, timestamp in items
        }
        if max(map(len, records)) > _LONGEST or b"" in records:
            self._waiting.update([(key, (timestamp, value)) for key, value, timestamp in items])
            self.flush()
        else:
            self._write(lambda transaction: self._put_values(transaction, list(records.items())))

    def delete(self, key: str) -> bool:
        """Remove a key; tell whether it was there."""
        if not self.contains(key):
            return False
        self._waiting[key] = None
        self._room -= _PER_WRITE
        if self._room < 0:
            self.flush()
        return True

    def _other(self, name: bytes) -> LocalValue | None:
        with translated(self._path, "get"):
            record = self._transaction.get(_digest(name), db=self._others)
        if record is None:
            return None
        return LocalValue(int.from_bytes(record[:_STAMP], "little"), _unpacked(record)[1])

    # All of them.

    def count(self) -> int:
        """Number of keys."""
        self.flush()
        with translated(self._path, "count"):
            return sum(self._entries(table) for table in (self._values, self._others))

    def keys(self) -> list[str]:
        """All keys."""
        self.flush()
        with translated(self._path, "keys"):
            cursor = self._transaction.cursor(self._values)
            names = [name.decode() for name in cursor.iternext(keys=True, values=False)]
            names += [_unpacked(record)[0].decode() for _, record in self._all_others()]
        return names

    def timestamps(self) -> list[tuple[str, int]]:
        """All keys with their timestamps (µs)."""
        self.flush()
        read = int.from_bytes
        with (
            translated(self._path, "timestamps"),
            self._environment.begin(db=self._values, buffers=True) as views,
        ):
            # Views, so that no value is copied.
            found = [
                (str(name, "utf-8"), read(record[:_STAMP], "little"))
                for name, record in views.cursor()
            ]
            found += [
                (_unpacked(record)[0].decode(), read(record[:_STAMP], "little"))
                for _, record in self._all_others()
            ]
        return found

    def clear(self) -> None:
        """Remove every key, in one transaction."""

        def empty(transaction: lmdb.Transaction) -> None:
            transaction.drop(self._values, delete=False)
            transaction.drop(self._others, delete=False)

        self._write(empty)
        self._waiting.clear()
        self._room = self._buffer_size

    def unused(self) -> int:
        """Pages of the file that hold nothing."""
        self.flush()
        with translated(self._path, "compact"):
            tables = (None, self._values, self._others, self._about)
            found = [
                self._transaction.stat(table) if table else self._environment.stat()
                for table in tables
            ]
            used = sum(
                one["branch_pages"] + one["leaf_pages"] + one["overflow_pages"] for one in found
            )
            pages: int = self._environment.info()["last_pgno"] - 1 - used
        return pages if pages >= _WORTHWHILE else 0

    def copy_to(self, path: Path) -> None:
        """Write what is used into a new file, durably."""
        self.flush()
        with FORKING, translated(self._path, "compact"):
            self._environment.copy(str(path), compact=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    # Whose file it is.

    def adopt(self, uuid: UUID) -> None:
        """Have another uuid."""
        self._write(lambda transaction: _put(transaction, _UUID, uuid.bytes, self._about))

    def metadata(self) -> LocalValue | None:
        """The user's metadata."""
        with translated(self._path, "get_metadata"):
            record = self._transaction.get(_METADATA, db=self._about)
        if record is None:
            return None
        return LocalValue(int.from_bytes(record[:_STAMP], "little"), record[_STAMP:])

    def set_metadata(self, data: bytes, timestamp: int) -> None:
        """Replace the user's metadata."""
        record = _stamped(timestamp, data)
        self._write(lambda transaction: _put(transaction, _METADATA, record, self._about))

    # Transactions.

    def _write(self, work: Callable[[lmdb.Transaction], None]) -> None:
        """Do `work` in one transaction, in a map as large as it needs."""
        # What a transaction deletes has to be in the logs as deleted, after a power cut too.
        self._before_writing()
        with FORKING, translated(self._path, "write"):
            self._transaction.abort()  # the map cannot grow under it
            try:
                while not self._done(work):
                    self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            finally:
                self._look()

    def _done(self, work: Callable[[lmdb.Transaction], None]) -> bool:
        try:
            with self._environment.begin(write=True) as transaction:
                work(transaction)
        except lmdb.MapFullError:
            return False  # nothing was written
        return True

    def _put_waiting(self, transaction: lmdb.Transaction) -> None:
        values: list[tuple[bytes, bytes]] = []
        for key, entry in self._waiting.items():
            name = key.encode()
            if not 0 < len(name) <= _LONGEST:
                self._put_other(transaction, name, entry)
            elif entry is None:
                transaction.delete(name, db=self._values)
            else:
                values.append((name, entry[0].to_bytes(_STAMP, "little") + entry[1]))
        if values:
            self._put_values(transaction, values)

    def _put_values(self, transaction: lmdb.Transaction, values: list[tuple[bytes, bytes]]) -> None:
        values.sort()  # neighbours share the pages on the way to them
        cursor = transaction.cursor(self._values)
        # Behind all that is there, pages are filled to the end instead of split.
        append = not cursor.last() or bytes(cursor.key()) < values[0][0]
        cursor.putmulti(values, append=append)

    def _put_other(
        self, transaction: lmdb.Transaction, name: bytes, entry: tuple[int, bytes] | None
    ) -> None:
        if entry is None:
            transaction.delete(_digest(name), db=self._others)
        else:
            record = _stamped(entry[0], len(name).to_bytes(2, "little") + name + entry[1])
            _put(transaction, _digest(name), record, self._others)

    def _entries(self, table: Table) -> int:
        entries: int = self._transaction.stat(table)["entries"]
        return entries

    def _all_others(self) -> Iterable[tuple[bytes, bytes]]:
        return self._transaction.cursor(self._others)


def open_file(
    path: Path,
    flag: Literal["r", "w"],
    *,
    buffer_size: int,
    before_writing: Callable[[], object],
) -> LmdbFile | None:
    """Open a file that was found good.

    Args:
        path: the file.
        flag: to read or to write.
        buffer_size: bytes of writes that are collected for one transaction.
        before_writing: called before each transaction.

    Returns:
        None when another program holds it, or the path leads to another file by now.
    """
    fd = os.open(path, (os.O_RDWR if flag == "w" else os.O_RDONLY) | os.O_CLOEXEC)
    shared = None
    try:
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if flag == "w" else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        shared = environments.opened(path, fd, writable=flag == "w")
        if shared is None:
            return None
        file = LmdbFile(path, fd, shared, buffer_size, before_writing)
        fd, shared = -1, None  # they are the file's
        return file
    finally:
        if shared is not None:
            environments.given_back(shared)
        if fd >= 0:
            _unlock_and_close(fd)


def identity_of(path: Path, fd: int) -> Identity | None:
    """Whose file it is that `fd`, which is locked, is a descriptor of.

    Returns:
        None when the path leads to another file by now.

    Raises:
        LocalFileError: it is not one that EBooklet made, or one of a later version.
    """
    shared = environments.opened(path, fd, writable=False)
    if shared is None:
        return None
    try:
        environment = shared.environment
        with translated(path, "open"):
            try:
                about = environment.open_db(_ABOUT, create=False)
            except lmdb.NotFoundError:
                raise _stranger(path) from None
            with environment.begin(db=about) as transaction:
                form, uuid, serializer = map(transaction.get, (_FORMAT_KEY, _UUID, _SERIALIZER))
    finally:
        environments.given_back(shared)
    if form is None or uuid is None or len(uuid) != 16:
        raise _stranger(path)
    if form != _FORMAT:
        raise LocalFileError(f"{path} was made by a later EBooklet: upgrade this one", op="open")
    return Identity(UUID(bytes=uuid), serializer.decode("utf-8", "replace") if serializer else None)


def make_file(path: Path, identity: Identity) -> None:
    """Make a new, empty file; durable when it returns."""
    with (
        FORKING,
        contextlib.closing(environments.made(path)) as environment,
        translated(path, "create"),
    ):
        about, _, _ = (environment.open_db(name) for name in (_ABOUT, _VALUES, _OTHERS))
        with environment.begin(write=True) as transaction:
            _put(transaction, _FORMAT_KEY, _FORMAT, about)
            _put(transaction, _UUID, identity.uuid.bytes, about)
            _put(transaction, _SERIALIZER, (identity.serializer or "").encode(), about)


def _unlock_and_close(fd: int) -> None:
    # A child forked meanwhile has the same open file: closed here alone, it would stay locked.
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _put(transaction: lmdb.Transaction, key: bytes, record: bytes, table: Table) -> None:
    transaction.put(key, record, db=table)


def _digest(name: bytes) -> bytes:
    return hashlib.sha256(name).digest()


def _stamped(timestamp: int, data: bytes) -> bytes:
    return timestamp.to_bytes(_STAMP, "little") + data


def _unpacked(record: bytes) -> tuple[bytes, bytes]:
    """Key and value of a record of `others`."""
    value_at = _STAMP + 2 + int.from_bytes(record[_STAMP : _STAMP + 2], "little")
    return record[_STAMP + 2 : value_at], record[value_at:]


def _stranger(path: Path) -> LocalFileError:
    return LocalFileError(
        f"{path} is an LMDB file, but none that EBooklet made: choose another path", op="open"
    )
