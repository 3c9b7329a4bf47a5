"""Plain Booklet: the file that is EBooklet's local half by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import booklet

from benchmarks.peers import peer


class Local(peer.Local):
    """A file with str keys and bytes values, opened as EBooklet does."""

    def open(self) -> None:
        self._book: Any = booklet.open(
            str(self.place.new_folder() / "file.blt"),
            "n",
            key_serializer="str",
            value_serializer="bytes",
            n_buckets=int(self.place.options["n_buckets"]),
        )

    def bulk(self, values: Mapping[str, bytes]) -> None:
        self._book.update(values)
        self._book.sync()

    def set(self, keys: Iterable[str], value: bytes) -> None:
        book = self._book
        for key in keys:
            book[key] = value

    def get(self, keys: Iterable[str]) -> None:
        book = self._book
        for key in keys:
            book[key]

    def keys(self) -> int:
        return sum(1 for _ in self._book)

    def all(self) -> int:
        return sum(1 for _ in self._book.values())

    def close(self) -> None:
        self._book.close()
