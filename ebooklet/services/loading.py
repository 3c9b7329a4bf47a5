"""Loading: values that are not here yet are fetched into the local store, to stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ebooklet.core.entry import Entry
from ebooklet.core.keys import check_keys, is_key
from ebooklet.errors import EBookletError
from ebooklet.ports.local_store import LocalValue
from ebooklet.services.entries import entries_of, iter_entries
from ebooklet.services.fetching import fetch_values
from ebooklet.services.working_copy import WorkingCopy

_BATCH_BYTES: Final = 64 * 1024 * 1024  # values planned at once
_BATCH_KEYS: Final = 80_000
_LISTED_KEYS: Final = 500_000


def load(copy: WorkingCopy, keys: Iterable[str] | None = None) -> dict[str, EBookletError]:
    """Fetch into the local store what it does not have yet; return the failures by key."""
    copy.require_open()
    base = copy.base
    failures: dict[str, EBookletError] = {}
    for batch in _missing_batches(copy, keys):
        values: list[tuple[str, LocalValue]] = []
        size = 0
        for entry, value in fetch_values(copy, batch):
            if isinstance(value, EBookletError):
                failures[entry.key] = value
                continue
            values.append((entry.key, LocalValue(entry.timestamp, value)))
            size += len(value)
            if size > _BATCH_BYTES // 8:
                copy.keep_fetched(base, values)
                values, size = [], 0
        copy.keep_fetched(base, values)
    copy.sync()
    return failures


def _missing_batches(copy: WorkingCopy, keys: Iterable[str] | None) -> Iterator[list[Entry]]:
    """Entries whose values are not here, in lists of bounded size."""
    is_here = _presence(copy) if keys is None else _slow_presence(copy)
    if keys is None:
        pages: Iterable[Iterable[Entry]] = iter_entries(copy)
    else:
        pages = (entries_of(copy, filter(is_key, check_keys(keys))).values(),)
    batch: list[Entry] = []
    size = 0
    for page in pages:
        for entry in page:
            if is_here(entry.key):
                continue
            batch.append(entry)
            size += entry.length
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_KEYS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _presence(copy: WorkingCopy) -> Callable[[str], bool]:
    """Whether the value of a key is here, or pending: asked of very many keys."""
    if copy.local.count() > _LISTED_KEYS:
        return _slow_presence(copy)
    with copy.lock:
        copy.pending.absorb()
        return {*copy.local.keys(), *copy.fetched, *copy.pending.deletes}.__contains__


def _slow_presence(copy: WorkingCopy) -> Callable[[str], bool]:
    """The same, asked of few keys, or with too many here to be listed in memory."""
    return lambda key: key in copy.fetched or key in copy.pending or copy.local.contains(key)
