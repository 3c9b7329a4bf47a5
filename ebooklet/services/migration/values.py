"""Fetching the values of an old remote: many in parallel, few held, each compared with the index."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

from ebooklet.core.legacy.description import read_timestamp
from ebooklet.core.legacy.groups import GroupReader, group_key, head_bytes, member_head
from ebooklet.core.legacy.index import IndexEntry, IndexTable
from ebooklet.core.legacy.names import value_key
from ebooklet.errors import BucketMissingError, EBookletError, ObjectNotFound, RemoteUnavailable
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.services.migration.remote import OldRemote

_PART: Final = 1 << 19  # bytes of one request, of which as many are held as there are threads
_BATCH: Final = 256  # requests planned at a time
_SPARSE: Final = 8  # a group of which less than one part in so many is wanted is not read whole
_OUTAGES: Final = (RemoteUnavailable, BucketMissingError)  # about the place, not about a value

Wanted: TypeAlias = Callable[[bytes], bool]
"""Whether a key's value has still to be fetched."""


class OldValue(NamedTuple):
    """A value as the old database holds it, or, as a str, why it cannot be had."""

    key: bytes
    timestamp: int  # µs since the Unix epoch
    value: bytes | str


def fetch_values(source: OldRemote, wanted: Wanted, threads: int) -> Iterator[OldValue]:
    """Yield every wanted key of the index with its value, or with the reason why there is none.

    Args:
        source: the old remote.
        wanted: asked at any time; keys whose values were yielded have to cease to be wanted.
        threads: how many objects of single values are read at once.

    Raises:
        RemoteIntegrityError: the index is damaged.
        RemoteUnavailable, BucketMissingError: an outage, which says nothing about the values.
    """
    if source.description.layout == "per key":
        yield from _fetch_objects(source, wanted, threads)
        return
    yield from _fetch_groups(source, wanted)
    # What the groups did not give, by the places that the index names: one request each.
    yield from _fetch_members(source, wanted)


# Groups


class _Need(NamedTuple):
    """What is wanted of one group."""

    stop: int  # where its last wanted value ends
    size: int  # bytes of its wanted values


class _Part(NamedTuple):
    """A piece of a group, and what reads it."""

    group: int
    first: bool
    span: ByteRange


def _needs(index: IndexTable, wanted: Wanted) -> dict[int, _Need]:
    needs: dict[int, _Need] = {}
    nothing = _Need(0, 0)
    for key, entry in index:
        if wanted(key):
            stop, size = needs.get(entry.group, nothing)
            end = entry.offset + entry.length
            needs[entry.group] = _Need(max(stop, end), size + entry.length + head_bytes(key))
    return needs


def _parts(source: OldRemote, needs: dict[int, _Need], given_up: set[int]) -> Iterator[_Part]:
    for group, (stop, size) in sorted(needs.items()):
        generation = source.manifest.get(group)
        if generation is None or (stop > _PART and size * _SPARSE < stop):
            continue
        name = group_key(source.db_key, group, generation)
        if stop > _PART and not _reaches(source.store, name, stop):
            continue
        for start in range(0, stop, _PART):
            if group in given_up:
                break
            yield _Part(group, start == 0, ByteRange(name, start, min(stop, start + _PART)))


def _reaches(store: RemoteStore, name: str, stop: int) -> bool:
    """Whether an object is as long as its index says, before many parts of it are asked for."""
    try:
        return store.head(name).size >= stop
    except EBookletError as exc:
        _raise_outage(exc)
        return False


def _fetch_groups(source: OldRemote, wanted: Wanted) -> Iterator[OldValue]:
    index = source.index
    given_up: set[int] = set()
    parts = _parts(source, _needs(index, wanted), given_up)
    reader: GroupReader | None = None
    while batch := list(islice(parts, _BATCH)):
        bodies = source.store.get_ranges([part.span for part in batch])
        for part, body in zip(batch, bodies, strict=True):
            if part.first:
                reader = GroupReader(_matching(index, part.group, wanted))
            if isinstance(body, EBookletError):
                _raise_outage(body)
                given_up.add(part.group)
            if reader is None or isinstance(body, EBookletError) or part.group in given_up:
                continue  # its values are tried one by one
            for key, timestamp, value in reader.feed(body):
                yield OldValue(key, timestamp, value)


