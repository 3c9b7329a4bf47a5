"""A genuine Booklet file as a LocalStore."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

import orjson

from ebooklet.adapters.local.booklet.access import BookletFileAccess
from ebooklet.adapters.local.booklet.append import WORTH_IT, append_new
from ebooklet.adapters.local.booklet.bulk import (
    Places,
    is_worth_a_pass,
    keys_and_stamps,
    locate,
    read_places,
)
from ebooklet.adapters.local.booklet.handles import Handle
from ebooklet.adapters.local.booklet.layout import METADATA_KEY, Header, live_blocks
from ebooklet.core.batches import take_batch
from ebooklet.errors import SerializationError
from ebooklet.ports.local_store import LocalValue

_BATCH_KEYS: Final = 256
_BATCH_BYTES: Final = 4 << 20
_PLANNED_KEYS: Final = 500_000  # places of so many keys are in memory at a time
_FOUND: Final = 4  # of so many keys at least one may be there, or to look for each is not worth it
_WRITTEN_KEYS: Final = 32_768
_WRITTEN_BYTES: Final = 32 << 20
_SAMPLE: Final = 8
_METADATA: Final = METADATA_KEY.decode()
_new = tuple.__new__  # a NamedTuple's own is written in Python, which shows where each value passes


class BookletLocalStore(BookletFileAccess):
    """One handle of a local file; made by `open_store`. See the port for its promises.

    A writer holds the file until `close`. A reader holds it for a second at a time, so that
    writers get in; while one is in, its calls wait up to `lock_timeout` seconds and then raise
    `LockTimeout`. A reader may write too (values it fetched), each time as a short-lived writer.
    """

    # Single values; `get` and `set` are those of the shared file.

    def get_entry(self, key: str) -> LocalValue | None:
        """The value with its timestamp, or None when the key is absent."""
        with self._lock:
            handle = self._opened()
            with handle.changing:  # it writes what is buffered
                entry = handle.file.get_timestamp(key, True, False)
        return None if entry is None else LocalValue(*entry)

    def contains(self, key: str) -> bool:
        """Whether the key is there."""
        with self._lock:
            return key in self._opened().file

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
            while batch:
                with self._writing():
                    if self._room < 1:
                        self._make_room()
                    handle = self._opened()
                    # Those beyond the index's room come after it has grown.
                    fitting, batch = batch[: self._room], batch[self._room :]
                    if len(fitting) >= WORTH_IT and _are_mostly_new(handle, fitting):
                        self._room -= len(fitting)
                        fitting = append_new(handle, self._session.header(), fitting)
                        self._room += len(fitting)
                    for key, value, timestamp in fitting:
                        self.set(key, value, timestamp)

    def delete(self, keys: Iterable[str]) -> int:
        """Remove keys, ignoring absent ones; return how many were there."""
        self._check()
        removed = 0
        source = iter(keys)
        while batch := list(islice(source, _BATCH_KEYS)):
            with self._lock:
                handle = self._opened()
                present = [key for key in batch if key in handle.file]
                if not present:
                    continue
                with self._writing() as handle:
                    self._deletions += 1
                    if len(handle.file) < len(present):
                        handle.doubt()  # a header that tells of too few: Booklet counts below zero
                        handle = self._opened()
                    with handle.changing:
                        for key in present:
                            with contextlib.suppress(KeyError):
                                del handle.file[key]
                                removed += 1
        return removed

    # Everything.

    def keys(self) -> Iterator[str]:
        """A snapshot of all keys, in file order."""
        with self._lock:
            names, _ = keys_and_stamps(*self._scannable())
            deletions = self._deletions
        return (name for name in names if self._is_still_there(name, deletions))

    def timestamps(self) -> Iterator[tuple[str, int]]:
        """A snapshot of all keys with their timestamps (µs), in file order."""
        with self._lock:
            names, stamps = keys_and_stamps(*self._scannable())
            deletions = self._deletions
        return (
            (name, stamp)
            for name, stamp in zip(names, stamps, strict=True)
            if self._is_still_there(name, deletions)
        )

    def count(self) -> int:
        """Number of keys, unsynced writes included."""
        with self._lock:
            handle = self._opened()
            handle.flush()
            return len(handle.file)

    def clear(self) -> None:
        """Remove every key."""
        with self._writing():
            self._deletions += 1
            self._rebuild(clear=True)

    def compact(self, *, evict: Iterable[str] = ()) -> int:
        """Rewrite the file without dead blocks and without the `evict` keys."""
        skip = frozenset(evict)
        with self._writing() as handle:
            handle.flush()
            dead = [0]
            header = self._session.header()
            wanted = {key.encode() for key in skip}
            gone = sum(block[0] in wanted for block in live_blocks(handle.fd, header, dead=dead))
            if gone + dead[0]:
                self._deletions += 1
                self._rebuild(skip=skip)
        return gone + dead[0]

    def adopt_uuid(self, uuid: UUID) -> None:
        """Have another uuid in the header; the file is written anew, and in one step."""
        with self._writing():
            self._drop()
            self._session.adopt_uuid(uuid)
            self._adopt()

    # Metadata.

    def get_metadata(self) -> tuple[bytes, int] | None:
        """The metadata as JSON bytes with its timestamp (µs), or None."""
        entry = self.get_entry(_METADATA)
        return None if entry is None else (entry.value, entry.timestamp)

    def set_metadata(self, data: bytes, timestamp: int) -> None:
        """Replace the metadata; Booklet's own `get_metadata` returns what the JSON says."""
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise SerializationError(
                f"the metadata are not JSON: {exc}", op="set_metadata"
            ) from None
        with self._writing() as handle, handle.changing:
            handle.file.set_metadata(orjson.Fragment(data), timestamp)

    def _scannable(self) -> tuple[int, Header]:
        handle = self._opened()
        handle.flush()
        return handle.fd, self._session.header()

    def _stream(self, keys: Sequence[str]) -> Iterator[tuple[str, LocalValue]]:
        plan: _Plan | None = None
        position = 0
        while position < len(keys):
            with self._lock:
                handle = self._opened()
                read_many = self._read_many
                if read_many is not None and len(keys) <= len(handle.file) * _FOUND:
                    names = keys[position : position + _BATCH_KEYS]
                    batch = list(zip(names, read_many(names, _BATCH_BYTES), strict=False))
                else:
                    if plan is None or not plan.holds(position, self._layout(), self._deletions):
                        plan = self._plan(keys, position)
                    with handle.changing:  # a look-up writes what is buffered
                        batch = plan.read(handle, keys, position)
            position += len(batch)
            for key, entry in batch:
                if entry is not None:
                    yield key, _new(LocalValue, entry)

    def _layout(self) -> tuple[int, int]:
        return self._session.generation, self._session.rebuilds

    def _plan(self, keys: Sequence[str], position: int) -> _Plan:
        end = min(len(keys), position + _PLANNED_KEYS)
        places = None
        if is_worth_a_pass(end - position, len(self._opened().file)):
            places = locate(*self._scannable(), keys[position:end])
        return _Plan(end, self._layout(), self._deletions, places)


