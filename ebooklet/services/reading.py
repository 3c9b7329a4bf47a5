"""Reading: lookups, values and scans through the index, pending changes laid over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, takewhile
from operator import itemgetter
from typing import Final, TypeVar

from ebooklet.core.digest import value_digest
from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.lookup import scan, scan_keys
from ebooklet.core.keys import check_keys, is_key
from ebooklet.core.names import segment_key
from ebooklet.core.plan import plan_ranges
from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    RemoteIntegrityError,
    SnapshotExpired,
)
from ebooklet.ports.local_store import LocalValue
from ebooklet.ports.remote_store import ByteRange
from ebooklet.services.parts import read_again
from ebooklet.services.readahead import with_neighbours
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

T = TypeVar("T")

_BATCH_BYTES: Final = 64 * 1024 * 1024  # values planned at once by a bulk read
_BATCH_KEYS: Final = 80_000
_PART_BYTES: Final = 16 * 1024 * 1024  # values that an iteration holds at once, but for the last
_LISTED_KEYS: Final = 500_000
_FIRST_WINDOW: Final = 16  # keys
_WINDOW: Final = 4096


def entries_of(copy: WorkingCopy, keys: Iterable[str]) -> dict[str, Entry]:
    """What the base commit says of `keys`; absent ones are missing. Pending changes are ignored."""
    root = copy.view_root
    if root is None:
        return {}
    with copy.explaining():
        return copy.nodes.lookup(root, keys)


def base_entries(copy: WorkingCopy, keys: Iterable[str]) -> dict[str, Entry]:
    """`entries_of`, a pending replacement of everything left out of account."""
    base = copy.base
    if base is None:
        return {}
    with copy.explaining():
        return copy.nodes.lookup(base.root, keys)


def iter_base(copy: WorkingCopy) -> Iterator[list[Entry]]:
    """All entries of the base commit, a pending replacement left out of account."""
    if copy.base is not None and copy.base.root is not None:
        with copy.explaining():
            yield from copy.nodes.scan(scan(copy.base.root))


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
    entry = entries_of(copy, (key,)).get(key)
    if entry is None:
        return copy.local.get_entry(key)
    with copy.explaining():
        wanted = with_neighbours(copy, entry)
    try:
        return _fetched_first(copy, base, wanted)
    except (RemoteIntegrityError, SnapshotExpired):
        if len(wanted) == 1:
            raise
    return _fetched_first(copy, base, [entry])  # it may have been a neighbour's segment


def _fetched_first(copy: WorkingCopy, base: Snapshot, wanted: Sequence[Entry]) -> LocalValue:
    """Fetch values and keep them; the first is returned or fails, the others need not be good."""
    good: dict[str, LocalValue] = {}
    for entry, value in fetch_values(copy, wanted):
        if not isinstance(value, EBookletError):
            good[entry.key] = LocalValue(entry.timestamp, value)
        elif entry is wanted[0]:
            raise value
    copy.keep_fetched(base, list(good.items()))
    return good[wanted[0].key]


def fetch_values(
    copy: WorkingCopy, entries: Iterable[Entry]
) -> Iterator[tuple[Entry, bytes | EBookletError]]:
    """Fetch and verify the values of `entries`: coalesced ranges, many in parallel.

    Yields each entry once, in no promised order, with its value or with what went wrong.
    """
    placed: list[tuple[Place, Entry]] = []
    for entry in entries:
        place = entry.place
        if place is not None and entry.length and place.length:
            placed.append((place, entry))
        else:
            yield entry, _verified(entry, entry.inline or b"")
    if not placed:
        return
    placed.sort(key=itemgetter(0))
    plans = plan_ranges(place for place, _ in placed)
    remote = copy.segments
    ranges = [ByteRange(segment_key(copy.db_key, p.sid), p.start, p.stop) for p in plans]
    following = iter(placed)  # the plans' pieces are these places, in the same order
    for plan, part, body in zip(plans, ranges, remote.get_ranges(ranges), strict=True):
        if isinstance(body, ObjectNotFound):
            with copy.explaining():
                raise body
        pieces = list(islice(following, len(plan.pieces)))
        values = _cut(plan.start, pieces, body)
        if isinstance(body, bytes) and any(isinstance(v, EBookletError) for v in values):
            values = _cut(plan.start, pieces, read_again(remote, part))
        for (_, entry), value in zip(pieces, values, strict=True):
            yield entry, value


def _cut(
    start: int, pieces: Sequence[tuple[Place, Entry]], body: bytes | EBookletError
) -> list[bytes | EBookletError]:
    """The values in the bytes from `start` of a segment, each verified; or why there are none."""
    if isinstance(body, EBookletError):
        return [body] * len(pieces)
    return [
        _verified(entry, body[place.offset - start : place.offset - start + place.length])
        for place, entry in pieces
    ]


def _verified(entry: Entry, value: bytes) -> bytes | EBookletError:
    if len(value) != entry.length or value_digest(value) != entry.digest:
        return RemoteIntegrityError(
            "the stored value does not match its digest; it was not returned",
            op="get",
            key=entry.key,
        )
    return value


def iter_keys(
    copy: WorkingCopy, start: str | None = None, stop: str | None = None
) -> Iterator[list[str]]:
    """Yield all keys in [start, stop), sorted, in lists; touches only index nodes in range."""
    with copy.lock:
        copy.pending.absorb()
        root = copy.view_root
        added = [k for k in copy.pending.sets if _within(k, start, stop)]
        deleted = set(copy.pending.deletes)
    added.sort()
    if root is None:
        if added:
            yield added
        return
    with copy.explaining():
        yield from merge_keys(copy.nodes.scan(scan_keys(root, start, stop)), added, deleted)


def merge_keys(
    pages: Iterable[Sequence[str]], added: Sequence[str], deleted: set[str]
) -> Iterator[list[str]]:
    """Lay sorted additions and deletions over sorted pages of keys; additions may repeat keys."""
    position = 0
    for page in pages:
        keys = list(page)
        if position < len(added) and keys and added[position] <= keys[-1]:
            upto = position
            while upto < len(added) and added[upto] <= keys[-1]:
                upto += 1
            keys = sorted({*keys, *added[position:upto]})
            position = upto
        if deleted:
            keys = [key for key in keys if key not in deleted]
        if keys:
            yield keys
    if position < len(added):
        yield list(added[position:])


def iter_entries(
    copy: WorkingCopy, start: str | None = None, stop: str | None = None
) -> Iterator[list[Entry]]:
    """Yield the base commit's entries in [start, stop), sorted, in lists; ignores pending changes."""
    root = copy.view_root
    if root is not None:
        with copy.explaining():
            yield from copy.nodes.scan(scan(root, start, stop))


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
    return key in entries_of(copy, (key,)) or copy.local.contains(key)


