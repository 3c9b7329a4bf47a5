"""A LocalStore in memory, for databases opened without a file."""

from __future__ import annotations

import os
import threading
import uuid as uuids
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final
from uuid import UUID

from ebooklet.errors import ForkedProcessError, LocalFileError
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Condition, LocalValue, Mode

__all__ = ["MemoryLocalStore", "open_store"]

_MAX_NODE_BYTES: Final = 64 << 20
_BATCH: Final = 256
_STORES: weakref.WeakSet[MemoryLocalStore]


class MemoryLocalStore:
    """Values in a dict. Nothing outlives `close`; everything else is as in the port."""

    def __init__(self, *, uuid: UUID | None, value_serializer: str | None, writable: bool) -> None:
        self._lock = threading.RLock()
        self._uuid = uuid or uuids.uuid4()
        self._serializer = value_serializer
        self._writable = writable
        self._data: dict[str, LocalValue] | None = {}  # None once closed
        self._refusal: Exception | None = None
        self._metadata: tuple[bytes, int] | None = None
        self._slots: dict[str, bytes] = {}
        self._logs: dict[str, bytearray] = {}
        self._nodes: dict[bytes, bytes] = {}
        self._node_bytes = 0
        _STORES.add(self)

    @property
    def location(self) -> str:
        """A word for messages."""
        return "memory"

    @property
    def uuid(self) -> UUID:
        """The uuid given last, or made up at the start."""
        return self._uuid

    @property
    def value_serializer(self) -> str | None:
        """Name of the value serializer; None for a class of the user's own."""
        return self._serializer

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._writable

    @property
    def condition(self) -> Condition:
        """New while nothing is in it; edited if its maker put only values there."""
        if self._slots:
            return "clean"
        return "edited" if self._open() else "new"

    def get(self, key: str) -> bytes | None:
        """The value, or None when the key is absent."""
        entry = self._open().get(key)
        return None if entry is None else entry.value

    def get_entry(self, key: str) -> LocalValue | None:
        """The value with its timestamp, or None when the key is absent."""
        return self._open().get(key)

    def get_many(self, keys: Sequence[str]) -> Iterator[tuple[str, LocalValue]]:
        """Stream the given keys in their order, skipping absent ones."""
        self._open()
        return self._stream(keys)

    def _stream(self, keys: Sequence[str]) -> Iterator[tuple[str, LocalValue]]:
        for key in keys:
            entry = self._open().get(key)
            if entry is not None:
                yield key, entry

    def contains(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._open()

    def set(self, key: str, value: bytes, timestamp: int) -> None:
        """Write one value."""
        self._open()[key] = LocalValue(timestamp, value)

    def set_many(self, items: Iterable[tuple[str, bytes, int]]) -> None:
        """Write (key, value, timestamp) triples."""
        self._open()
        for key, value, timestamp in items:
            self.set(key, value, timestamp)  # a subclass may have its own

    def delete(self, keys: Iterable[str]) -> int:
        """Remove keys, ignoring absent ones; return how many were there."""
        self._open()
        removed = 0
        source = iter(keys)
        while batch := list(islice(source, _BATCH)):
            with self._lock:
                data = self._open()
                removed += sum(data.pop(key, None) is not None for key in batch)
        return removed

    def keys(self) -> Iterator[str]:
        """A snapshot of all keys."""
        names = list(self._open())
        return (name for name in names if name in self._open())

    def timestamps(self) -> Iterator[tuple[str, int]]:
        """A snapshot of all keys with their timestamps (µs)."""
        entries = [(key, entry.timestamp) for key, entry in self._open().copy().items()]
        return (pair for pair in entries if pair[0] in self._open())

    def count(self) -> int:
        """Number of keys."""
        return len(self._open())

    def clear(self) -> None:
        """Remove every key."""
        self._open().clear()

    def get_metadata(self) -> tuple[bytes, int] | None:
        """The metadata as JSON bytes with its timestamp (µs), or None."""
        self._open()
        return self._metadata

    def set_metadata(self, data: bytes, timestamp: int) -> None:
        """Replace the metadata."""
        self._open()
        self._metadata = (data, timestamp)

    def read_slot(self, name: str) -> bytes | None:
        """Content of a slot, or None."""
        self._open()
        return self._slots.get(name)

    def write_slot(self, name: str, data: bytes | None) -> None:
        """Replace a slot; None removes it."""
        self._open()
        if data is None:
            self._slots.pop(name, None)
        else:
            self._slots[name] = data

    def read_log(self, name: str) -> bytes:
        """Content of a log; empty when there is none."""
        with self._lock:
            self._open()
            return bytes(self._logs.get(name, b""))

    def append_log(self, name: str, data: bytes) -> None:
        """Append to a log."""
        with self._lock:
            self._open()
            self._logs.setdefault(name, bytearray()).extend(data)

    def replace_log(self, name: str, data: bytes) -> None:
        """Replace a log's whole content."""
        with self._lock:
            self._open()
            self._logs[name] = bytearray(data)

    def cached_nodes(self, refs: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of the nodes that are still there."""
        with self._lock:
            self._open()
            return {ref: self._nodes[ref] for ref in refs if ref in self._nodes}

    def cache_nodes(self, nodes: Mapping[bytes, bytes]) -> None:
        """Remember nodes; the oldest are forgotten when there are too many."""
        with self._lock:
            self._open()
            for ref, data in nodes.items():
                if ref not in self._nodes:
                    self._nodes[ref] = data
                    self._node_bytes += len(data)
            while self._node_bytes > _MAX_NODE_BYTES:
                oldest = next(iter(self._nodes))
                self._node_bytes -= len(self._nodes.pop(oldest))

    def exclusive(self, timeout: float) -> AbstractContextManager[None]:
        """No other process can be there."""
        self._open()
        return nullcontext()

    @property
    def changed_elsewhere(self) -> bool:
        """Never."""
        return False

    def freshen(self) -> None:
        """Nothing to do."""
        self._open()

    def guard(self, check: Callable[[], object]) -> None:
        """Nothing to do: nobody else changes it."""
        self._open()

    def acknowledge(self) -> None:
        """Nothing to do."""

    def change_mode(self, mode: Mode, *, timeout: float) -> None:
        """See the port; nobody has to be waited for."""
        self._open()
        self._writable = mode == "write"

    def adopt_uuid(self, uuid: UUID) -> None:
        """Have another uuid from here on."""
        self._open()
        self._uuid = uuid

    def sync(self) -> None:
        """Nothing to do."""
        if self._refusal is not None:
            raise self._refusal

    def compact(self, *, evict: Iterable[str] = ()) -> int:
        """Drop the `evict` keys; there are no dead data."""
        return self.delete(evict)

    def close(self) -> None:
        """Drop everything; idempotent."""
        self._data = None

    def refuse(self, reason: Exception) -> None:
        """Drop everything and answer every later call with this error."""
        self._lock = threading.RLock()
        self._data = None
        self._refusal = reason

    def _open(self) -> dict[str, LocalValue]:
        data = self._data
        if data is None:
            raise self._refusal or LocalFileError(f"{self.location} is closed: open it again")
        return data


def open_store(
    path: str | os.PathLike[str] | None = None,
    *,
    clock: Clock | None = None,
    mode: Mode = "write",
    create: bool = True,
    replace: bool = False,
    uuid: UUID | None = None,
    value_serializer: str | None = "bytes",
    n_buckets: int | None = None,
    buffer_size: int = 0,
    lock_timeout: float = 0.0,
    expected_keys: int = 0,
) -> MemoryLocalStore:
    """Make an empty store; what concerns only files is accepted and has no effect.

    Args:
        path: not used, like `clock`, `create`, `replace`, `n_buckets`, `buffer_size`,
            `lock_timeout` and `expected_keys`.
        clock: see `path`.
        mode: "read" only shows in `writable`.
        create: see `path`.
        replace: see `path`.
        uuid: None makes one up.
        value_serializer: registered name; None for a class of the user's own.
        n_buckets: see `path`.
        buffer_size: see `path`.
        lock_timeout: see `path`.
        expected_keys: see `path`.
    """
    return MemoryLocalStore(uuid=uuid, value_serializer=value_serializer, writable=mode == "write")


def _let_go() -> None:
    """In a forked child: make every inherited store refuse, as one with a file does."""
    for store in list(_STORES):
        store.refuse(
            ForkedProcessError(
                "the database in memory was opened before this process was forked: "
                "open another one here"
            )
        )


_STORES = weakref.WeakSet()
os.register_at_fork(after_in_child=_let_go)