def _matching(
    index: IndexTable, group: int, wanted: Wanted
) -> Callable[[bytes, int, int, int], bool]:
    """Members that are exactly what the index says: others are older values, or damage."""

    def is_match(key: bytes, timestamp: int, offset: int, length: int) -> bool:
        meant = IndexEntry(timestamp, group, offset, length)
        return index.find(key) == meant and wanted(key)

    return is_match


def _fetch_members(source: OldRemote, wanted: Wanted) -> Iterator[OldValue]:
    for batch in _batches(source.index, wanted):
        ranges = [
            ByteRange(
                group_key(source.db_key, entry.group, source.manifest.get(entry.group, "")),
                entry.offset - head_bytes(key),
                entry.offset + entry.length,
            )
            for key, entry in batch
            if _is_reachable(source, key, entry)
        ]
        bodies = iter(source.store.get_ranges(ranges))
        for key, entry in batch:
            if _is_reachable(source, key, entry):
                yield OldValue(key, entry.timestamp, _member(key, entry, next(bodies)))
            else:
                reason = "the index names a group that the database does not have"
                yield OldValue(key, entry.timestamp, reason)


def _is_reachable(source: OldRemote, key: bytes, entry: IndexEntry) -> bool:
    return entry.group in source.manifest and entry.offset >= head_bytes(key)


def _batches(index: IndexTable, wanted: Wanted) -> Iterator[list[tuple[bytes, IndexEntry]]]:
    """Wanted entries in lists of bounded number and bytes; a large value comes alone."""
    batch: list[tuple[bytes, IndexEntry]] = []
    size = 0
    for key, entry in index:
        if not wanted(key):
            continue
        if batch and (len(batch) >= _BATCH or size + entry.length > 16 * _PART):
            yield batch
            batch, size = [], 0
        batch.append((key, entry))
        size += entry.length
    if batch:
        yield batch


def _member(key: bytes, entry: IndexEntry, body: bytes | EBookletError) -> bytes | str:
    if isinstance(body, ObjectNotFound):
        return "the group that holds it is missing"
    if isinstance(body, EBookletError):
        return _reason(body)
    expected = member_head(key, entry)
    if not body.startswith(expected):
        return "something else lies where the index says it is: the group is damaged"
    return body[len(expected) :]


# Objects of single values


def _fetch_objects(source: OldRemote, wanted: Wanted, threads: int) -> Iterator[OldValue]:
    large = Lock()  # one large value at a time is in memory

    def fetch(item: tuple[bytes, IndexEntry]) -> OldValue:
        key, entry = item
        return OldValue(key, entry.timestamp, _object(source, key, entry, large))

    waiting: deque[Future[OldValue]] = deque()
    items = (item for item in source.index if wanted(item[0]))
    with ThreadPoolExecutor(threads, thread_name_prefix="ebooklet-migrate") as pool:
        try:
            while True:
                waiting.extend(
                    pool.submit(fetch, item) for item in islice(items, threads - len(waiting))
                )
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _object(source: OldRemote, key: bytes, entry: IndexEntry, large: Lock) -> bytes | str:
    try:
        name = value_key(source.db_key, key.decode())
    except UnicodeDecodeError:
        return "the key is no UTF-8"
    if name is None:
        return "0.11 stored it under a name that stands for no object of this database"
    try:
        found = source.store.get(name, stop=_PART)
        if read_timestamp(found.meta.user_metadata) != entry.timestamp:
            return (
                "its object holds a value of another moment: a push of 0.11 that broke off, or "
                "another key that 0.11 stored under the same name. Push it anew with 0.11"
            )
        if found.meta.size <= _PART:
            return found.body
        with large:
            return _rest(source.store, name, found.body, found.meta.size, found.meta.etag)
    except ObjectNotFound:
        return "its object is missing"
    except EBookletError as exc:
        _raise_outage(exc)
        return _reason(exc)


def _rest(store: RemoteStore, name: str, first: bytes, size: int, etag: str) -> bytes | str:
    value = bytearray(first)
    while len(value) < size:
        part = store.get(name, start=len(value), stop=min(size, len(value) + 16 * _PART))
        if (part.meta.etag, part.meta.size) != (etag, size) or not part.body:
            return "its object was changed while it was read"
        value += part.body
    return bytes(value)


def _raise_outage(error: EBookletError) -> None:
    if isinstance(error, _OUTAGES):
        raise error


def _reason(error: EBookletError) -> str:
    return f"{type(error).__name__}: {error.args[0]}"
