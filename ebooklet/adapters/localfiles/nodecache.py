"""The cache of index nodes: an SQLite file that may vanish or lie at any time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 256 << 20
_MAX_NODE: Final = 16 << 20  # bytes; larger rows are not ours
_PER_QUERY: Final = 500
_BUSY_S: Final = 1.0
_leaked: list[sqlite3.Connection] = []


class NodeCache:
    """Node bytes by key, shared by processes, bounded in size; failures are silent.

    Durability is switched off: after a crash the file may be damaged, and is then made anew. What
    is read is verified by the caller.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._usable = True

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of the nodes that are here."""
        found: dict[bytes, bytes] = {}
        with self._lock, self._tolerant():
            connection = self._connected(create=False)
            if connection is None:
                return found
            for start in range(0, len(keys), _PER_QUERY):
                part = keys[start : start + _PER_QUERY]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT key, data FROM nodes WHERE key IN ({marks}) AND length(data) <= ?",  # noqa: S608  # nosec B608  # only question marks
                    [*part, _MAX_NODE],
                )
                found.update((bytes(key), bytes(data)) for key, data in rows)
        return found

    def put(self, nodes: Mapping[bytes, bytes]) -> None:
        """Remember nodes; the oldest are forgotten when there are too many."""
        if not nodes:
            return
        with self._lock, self._tolerant():
            connection = self._connected(create=True)
            if connection is None:
                return
            items = iter(nodes.items())
            with connection:
                while part := list(islice(items, _PER_QUERY)):
                    connection.executemany("INSERT OR IGNORE INTO nodes VALUES (?, ?)", part)
                self._evict(connection)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._disconnect()
            self._remove()

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._disconnect()
            self._usable = False

    def abandon(self) -> None:
        """In a forked child: leave the parent's connection alone, which SQLite demands."""
        if self._connection is not None:
            _leaked.append(self._connection)
        self._connection = None
        self._usable = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError:
            pass  # busy, full or read-only: forgetting is allowed
        except (sqlite3.Error, OSError, TypeError, ValueError):
            self._disconnect()
            self._remove()

    def _connected(self, *, create: bool) -> sqlite3.Connection | None:
        if self._connection is not None or not self._usable:
            return self._connection
        if not create and not self._path.exists():
            return None
        if self._path.is_symlink():
            self._usable = False
            return None
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, check_same_thread=False, cached_statements=16
        )
        try:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=MEMORY")
            connection.execute("CREATE TABLE IF NOT EXISTS nodes (key BLOB UNIQUE, data BLOB)")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _evict(self, connection: sqlite3.Connection) -> None:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self._max_bytes:
            connection.execute(
                "DELETE FROM nodes WHERE rowid <= "
                "(SELECT min(rowid) + (max(rowid) - min(rowid)) / 4 FROM nodes)"
            )

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
