"""What a reader has fetched, on its way to the store that it shares with others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ebooklet.ports.local_store import LocalValue

MAX_FETCHED_BYTES: Final = 4 * 1024 * 1024  # held back before they are stored


class FetchedValues:
    """Values by key that are not in the local store yet; the lock of the working copy guards them.

    Who only looks needs no lock: what is taken is left whole to those who look just then.
    """

    def __init__(self) -> None:
        self._values: dict[str, LocalValue] = {}
        self._added = 0  # bytes since they were taken last

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> LocalValue | None:
        """One of them, if it is here."""
        return self._values.get(key)

    def pop(self, key: str) -> LocalValue | None:
        """The same, and have it here no longer."""
        return self._values.pop(key, None)

    def add(self, values: Iterable[tuple[str, LocalValue]]) -> bool:
        """Hold back some more, and tell whether these are enough to be stored."""
        for key, value in values:
            self._values[key] = value
            self._added += len(value.value) + len(key)
        return self._added > MAX_FETCHED_BYTES

    def take(self) -> dict[str, LocalValue]:
        """All of them, of which none is left here."""
        values, self._values, self._added = self._values, {}, 0
        return values