def length(copy: WorkingCopy) -> int:
    """Exact number of keys, unsynced writes included; O(1) once pending keys are resolved."""
    copy.notice()
    while True:
        copy.resolve_pending()
        with copy.lock:
            if not copy.pending.unresolved():
                return copy.view_count + copy.pending.delta


def shape(copy: WorkingCopy) -> int:
    """A number that changes when the set of keys does; overwriting a key leaves it alone."""
    if copy.pending.touched or copy.pending.undecided:
        copy.resolve_pending()
    return copy.pending.shape


def iterate(copy: WorkingCopy, start: str | None = None, stop: str | None = None) -> Iterator[str]:
    """Yield the keys in [start, stop), sorted.

    Raises:
        RuntimeError: a key was added or deleted under the iteration, at its next step.
    """
    return _while_unchanged(copy, iter_keys(copy, start, stop))


def iterate_items(
    copy: WorkingCopy, start: str | None = None, stop: str | None = None
) -> Iterator[tuple[str, LocalValue]]:
    """Yield the keys in [start, stop) with their values, sorted; fetches as `stream` does.

    Raises:
        RuntimeError: a key was added or deleted under the iteration, at its next step.
        EBookletError: a fetch failed.
    """
    keys = chain.from_iterable(iter_keys(copy, start, stop))
    items = _while_unchanged(copy, (stream(copy, keys),))
    # A key without a value is one that was deleted meanwhile, which the next step reports.
    return ((key, found) for key, found in items if found is not None)


def _while_unchanged(copy: WorkingCopy, pages: Iterable[Iterable[T]]) -> Iterator[T]:
    """Yield what the pages hold as long as the set of keys stands as it does at this call.

    `pages` must look at the pending changes only once they are asked for the first page.

    Raises:
        RuntimeError: a key was added or deleted since, at the next step, the last included.
    """
    copy.notice()
    # Before the shape is noted: what is resolved later, by a `len`, changes it without any key.
    copy.resolve_pending()
    return _watched(copy, pages, shape(copy))


