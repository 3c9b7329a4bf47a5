"""LMDB: a file uploaded whole, and local work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb

from benchmarks.peers import peer, whole_file

MAP_BYTES = 1 << 36  # of address space, not of the file


def environment(path: Path, *, sync: bool = True) -> Any:
    """A file, opened."""
    return lmdb.open(str(path), subdir=False, map_size=MAP_BYTES, sync=sync)


def fill(env: Any, values: Mapping[str, bytes]) -> None:
    """Write all in one transaction; appended, which fills pages, where nothing is there yet."""
    empty = env.stat()["entries"] == 0
    with env.begin(write=True) as transaction:
        items = [(key.encode(), body) for key, body in values.items()]
        transaction.cursor().putmulti(items, append=empty)


class File(whole_file.File):
    """One LMDB file."""

    def __init__(self, path: Path) -> None:
        self._env = environment(path)

    def put(self, values: Mapping[str, bytes]) -> None:
        fill(self._env, values)

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        with self._env.begin() as transaction:
            return {key: transaction.get(key.encode()) for key in keys}

    def keys(self) -> Collection[str]:
        with self._env.begin() as transaction:
            return [key.decode() for key in transaction.cursor().iternext(values=False)]

    def all(self) -> Mapping[str, bytes]:
        with self._env.begin() as transaction:
            return {key.decode(): value for key, value in transaction.cursor()}

    def close(self) -> None:
        self._env.close()


class Remote(whole_file.Remote):
    """The same, in the bucket."""

    file = File


class Local(peer.Local):
    """A transaction for each key read, and for each batch of keys written.

    Batches are not forced to the disk one by one: no other file's are.
    """

    def open(self) -> None:
        self._env = environment(self.place.new_folder() / "file", sync=False)

    def bulk(self, values: Mapping[str, bytes]) -> None:
        fill(self._env, values)
        self._env.sync(True)

    def set(self, keys: Iterable[str], value: bytes) -> None:
        with self._env.begin(write=True) as transaction:
            for key in keys:
                transaction.put(key.encode(), value)

    def get(self, keys: Iterable[str]) -> None:
        env = self._env
        for key in keys:
            with env.begin() as transaction:
                transaction.get(key.encode())

    def keys(self) -> int:
        with self._env.begin() as transaction:
            return sum(1 for _ in transaction.cursor().iternext(values=False))

    def all(self) -> int:
        with self._env.begin() as transaction:
            return sum(1 for _ in transaction.cursor())

    def close(self) -> None:
        self._env.close()
