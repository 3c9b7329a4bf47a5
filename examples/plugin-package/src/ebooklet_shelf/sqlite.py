"""Objects in one SQLite file: a bucket that can be sent by mail."""

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NoReturn

from ebooklet.adapters.objects import check_key, check_span, no_copy, read_body, read_part
from ebooklet.connection import RemoteAddress
from ebooklet.errors import EBookletError, ObjectNotFound, PreconditionFailed, RemoteUnavailable
from ebooklet.ports import remote_store as port

TABLE = "CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, etag TEXT, ms INT, body BLOB)"
METAS = "SELECT key, length(body), etag, ms FROM objects WHERE "


class SqliteRemoteStore:
    """A table of objects; each write is one transaction, which makes conditions atomic."""

    origin = None  # nobody copies from here
    capabilities = port.Capabilities(conditional_put=True, server_side_copy=False, max_copy_bytes=0,
        ranges=True, writable=True, max_put_bytes=1 << 29, shared=False)  # fmt: skip

    def __init__(self, path: str) -> None:
        self.location = self.endpoint = f"sqlite://{path}"
        self._turn = threading.Lock()
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with self._transaction("open", path) as file:
            file.execute(TABLE)

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> port.StoredObject:
        check_span(start, stop, key)
        with self._transaction("get", check_key(key, "get")) as file:
            meta = self._find(file, key, "get")
            size = max(0, (meta.size if stop is None else min(stop, meta.size)) - start)
            part = "SELECT substr(body, ?, ?) FROM objects WHERE key = ?"
            found = file.execute(part, (start + 1, size, key)).fetchone()
            return port.StoredObject(found[0] or b"", meta)

    def get_ranges(self, ranges: Sequence[port.ByteRange]) -> Iterator[bytes | EBookletError]:
        return (read_part(self, part) for part in ranges)

    def head(self, key: str) -> port.ObjectMeta:
        with self._transaction("head", check_key(key, "head")) as file:
            return self._find(file, key, "head")

    def put(self, key: str, body: port.Body | BinaryIO, *, condition: port.Condition | None = None,
            cache_control: str | None = None) -> port.ObjectMeta:  # fmt: skip
        with self._transaction("put", check_key(key, "put")) as file:
            found = file.execute("SELECT etag FROM objects WHERE key = ?", (key,)).fetchone()
            if condition and (found and found[0]) != getattr(condition, "etag", None):
                raise PreconditionFailed("the object is not as it should be", op="put", key=key)
            row = (key, f'"{secrets.token_hex(16)}"', self.server_time_ms(), read_body(body))
            file.execute("REPLACE INTO objects VALUES (?, ?, ?, ?)", row)
            return self._find(file, key, "put")

    def delete(self, keys: Iterable[str]) -> None:
        rows = [(check_key(key, "delete"),) for key in keys]
        with self._transaction("delete", "") as file:
            file.executemany("DELETE FROM objects WHERE key = ?", rows)

    def list(self, prefix: str, *, after: str = "") -> Iterator[port.ObjectMeta]:
        chosen = "key > ? AND substr(key, 1, ?) = ?"
        with self._transaction("list", prefix) as file:
            rows = file.execute(METAS + chosen, (after, len(prefix), prefix)).fetchall()
        return (port.ObjectMeta(*row) for row in rows)

    def copies_from(self, origin: port.Origin | None) -> bool:
        return False

    def copy(self, source: str, target: str, *, origin: port.Origin | None = None) -> NoReturn:
        raise no_copy(self.location, check_key(target and source, "copy"))

    def server_time_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def close(self) -> None:
        self._file.close()

    def _find(self, file: sqlite3.Connection, key: str, op: str) -> port.ObjectMeta:
        if (row := file.execute(METAS + "key = ?", (key,)).fetchone()) is None:
            raise ObjectNotFound(f"no such object in {self.location}", op=op, key=key)
        return port.ObjectMeta(*row)

    @contextmanager
    def _transaction(self, op: str, key: str) -> Iterator[sqlite3.Connection]:
        try:
            with self._turn, self._file as file:
                file.execute("BEGIN IMMEDIATE")
                yield file
        except sqlite3.Error as exc:
            raise RemoteUnavailable(f"{self.location}: {exc}", op=op, key=key) from exc


def open_store(address: RemoteAddress) -> tuple[SqliteRemoteStore, str]:
    """Open `sqlite:///folder/file.sqlite?key=name`; "db" is the key where none is given."""
    return SqliteRemoteStore(f"/{address.path}"), dict(address.options).get("key", "db")
