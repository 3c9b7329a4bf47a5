"""What every peer is asked to do, and on which data. The standard library only."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class NotOffered(Exception):
    """This peer has no such thing: it is left out of that row."""


@dataclass(frozen=True)
class Place:
    """Where a peer keeps its data, and how much that is."""

    endpoint_url: str
    access_key_id: str
    access_key: str = field(repr=False)
    region: str
    bucket: str
    prefix: str  # of all objects of this peer, without a slash at its end
    folder: str  # for local files; empty at first
    n_keys: int
    value_bytes: int
    options: Mapping[str, str]

    def new_folder(self) -> Path:
        """An empty folder, for one that has never been here."""
        number = sum(1 for _ in Path(self.folder).iterdir())
        made = Path(self.folder) / str(number)
        made.mkdir()
        return made


class Data:
    """Keys and random values, the same for every peer; `values` is what has been written last."""

    def __init__(self, n_keys: int, value_bytes: int) -> None:
        self.keys = [f"key-{number:08}" for number in range(n_keys)]
        self._chance = random.Random(1)
        self._value_bytes = value_bytes
        self.values = dict(zip(self.keys, self._bodies(n_keys), strict=True))
        self._shuffled = self._chance.sample(self.keys, n_keys)

    def scattered(self, n: int) -> list[str]:
        """Keys that lie far from each other."""
        return self._shuffled[-n:]

    def neighbouring(self, n: int) -> list[str]:
        """Keys that follow each other."""
        first = min(len(self.keys) // 2, len(self.keys) - n)
        return self.keys[first : first + n]

    def changed(self, n: int) -> dict[str, bytes]:
        """New values for some scattered keys; they count once they have been written."""
        keys = self._chance.sample(self.keys, n)
        return dict(zip(keys, self._bodies(len(keys)), strict=True))

    def _bodies(self, n: int) -> list[bytes]:
        return [self._chance.randbytes(self._value_bytes) for _ in range(n)]


class Reader:
    """One that has just come, and has nothing of the data yet."""

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Values of these keys, by the fastest way to read so many."""
        raise NotOffered

    def keys(self) -> Collection[str]:
        """All keys."""
        raise NotOffered

    def know_keys(self) -> None:
        """Have the keys at hand, so that `keys` asks nobody; where nothing is kept, not offered."""
        raise NotOffered

    def all(self) -> Mapping[str, bytes]:
        """All values, in memory."""
        raise NotOffered

    def load(self) -> None:
        """Take all values into a local file."""
        raise NotOffered

    def close(self) -> None:
        """Not measured."""


class Remote:
    """A program that keeps data in a bucket.

    Steps may return seconds of their parts, by name.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def prepare(self) -> None:
        """What happens once for a server, or a program: not compared."""

    def write_all(self, values: Mapping[str, bytes]) -> Mapping[str, float] | None:
        """Write new data; durable when it returns."""
        raise NotOffered

    def changes(self, values: Mapping[str, bytes]) -> int:
        """Set values locally where they are not yet, and count what would be pushed."""
        raise NotOffered

    def push(self, values: Mapping[str, bytes]) -> Mapping[str, float] | None:
        """Change values through a handle that is open already; durable when it returns."""
        raise NotOffered

    def pause(self) -> None:
        """Close what is open, and keep what is in local files."""

    def resume(self) -> None:
        """Open it again, for `push` and `changes`."""

    def change(self, values: Mapping[str, bytes]) -> Mapping[str, float] | None:
        """Come back, change values, leave again; durable when it returns."""
        raise NotOffered

    def settle(self) -> None:
        """Wait for what `change` left behind when it returned: counted with it, and not timed."""

    def reader(self, *, keep: bool = False) -> Reader:
        """Open the data as somebody who has never been here.

        Args:
            keep: what is read goes into a local file, where the peer has one.
        """
        raise NotOffered

    def close(self) -> None:
        """Not measured."""


class Local:
    """A file on this machine, open for reading and writing."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def open(self) -> None:
        """Create it, empty."""
        raise NotOffered

    def bulk(self, values: Mapping[str, bytes]) -> None:
        """Write all at once into an empty file; it has them when this returns."""
        raise NotOffered

    def set(self, keys: Iterable[str], value: bytes) -> None:
        """Write key by key."""
        raise NotOffered

    def get(self, keys: Iterable[str]) -> None:
        """Read key by key."""
        raise NotOffered

    def keys(self) -> int:
        """Go through all keys in order, and count them."""
        raise NotOffered

    def all(self) -> int:
        """Go through all values, and count them."""
        raise NotOffered

    def close(self) -> None:
        """Not measured."""