def _are_mostly_new(handle: Handle, items: Sequence[tuple[str, bytes, int]]) -> bool:
    """By a sample: to find out of each key that it is there costs a quarter of writing it."""
    sample = items[:: -(-len(items) // _SAMPLE)]
    return sum(key in handle.file for key, _, _ in sample) * 2 <= len(sample)


class _Plan(NamedTuple):
    """How to find the keys up to a position: by their places in the file, or one by one."""

    end: int
    layout: tuple[int, int]
    deletions: int
    places: Places | None

    def holds(self, position: int, layout: tuple[int, int], deletions: int) -> bool:
        """Whether the plan still tells where the key at `position` is."""
        return position < self.end and layout == self.layout and deletions == self.deletions

    def read(
        self, handle: Handle, keys: Sequence[str], position: int
    ) -> list[tuple[str, tuple[int, bytes] | None]]:
        """Timestamps and values of the keys from a position on, at most a batch; None if absent."""
        names = keys[position : min(position + _BATCH_KEYS, self.end)]
        if self.places is None:
            return list(self._one_by_one(handle, names))
        wanted = []
        size = 0
        for key in names:
            encoded = key.encode()
            place = self.places.get(encoded)
            wanted.append((encoded, place))
            size += place & 0xFFFF_FFFF if place is not None else 0
            if size >= _BATCH_BYTES:
                break
        found = read_places(handle.fd, wanted)
        look_up = handle.file.get_timestamp  # for what is no longer where it was
        return [
            (key, look_up(key, True, False) if entry is None and place is not None else entry)
            for key, entry, (_, place) in zip(names, found, wanted, strict=False)
        ]

    @staticmethod
    def _one_by_one(
        handle: Handle, names: Sequence[str]
    ) -> Iterator[tuple[str, tuple[int, bytes] | None]]:
        size = 0
        for key in names:
            entry = handle.file.get_timestamp(key, True, False)
            yield key, entry
            size += len(entry[1]) if entry else 0
            if size >= _BATCH_BYTES:
                return