def _watched(copy: WorkingCopy, pages: Iterable[Iterable[T]], began: int) -> Iterator[T]:
    pending, undecided = copy.pending, copy.pending.undecided
    for page in pages:
        for item in page:
            if pending.touched or undecided or pending.shape != began:
                _check_shape(copy, began)
            yield item
    _check_shape(copy, began)


def _check_shape(copy: WorkingCopy, began: int) -> None:
    if copy.closed:
        copy.require_open()  # closing changes the shape as well
    if shape(copy) != began:
        raise RuntimeError("keys of the database were added or deleted during iteration")


def stream(copy: WorkingCopy, keys: Iterable[str]) -> Iterator[tuple[str, LocalValue | None]]:
    """Yield each key in the given order with its value, or None when it is absent.

    Values that are not here are fetched many at a time: few at first, so that a reader who stops
    soon has moved little.

    Raises:
        EBookletError: a fetch failed.
    """
    copy.require_open()
    return _streamed(copy, iter(check_keys(keys)))


def _streamed(copy: WorkingCopy, keys: Iterator[str]) -> Iterator[tuple[str, LocalValue | None]]:
    window = _FIRST_WINDOW
    while batch := list(islice(keys, window)):
        for part, found in read_many(copy, batch):
            for key in part:
                if copy.closed:
                    copy.require_open()
                yield key, found.get(key) if is_key(key) else None
        window = min(window * 4, _WINDOW)


def read_many(
    copy: WorkingCopy, keys: Sequence[str]
) -> Iterator[tuple[Sequence[str], Mapping[str, LocalValue]]]:
    """Yield `keys` in parts with the values of each, from here or fetched in parallel.

    A part's values are about as many bytes as are held at once, however large they are. Absent
    keys are missing.

    Raises:
        EBookletError: the first fetch that failed.
    """
    copy.require_open()
    found: dict[str, LocalValue] = {}
    begin = size = 0
    for end, key in enumerate(keys, 1):
        if not is_key(key):
            continue
        value = copy.local.get_entry(key) or copy.fetched.get(key)
        if value is not None:
            found[key] = value
            size += len(value.value)
            if size >= _PART_BYTES:
                yield from _completed(copy, keys[begin:end], found)
                begin, size, found = end, 0, {}
    if begin < len(keys):
        yield from _completed(copy, keys[begin:], found)


def _completed(
    copy: WorkingCopy, keys: Sequence[str], found: dict[str, LocalValue]
) -> Iterator[tuple[Sequence[str], Mapping[str, LocalValue]]]:
    """Fetch what `found` does not have of `keys`; in several parts where it is much."""
    missing = [key for key in keys if is_key(key) and key not in found]
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
        if is_key(key) and key in entries and key not in wanted:
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
    copy.keep_fetched(base, list(fetched.items()))
    return fetched


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
    entry = entries_of(copy, (key,)).get(key)
    return None if entry is None else entry.timestamp


def iter_timestamps(copy: WorkingCopy, *, values: bool) -> Iterator[tuple[str, int, bytes | None]]:
    """Yield (key, timestamp in µs, value or None) of every key, sorted by key.

    Raises:
        RuntimeError: a key was added or deleted under the iteration, at its next step.
        EBookletError: a fetch failed.
    """
    if values:
        items = iterate_items(copy)
        return ((key, timestamp, value) for key, (timestamp, value) in items)
    pages = _timestamp_pages(copy)
    return ((key, timestamp, None) for key, timestamp in _while_unchanged(copy, pages))


def _timestamp_pages(copy: WorkingCopy) -> Iterator[list[tuple[str, int]]]:
    with copy.lock:
        copy.pending.absorb()
        changed = {
            key: found.timestamp
            for key in copy.pending.sets
            if (found := copy.local.get_entry(key)) is not None
        }
        deleted = set(copy.pending.deletes)
    left = dict(sorted(changed.items()))
    for entries in iter_entries(copy):
        page = {
            e.key: e.timestamp for e in entries if e.key not in deleted and e.key not in changed
        }
        due = list(takewhile(entries[-1].key.__ge__, left))
        page.update((key, left.pop(key)) for key in due)
        yield sorted(page.items())
    yield list(left.items())


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


def _within(key: str, start: str | None, stop: str | None) -> bool:
    return (start is None or key >= start) and (stop is None or key < stop)
