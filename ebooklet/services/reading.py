"""Reading one key: whether it is there, its value and its timestamp, from here or fetched."""

from __future__ import annotations

from collections.abc import Sequence

from ebooklet.core.entry import Entry
from ebooklet.core.keys import is_key
from ebooklet.errors import EBookletError, RemoteIntegrityError, SnapshotExpired
from ebooklet.ports.local_store import LocalValue
from ebooklet.services.entries import entries_of
from ebooklet.services.explaining import asked, explaining
from ebooklet.services.fetched import FetchedItem
from ebooklet.services.fetching import fetch_values
from ebooklet.services.readahead import with_neighbours
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


def contains(copy: WorkingCopy, key: object) -> bool:
    """Whether `key` is there; asks the index only when the local store does not know."""
    copy.require_open()
    if not is_key(key):
        return False
    if copy.local.contains(key) or key in copy.fetched:
        return True
    with copy.lock:
        copy.pending.absorb()
        if key in copy.pending.deletes:
            return False
    with asked("contains", key):
        return key in entries_of(copy, (key,)) or copy.local.contains(key)


def read(copy: WorkingCopy, key: object) -> LocalValue | None:
    """The value of a key with its timestamp, from here or fetched; None when it is absent."""
    copy.require_open()
    if not is_key(key):
        return None
    return copy.local.get_entry(key) or read_missing(copy, key)


def timestamp_of(copy: WorkingCopy, key: object) -> int | None:
    """When `key` was written, in µs, without its value; None when it is absent."""
    copy.require_open()
    if not is_key(key):
        return None
    found = copy.local.get_entry(key) or copy.fetched.get(key)
    if found is not None:
        return found.timestamp
    with copy.lock:
        copy.pending.absorb()
        if key in copy.pending.deletes:
            return None
    with asked("get_timestamp", key):
        entry = entries_of(copy, (key,)).get(key)
    return None if entry is None else entry.timestamp


def read_missing(copy: WorkingCopy, key: object) -> LocalValue | None:
    """The value of a key that the local store does not have, or None when there is none.

    Fetches it with one ranged request (plus index nodes not yet cached) and keeps it, as it does
    the neighbours that a program walking along the keys will ask for next.
    """
    if not is_key(key):
        return None
    if (held := copy.fetched.get(key)) is not None:
        return held
    with copy.lock:
        copy.pending.absorb()
        base = copy.base
        gone = key in copy.pending.deletes
    if gone or base is None or copy.view_root is None:
        return copy.local.get_entry(key)  # written meanwhile by another thread, or truly absent
    with asked("get", key):
        return _fetched(copy, base, key)


def _fetched(copy: WorkingCopy, base: Snapshot, key: str) -> LocalValue | None:
    entry = entries_of(copy, (key,)).get(key)
    if entry is None:
        return copy.local.get_entry(key)
    with explaining(copy):
        wanted = with_neighbours(copy, entry)
    try:
        return _fetched_first(copy, base, wanted)
    except (RemoteIntegrityError, SnapshotExpired):
        if len(wanted) == 1:
            raise
    return _fetched_first(copy, base, [entry])  # it may have been a neighbour's segment


def _fetched_first(copy: WorkingCopy, base: Snapshot, wanted: Sequence[Entry]) -> LocalValue:
    """Fetch values and keep them; the first is returned or fails, the others need not be good."""
    good: dict[str, FetchedItem] = {}
    for entry, value in fetch_values(copy, wanted):
        if not isinstance(value, EBookletError):
            good[entry.key] = (entry.key, value, entry.timestamp)
        elif entry is wanted[0]:
            raise value
    copy.keep_fetched(base, list(good.values()))
    _, found, timestamp = good[wanted[0].key]
    return LocalValue(timestamp, found)
