"""Views of a database's keys, values and items: all of them, or a range."""

from __future__ import annotations

from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    MutableMapping,
    ValuesView,
)
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

from ebooklet.core.index.lookup import prefix_range
from ebooklet.errors import SerializationError
from ebooklet.services import iterating
from ebooklet.services.working_copy import WorkingCopy

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys in [start, stop); None = no bound."""

    start: str | None = None
    stop: str | None = None

    @classmethod
    def of(cls, prefix: str | None, start: str | None, stop: str | None) -> KeyRange:
        """The keys that begin with `prefix` and lie in [start, stop).

        Raises:
            TypeError: one of them is no string.
        """
        for bound in (prefix, start, stop):
            if bound is not None and not isinstance(bound, str):
                raise TypeError(f"bounds of keys are strings, not {type(bound).__name__}")
        low, high = prefix_range(prefix) if prefix else ("", None)
        ends = [end for end in (high, stop) if end is not None]
        return cls(max(low, start or "") or None, min(ends) if ends else None)

    def __contains__(self, key: object) -> bool:
        return (
            isinstance(key, str)
            and (self.start is None or key >= self.start)
            and (self.stop is None or key < self.stop)
        )


class _RangeView:
    """What the three views share."""

    def __init__(
        self,
        book: MutableMapping[str, Any],
        copy: WorkingCopy,
        loads: Callable[[bytes], Any],
        keys: KeyRange,
    ) -> None:
        self._book = book
        self._copy = copy
        self._loads = loads
        self._range = keys

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._book!r}, {self._range})"

    def __len__(self) -> int:
        if self._range == KeyRange():
            return len(self._book)
        return iterating.length_within(self._copy, self._range.start, self._range.stop)

    def _keys(self) -> Iterator[str]:
        return iterating.iterate(self._copy, self._range.start, self._range.stop)

    def _items(self) -> Iterator[tuple[str, bytes, int]]:
        return iterating.iterate_items(self._copy, self._range.start, self._range.stop)


class RangeKeys(_RangeView, KeysView[str]):
    """Keys in order; a set, as the keys of every mapping."""

    def __contains__(self, key: object) -> bool:
        return key in self._range and key in self._book

    def __iter__(self) -> Iterator[str]:
        return self._keys()


class RangeValues(_RangeView, ValuesView[V]):
    """Values in key order."""

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)

    def __iter__(self) -> Iterator[V]:
        return map(itemgetter(1), _read(self._items(), self._loads))


class RangeItems(_RangeView, ItemsView[str, V]):
    """(key, value) pairs in key order."""

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or item[0] not in self._range:
            return False
        missing = object()
        found = self._book.get(item[0], missing)
        return found is not missing and (found is item[1] or found == item[1])

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return _read(self._items(), self._loads)


def _read(
    found: Iterable[tuple[str, bytes, int]], loads: Callable[[bytes], V]
) -> Iterator[tuple[str, V]]:
    for key, raw, _ in found:
        try:
            value = loads(raw)
        except SerializationError as exc:
            exc.key = key
            raise
        yield key, value
