"""EBooklet, through its public functions: one program for ours and for the existing 0.11.1."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Literal

import ebooklet
from benchmarks.peers import peer


def connection(place: peer.Place, db_key: str) -> Any:
    """What leads to a database; the client library is an option that the existing one lacks."""
    options: dict[str, Any] = {}
    if driver := place.options.get("driver"):
        options["driver"] = driver
    return ebooklet.S3Connection(
        place.access_key_id,
        place.access_key,
        db_key,
        place.bucket,
        endpoint_url=place.endpoint_url,
        **options,
    )


def timed(parts: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Do it, and remember its seconds."""
    began = time.perf_counter()
    result = work()
    parts[name] = time.perf_counter() - began
    return result


class Reader(peer.Reader):
    """A database with an empty local file, or with none where that is possible and wanted."""

    def __init__(self, place: peer.Place, *, keep: bool) -> None:
        path = None if "memory" in place.options and not keep else place.new_folder() / "reader.blt"
        self._db: Any = ebooklet.open_ebooklet(connection(place, place.prefix), path, "r")

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        if len(keys) == 1:
            return {keys[0]: self._db[keys[0]]}
        return dict(self._db.get_items(keys))

    def keys(self) -> Collection[str]:
        return list(self._db)

    def know_keys(self) -> None:
        self.keys()

    def all(self) -> Mapping[str, bytes]:
        return dict(self._db.items())

    def load(self) -> None:
        failures = self._db.load_items()
        assert not failures, failures

    def close(self) -> None:
        self._db.close()


class Remote(peer.Remote):
    """A database with a local file, and the lock on it while it is open."""

    def __init__(self, place: peer.Place) -> None:
        super().__init__(place)
        self._path = place.new_folder() / "writer.blt"
        self._db: Any = None

    def prepare(self) -> None:
        """Create a small one: it probes the server, once in thirty days."""
        path = self.place.new_folder() / "first.blt"
        other = connection(self.place, f"{self.place.prefix}-first")
        with ebooklet.open_ebooklet(other, path, "n", value_serializer="bytes") as db:
            db["x"] = b""
            assert db.changes().push()

    def _open(self, flag: Literal["n", "w"]) -> Any:
        n_keys = self.place.n_keys
        options: dict[str, Any] = {}
        if lock := self.place.options.get("lock"):
            options["lock"] = lock
        return ebooklet.open_ebooklet(
            connection(self.place, self.place.prefix),
            self._path,
            flag,
            value_serializer="bytes" if flag == "n" else None,
            n_buckets=max(12007, n_keys + n_keys // 4),
            **options,
        )

    def write_all(self, values: Mapping[str, bytes]) -> Mapping[str, float]:
        parts: dict[str, float] = {}
        db = self._db = timed(parts, "open", lambda: self._open("n"))

        def fill() -> None:
            db.update(values)
            db.sync()

        timed(parts, "fill", fill)
        assert timed(parts, "push", lambda: db.changes().push())
        return parts

    def changes(self, values: Mapping[str, bytes]) -> int:
        for key, value in values.items():
            self._db[key] = value
        return sum(1 for _ in self._db.changes().iter_changes())

    def push(self, values: Mapping[str, bytes]) -> Mapping[str, float]:
        parts: dict[str, float] = {}
        for key, value in values.items():
            self._db[key] = value
        assert timed(parts, "push", lambda: self._db.changes().push())
        return parts

    def pause(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def resume(self) -> None:
        self._db = self._open("w")

    def change(self, values: Mapping[str, bytes]) -> Mapping[str, float]:
        parts: dict[str, float] = {}
        self._db = timed(parts, "open", lambda: self._open("w"))
        parts |= self.push(values)
        timed(parts, "close", self.pause)
        return parts

    def settle(self) -> None:
        with suppress(ModuleNotFoundError):  # the existing one has waited when it closed
            import_module("ebooklet.services.departing").await_departures()

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place, keep=keep)

    def close(self) -> None:
        self.pause()


class Local(peer.Local):
    """A database that has no remote yet."""

    def open(self) -> None:
        options: dict[str, Any] = {}
        if local := self.place.options.get("local"):
            options["local"] = local
        self._db: Any = ebooklet.open(
            None,
            self.place.new_folder() / "file",
            "n",
            value_serializer="bytes",
            n_buckets=int(self.place.options["n_buckets"]),
            **options,
        )

    def bulk(self, values: Mapping[str, bytes]) -> None:
        self._db.update(values)
        self._db.sync()

    def set(self, keys: Iterable[str], value: bytes) -> None:
        db = self._db
        for key in keys:
            db[key] = value

    def get(self, keys: Iterable[str]) -> None:
        db = self._db
        for key in keys:
            db[key]

    def keys(self) -> int:
        return sum(1 for _ in self._db)

    def all(self) -> int:
        return sum(1 for _ in self._db.values())

    def close(self) -> None:
        self._db.close()
