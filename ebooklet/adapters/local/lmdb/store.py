"""An LMDB file as a LocalStore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

from ebooklet.adapters.local.lmdb.file import LmdbFile
from ebooklet.adapters.local.lmdb.session import Creation, Session
from ebooklet.adapters.localfiles.gate import Waiting
from ebooklet.adapters.localfiles.shared import SharedFile
from ebooklet.core.batches import take_batch
from ebooklet.errors import UnsupportedOperation
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import LocalValue, Mode

_Write: TypeAlias = Callable[[str, bytes, int], None]

_MAX_VALUE: Final = (4 << 30) - (1 << 20)  # LMDB's limit less a key and what goes with it
_BATCH_KEYS: Final = 256
_BATCH_BYTES: Final = 4 << 20
_WRITTEN_KEYS: Final = 4096
_WRITTEN_BYTES: Final = 16 << 20


class LmdbLocalStore(SharedFile[LmdbFile, Creation]):
    """One handle of a local file; made by `open_store`. See the port for its promises."""

    _session: Session

    def __init__(
        self,
        location: Path,
        *,
        mode: Mode,
        creation: Creation | None,
        replace: bool,
        buffer_size: int,
        lock_timeout: float,
        clock: Clock,
    ) -> None:
        super().__init__(
            Session(location, clock=clock, buffer_size=buffer_size),
            mode=mode,
            creation=creation,
            replace=replace,
            lock_timeout=lock_timeout,
            clock=clock,
        )

    # Single values.

    def set(self, key: str, value: bytes, timestamp: int) -> None:
        """Write one value; in the file at the latest after the next `sync`."""
        if len(value) > _MAX_VALUE:
            raise UnsupportedOperation(
                f"a value has {len(value)} bytes; an LMDB file holds up to {_MAX_VALUE} in one",
                op="set",
                key=key[:200],
            )
        self._acquire()
        try:
            (self._write or self._writer())(key, value, timestamp)
        finally:
            self._release()

    def get_entry(self, key: str) -> LocalValue | None:
        """The value with its timestamp, or None when the key is absent."""
        with self._lock:
            return self._opened().get_entry(key)

    def contains(self, key: str) -> bool:
        """Whether the key is there."""
        with self._lock:
            return self._opened().contains(key)

    # Many values.

    def get_many(self, keys: Sequence[str]) -> Iterator[tuple[str, LocalValue]]:
        """Stream the given keys in their order, skipping absent ones."""
        self._check()
        return self._stream(keys)

    def set_many(self, items: Iterable[tuple[str, bytes, int]]) -> None:
        """Write (key, value, timestamp) triples; each is atomic, all together are not."""
        self._check()
        source = iter(items)
        done = False
        while not done:
            batch, done = take_batch(source, _WRITTEN_KEYS, _WRITTEN_BYTES)
            if not batch:
                continue
            with self._writing() as handle:
                if max([len(value) for _, value, _ in batch]) <= _MAX_VALUE:
                    handle.set_many(batch)
                else:  # those before the one that is too large are written
                    for key, value, timestamp in batch:
                        self.set(key, value, timestamp)

    def delete(self, keys: Iterable[str]) -> int:
        """Remove keys, ignoring absent ones; return how many were there."""
        self._check()
        removed = 0
        source = iter(keys)
        while batch := list(islice(source, _BATCH_KEYS)):
            with self._lock:
                handle = self._opened()
                present = [key for key in batch if handle.contains(key)]
                if not present:
                    continue
                with self._writing() as handle:
                    self._deletions += 1
                    removed += sum(map(handle.delete, present))
        return removed

    # Everything.

    def keys(self) -> Iterator[str]:
        """A snapshot of all keys."""
        with self._lock:
            names = self._opened().keys()
            deletions = self._deletions
        return (name for name in names if self._is_still_there(name, deletions))

    def timestamps(self) -> Iterator[tuple[str, int]]:
        """A snapshot of all keys with their timestamps (µs)."""
        with self._lock:
            found = self._opened().timestamps()
            deletions = self._deletions
        return (pair for pair in found if self._is_still_there(pair[0], deletions))

    def count(self) -> int:
        """Number of keys, unsynced writes included."""
        with self._lock:
            return self._opened().count()

    def clear(self) -> None:
        """Remove every key."""
        with self._writing() as handle:
            self._deletions += 1
            handle.clear()

    def compact(self, *, evict: Iterable[str] = ()) -> int:
        """Remove the `evict` keys, and rewrite the file where there are pages without use in it.

        LMDB keeps no dead copies of entries, so that those that went are the evicted ones.
        """
        with self._writing() as handle:
            removed = sum(map(handle.delete, evict))
            self._deletions += bool(removed)
            if handle.unused():
                self._session.rewrite(Waiting(self._clock, self._lock_timeout))
                self._adopt()
        return removed

    def adopt_uuid(self, uuid: UUID) -> None:
        """Have another uuid in the file, in one transaction."""
        with self._writing():
            self._session.adopt_uuid(uuid)
            self._write = None

    # Metadata.

    def get_metadata(self) -> tuple[bytes, int] | None:
        """The metadata as JSON bytes with its timestamp (µs), or None."""
        with self._lock:
            found = self._opened().metadata()
        return None if found is None else (found.value, found.timestamp)

    def set_metadata(self, data: bytes, timestamp: int) -> None:
        """Replace the metadata."""
        with self._writing() as handle:
            handle.set_metadata(data, timestamp)

    # Behind it. All of it is called with the lock held.

    def _adopt(self) -> LmdbFile:
        handle = self._session.handle
        assert handle is not None  # noqa: S101  # the session just opened it
        self._handle = handle
        self._read = handle.get
        self._write = None
        return handle

    def _writer(self) -> _Write:
        """The file's own `set`, after the mark was taken away; for a reader, one that borrows."""
        self._check()
        if not self._owns():
            return self._set_as_reader
        self._session.soil()
        self._write = self._opened().set
        return self._write

    def _set_as_reader(self, key: str, value: bytes, timestamp: int) -> None:
        with self._writing():
            self.set(key, value, timestamp)

    def _stream(self, keys: Sequence[str]) -> Iterator[tuple[str, LocalValue]]:
        position = 0
        while position < len(keys):
            batch: list[tuple[str, LocalValue]] = []
            size = 0
            with self._lock:
                read = self._opened().get_entry
                for key in keys[position : position + _BATCH_KEYS]:
                    position += 1
                    entry = read(key)
                    if entry is not None:
                        batch.append((key, entry))
                        size += len(entry.value)
                        if size >= _BATCH_BYTES:
                            break
            yield from batch
