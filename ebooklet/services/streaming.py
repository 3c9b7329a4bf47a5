"""Streaming: the values of many keys in their order, fetched in parts of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Final, TypeVar

from ebooklet.core.entry import Entry
from ebooklet.core.keys import check_keys, is_key
from ebooklet.errors import EBookletError
from ebooklet.ports.local_store import LocalValue
from ebooklet.services.entries import entries_of
from ebooklet.services.explaining import asked
from ebooklet.services.fetching import fetch_values
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

T = TypeVar("T")

_PART_BYTES: Final = 16 * 1024 * 1024  # values held at once, but for the last
_FIRST_WINDOW: Final = 16  # keys
_GROWTH: Final = 8
_WINDOW: Final = 4096


def stream(copy: WorkingCopy, keys: Iterable[str]) -> Iterator[tuple[str, LocalValue | None]]:
    """Yield each key in the given order with its value, or None when it is absent.

    Values that are not here are fetched many at a time. Where `keys` comes one by one, few at
    first, so that a reader who stops soon has moved little; who has a list has said what it wants.

    Raises:
        EBookletError: a fetch failed.
    """
    copy.require_open()
    window = _WINDOW if isinstance(keys, Sized) else _FIRST_WINDOW
    return _streamed(copy, iter(check_keys(keys)), window)


def _streamed(
    copy: WorkingCopy, keys: Iterator[str], window: int
) -> Iterator[tuple[str, LocalValue | None]]:
    while batch := list(islice(keys, window)):
        wanted = iter(batch)
        values = read_many(copy, list(filter(is_key, batch)))
        for part, found in _told(values, batch):
            for key in part:
                if copy.closed:
                    copy.require_open()
                for each in wanted:
                    if each is key:
                        break
                    yield each, None  # what could not be a key
                yield key, found.get(key)
        yield from ((each, None) for each in wanted)
        window = min(window * _GROWTH, _WINDOW)


def _told(values: Iterator[T], batch: Sequence[str]) -> Iterator[T]:
    """The same, with the keys that were asked for in the error where they could not be fetched."""
    with asked("get_items", None, f"values of {len(batch)} keys from {batch[0]!r} on"):
        yield from values


def read_many(
    copy: WorkingCopy, keys: Sequence[str]
) -> Iterator[tuple[Sequence[str], Mapping[str, LocalValue]]]:
    """Yield `keys` in parts with the values of each, from here or fetched in parallel.

    A part's values are about as many bytes as are held at once, however large they are. Absent
    keys are missing. What could not be a key is not among `keys`.

    Raises:
        EBookletError: the first fetch that failed.
    """
    copy.require_open()
    found: dict[str, LocalValue] = {}
    begin = end = size = 0
    for key, value in copy.local.get_many(keys):
        while keys[end] != key:
            end += 1  # not stored here
        end += 1
        found[key] = value
        size += len(value.value)
        if size >= _PART_BYTES:
            yield from _completed(copy, keys[begin:end], found)
            begin, size, found = end, 0, {}
    if begin < len(keys):
        yield from _completed(copy, keys[begin:] if begin else keys, found)


def _completed(
    copy: WorkingCopy, keys: Sequence[str], found: dict[str, LocalValue]
) -> Iterator[tuple[Sequence[str], Mapping[str, LocalValue]]]:
    """Fetch what `found` does not have of `keys`; in several parts where it is much."""
    missing = [key for key in keys if key not in found]
    if missing and copy.fetched:
        kept = {key: value for key in missing if (value := copy.fetched.get(key)) is not None}
        found.update(kept)
        missing = [key for key in missing if key not in kept]
    if missing:
        with copy.lock:
            copy.pending.absorb()
            base = copy.base
            missing = [key for key in missing if key not in copy.pending.deletes]
    if not missing:
        yield keys, found
        return
    entries = entries_of(copy, missing)
    wanted: dict[str, Entry] = {}
    begin = size = 0
    for end, key in enumerate(keys, 1):
        if key in entries and key not in wanted:
            wanted[key] = entries[key]
            size += entries[key].length
        if size >= _PART_BYTES or end == len(keys):
            fetched = _fetched(copy, base, wanted.values())
            yield keys[begin:end], {**found, **fetched}
            begin, size, wanted = end, 0, {}


def _fetched(
    copy: WorkingCopy, base: Snapshot | None, entries: Iterable[Entry]
) -> dict[str, LocalValue]:
    fetched: dict[str, LocalValue] = {}
    for entry, value in fetch_values(copy, entries):
        if isinstance(value, EBookletError):
            raise value
        fetched[entry.key] = LocalValue(entry.timestamp, value)
    copy.keep_fetched(base, [(key, found.value, found.timestamp) for key, found in fetched.items()])
    return fetched
