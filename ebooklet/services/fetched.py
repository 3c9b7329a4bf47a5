"""What a reader has fetched, on its way to the store that it shares with others."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from operator import itemgetter
from typing import Final, TypeAlias

from ebooklet.ports.local_store import LocalValue

FetchedItem: TypeAlias = tuple[str, bytes, int]  # key, value, timestamp in µs

# Held back before they are stored: to store them, a reader is the writer for a moment, which takes
# half a dozen waits for the disk however little it is.
MAX_FETCHED_BYTES: Final = 32 * 1024 * 1024
_ITEM_BYTES: Final = 250  # of memory beside what the key and the value are long
_key: Final = itemgetter(0)


class FetchedValues:
    """Values by key that are not in the local store yet; the lock of the working copy guards them.

    Who only looks needs no lock: what is taken is left whole to those who look just then.
    """

    def __init__(self) -> None:
        self._values: dict[str, FetchedItem] = {}
        self._added = 0  # bytes since they were taken last

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> LocalValue | None:
        """One of them, if it is here."""
        return _valued(self._values.get(key))

    def pop(self, key: str) -> LocalValue | None:
        """The same, and have it here no longer."""
        return _valued(self._values.pop(key, None))

    def add(self, items: Collection[FetchedItem]) -> bool:
        """Hold back some more, and tell whether these are enough to be stored."""
        self._values.update(zip(map(_key, items), items, strict=True))
        self._added += sum([len(key) + len(value) for key, value, _ in items])
        self._added += _ITEM_BYTES * len(items)
        return self._added > MAX_FETCHED_BYTES

    def take(self) -> list[FetchedItem]:
        """All of them, of which none is left here."""
        values, self._values, self._added = self._values, {}, 0
        return list(values.values())


def _valued(item: FetchedItem | None) -> LocalValue | None:
    return None if item is None else LocalValue(item[2], item[1])
