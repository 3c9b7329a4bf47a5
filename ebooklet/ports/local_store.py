"""The LocalStore port: the half of a database that lives on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable
from uuid import UUID


class LocalValue(NamedTuple):
    """A serialised value and when it was written."""

    timestamp: int  # µs since the Unix epoch, 0 to 2**56 - 1
    value: bytes


Condition: TypeAlias = Literal["new", "clean", "edited", "crashed"]
Mode: TypeAlias = Literal["read", "write"]


@runtime_checkable
class LocalStore(Protocol):
    """`str` to (bytes, timestamp), plus small named state: usable from many threads at once.

    Promises, each checked by `ebooklet.testing.LocalStoreContract`:

    1. What was there when `sync` or `close` returned is there after a SIGKILL at any later
       moment, whatever was under way, and the store always opens again.
    2. What a crash takes is at most writes since the last `sync`; a value that comes back is
       whole, never torn.
    3. Each call is atomic for other threads. Iterators see a snapshot of the keys; a key that
       was deleted meanwhile is left out, one overwritten meanwhile yields either value.
    4. `condition` tells how the store was found: `new` (just created), `clean` (exactly as this
       library's last `sync` or `close` left it), `edited` (that, then changed by another
       program), `crashed` (this library's last writer did not get to `sync`; anything whole
       that was found has been kept).
    5. One writer at a time, across processes and threads; the wait has a timeout
       (`LockTimeout` naming the holder). Any number of readers. A reader that stays open does
       not starve a writer.
    6. A handle inherited through `fork` raises `ForkedProcessError` and does no harm.
    7. Slots are replaced atomically. Logs are append-only; after a crash a log is a prefix of
       what was appended, at least up to the last `sync`.
    8. The node cache may forget anything at any time, and what it returns is to be verified.
    9. `change_mode` makes a reader the writer or the writer a reader, in place: no data, slot or
       log is lost, not even by a store in memory. When it raises, the store is what it was.
    10. `adopt_uuid` changes nothing but the uuid: after a crash at any point the store has one or
       the other, with all data, slots and logs.
    11. A reader's `guard` is asked before anything is read after others could have changed the
       store, and nothing is read that it refuses.
    """

    @property
    def location(self) -> str:
        """Where the data are, for messages."""
        ...

    @property
    def uuid(self) -> UUID: ...

    @property
    def value_serializer(self) -> str | None:
        """Name of the value serializer recorded at creation; None for a class of the user's own."""
        ...

    @property
    def writable(self) -> bool: ...

    @property
    def condition(self) -> Condition: ...

    def get(self, key: str) -> bytes | None:
        """The value, or None when the key is absent. Buffered writes are seen."""
        ...

    def get_entry(self, key: str) -> LocalValue | None:
        """The value with its timestamp, or None when the key is absent."""
        ...

    def get_many(self, keys: Sequence[str]) -> Iterator[tuple[str, LocalValue]]:
        """Stream the given keys in the given order, skipping absent ones, bounded in memory."""
        ...

    def contains(self, key: str) -> bool: ...

    def set(self, key: str, value: bytes, timestamp: int) -> None:
        """Write one value. The caller has validated the key (see `core.keys`)."""
        ...

    def set_many(self, items: Iterable[tuple[str, bytes, int]]) -> None:
        """Write (key, value, timestamp) triples; the iterable may read this same store."""
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Remove keys, ignoring absent ones; return how many were there."""
        ...

    def keys(self) -> Iterator[str]:
        """All keys, in no promised order."""
        ...

    def timestamps(self) -> Iterator[tuple[str, int]]:
        """All keys with their timestamps (µs), in no promised order, without reading values."""
        ...

    def count(self) -> int:
        """Number of keys, unsynced writes included."""
        ...

    def clear(self) -> None:
        """Remove every key; slots, logs and metadata stay."""
        ...

    def get_metadata(self) -> tuple[bytes, int] | None:
        """The user's metadata as JSON bytes with its timestamp (µs), or None if never set."""
        ...

    def set_metadata(self, data: bytes, timestamp: int) -> None:
        """Replace the user's metadata; `data` is JSON."""
        ...

    def read_slot(self, name: str) -> bytes | None: ...

    def write_slot(self, name: str, data: bytes | None) -> None:
        """Replace a slot atomically and durably; None removes it."""
        ...

    def read_log(self, name: str) -> bytes: ...

    def append_log(self, name: str, data: bytes) -> None:
        """Append; survives a SIGKILL at once and a power cut after the next `sync`."""
        ...

    def replace_log(self, name: str, data: bytes) -> None:
        """Replace a log's whole content atomically and durably."""
        ...

    def cached_nodes(self, refs: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of the given node cache keys that are still there."""
        ...

    def cache_nodes(self, nodes: Mapping[bytes, bytes]) -> None:
        """Remember nodes; failures to do so are silent (promise 8)."""
        ...

    def exclusive(self, timeout: float) -> AbstractContextManager[None]:
        """Hold the store alone for a few calls that belong together.

        A writer always does. A reader borrows the writer's place: inside the block it may call
        everything a writer may, and what it does is durable and marked when the block ends.
        Nests. Raises `LockTimeout` when a writer does not leave within `timeout` seconds.
        """
        ...

    @property
    def changed_elsewhere(self) -> bool:
        """Whether another process has changed slots, logs or values since `acknowledge`.

        Always False for a writer. Costs no system call: it tells what the last access noticed.
        """
        ...

    def freshen(self) -> None:
        """As a reader, come back to the store now, so that `changed_elsewhere` tells of now.

        Never waits: while a writer is in, nothing happens.
        """
        ...

    def guard(self, check: Callable[[], object]) -> None:
        """As a reader, call `check` each time that the store is come back to.

        It may read slots and logs, and takes no lock. What it raises comes out of whatever call came
        back, and the next one asks again.
        """
        ...

    def acknowledge(self) -> None:
        """Note that what another process changed has been taken in."""
        ...

    def change_mode(self, mode: Mode, *, timeout: float) -> None:
        """Become the writer, or cease to be it; nothing to do where the mode is that already.

        To "write" may wait for others, and `condition` then tells how the writer found the store.
        To "read" waits for nobody, and like `close` keeps that finding unless `sync` was called.

        Args:
            mode: what to become.
            timeout: seconds to wait for the writer's place.

        Raises:
            LockTimeout: another handle or process kept that place; this one is still a reader.
        """
        ...

    def adopt_uuid(self, uuid: UUID) -> None:
        """Be a half of this database from here on; durable when it returns. For a writer."""
        ...

    def sync(self) -> None:
        """Make everything so far durable, and leave the mark that makes the next open `clean`."""
        ...

    def compact(self, *, evict: Iterable[str] = ()) -> int:
        """Rewrite the store without dead data and without the `evict` keys; safe against crashes.

        Returns:
            Number of entries removed: evicted keys plus dead (overwritten or deleted) copies.
        """
        ...

    def close(self) -> None:
        """`sync`, release locks and files; idempotent."""
        ...


LocalOpener: TypeAlias = Callable[..., LocalStore]
"""Opens a store of one kind, as the entry points of `ebooklet.local_stores` name it."""
