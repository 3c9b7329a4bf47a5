"""A SQLite file, uploaded whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from benchmarks.peers import whole_file


class File(whole_file.File):
    """A table of keys and values."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB)")

    def put(self, values: Mapping[str, bytes]) -> None:
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", values.items())

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        query = "SELECT value FROM kv WHERE key = ?"
        return {key: self._db.execute(query, (key,)).fetchone()[0] for key in keys}

    def keys(self) -> Collection[str]:
        return [key for (key,) in self._db.execute("SELECT key FROM kv")]

    def all(self) -> Mapping[str, bytes]:
        return dict(self._db.execute("SELECT key, value FROM kv"))

    def close(self) -> None:
        self._db.close()


class Remote(whole_file.Remote):
    """The same, in the bucket."""

    file = File
