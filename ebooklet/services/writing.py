"""Local writes that are more than a set: deletions, clearing, discarding, pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import Final, TypeVar

from ebooklet.core.journal import UNKNOWN
from ebooklet.core.keys import check_keys, is_key
from ebooklet.services import reading
from ebooklet.services.conflicts import drop_changes
from ebooklet.services.evictions import note_evicted
from ebooklet.services.guards import being_pushed
from ebooklet.services.hooking import telling_evictions
from ebooklet.services.iterating import iter_keys
from ebooklet.services.marking import marked, may_be_here
from ebooklet.services.metadata import NO_METADATA, committed_metadata
from ebooklet.services.pending import PendingChanges
from ebooklet.services.working_copy import WorkingCopy

T = TypeVar("T")

_BATCH_KEYS: Final = 4096
_BATCH_BYTES: Final = 8 << 20


def set_many(copy: WorkingCopy, items: Iterable[tuple[str, bytes]]) -> None:
    """Write valid keys and their values, many at a time.

    Args:
        copy: the working copy.
        items: nothing that looks at the copy, as it is ahead of what is written. What came before
            an error of it is written.
    """
    moment, size = copy.clock.now_us(), 0
    batch: list[tuple[str, bytes, int]] = []
    try:
        for key, value in items:
            batch.append((key, value, moment))
            size += len(value)
            if len(batch) >= _BATCH_KEYS or size >= _BATCH_BYTES:
                full, batch = batch, []
                _set_batch(copy, full)
                moment, size = copy.clock.now_us(), 0
    finally:
        if batch:
            _set_batch(copy, batch)


def _set_batch(copy: WorkingCopy, batch: Sequence[tuple[str, bytes, int]]) -> None:
    with copy.lock:
        copy.require_writable("set")
        with marked(copy, [key for key, _, _ in batch]):
            copy.local.set_many(batch)


def delete(copy: WorkingCopy, key: object) -> bool:
    """Delete one key; the deletion is journalled before this returns.

    Returns:
        Whether the key was there.
    """
    while is_key(key):
        seen = _state(copy)
        if not reading.contains(copy, key):
            return False
        with copy.lock:
            if _state(copy) == seen or copy.local.contains(key):
                _remove(copy, key)
                return True
    return False


def take(copy: WorkingCopy, key: object, loads: Callable[[bytes], T]) -> tuple[T] | None:
    """Delete one key and return its value, None when it is absent; one of many threads gets it.

    What `loads` raises for the value leaves the key where it is.
    """
    while is_key(key):
        seen = _state(copy)
        found = reading.read(copy, key)
        if found is None:
            return None
        with copy.lock:
            here = copy.local.get_entry(key)
            if here is not None or _state(copy) == seen:
                value = loads((here or found).value)
                _remove(copy, key)
                return (value,)
    return None


def take_any(copy: WorkingCopy, loads: Callable[[bytes], T]) -> tuple[str, T] | None:
    """Delete some key and return it with its value; None when there is none."""
    with copy.lock:
        copy.pending.absorb()
        newest = list(islice(reversed(copy.pending.sets), 1))  # no need to look at the index
    for key in chain(newest, chain.from_iterable(iter_keys(copy))):
        taken = take(copy, key, loads)
        if taken is not None:
            return key, *taken
    return None


def set_if_absent(copy: WorkingCopy, key: str, value: bytes, moment: int) -> bytes:
    """Write a value (timestamp in µs) unless the key is there; return what then stands there."""
    while True:
        seen = _state(copy)
        found = reading.read(copy, key)
        if found is not None:
            return found.value
        with copy.lock:
            copy.require_writable("setdefault", key)
            if _state(copy) == seen and not copy.local.contains(key):
                with marked(copy, (key,)):
                    copy.local.set(key, value, moment)
                return value


def _state(copy: WorkingCopy) -> tuple[object, int]:
    """What stays the same as long as no key comes or goes, but for those set and not absorbed."""
    with copy.lock:
        copy.pending.absorb()
        return copy.view_root, copy.pending.shape


def _remove(copy: WorkingCopy, key: str) -> None:
    copy.require_writable("delete", key)
    was_set, base = key in copy.pending.sets, copy.pending.sets.get(key, UNKNOWN)
    now, journalled = copy.clock.now_us(), False
    try:
        copy.pending.mark_deleted(key, now)
        # Journalled first: a crash between the two leaves a deletion that is found again, where
        # the other order would leave a key that is merely not cached.
        copy.journal.deleted(copy.pending, (key,))
        journalled = True
        copy.local.delete((key,))
    except BaseException:
        # On a full disk, say. Taken for deleted, it would stay in the file when a push has settled
        # the deletion, and come back with the next crash. One that is gone already stays deleted:
        # of a change without a value nothing could be pushed.
        if journalled and not may_be_here(copy, key):
            raise
        if was_set or journalled:
            copy.pending.mark_set(key, base)
            copy.pending.unwritten[key] = None  # so that the log takes the deletion back
        else:
            copy.pending.forget(key)
        raise


def restamp(copy: WorkingCopy, key: str, moment: int) -> bool:
    """Change a key's timestamp (µs), whatever other threads do to its value meanwhile.

    Returns:
        Whether the key was there.
    """
    while True:
        seen = _state(copy)
        found = reading.read(copy, key)
        if found is None:
            return False
        with copy.lock:
            copy.require_writable("set_timestamp", key)
            here = copy.local.get_entry(key)
            if here is None and _state(copy) != seen:
                continue  # deleted, or another commit's by now: look again
            with marked(copy, (key,)):
                copy.local.set(key, (here or found).value, moment)
            return True


def clear(copy: WorkingCopy) -> None:
    """Delete every key at once; the next push replaces the remote content in one step."""
    with _between_pushes(copy, "clear"):
        copy.require_writable("clear")
        copy.pending.absorb()
        in_base = copy.base is not None and copy.base.count > 0
        then = PendingChanges()
        then.metadata = copy.pending.metadata
        # What a head write without an answer may have put there is to go as well.
        then.replace = in_base or bool(copy.journal.unanswered())
        journalled = False
        try:
            copy.journal.cleared(then)
            journalled = True
            copy.local.clear()
        except BaseException:
            if not journalled or _may_have_keys(copy):
                with suppress(Exception):  # then the next open takes what it finds for set
                    copy.journal.rewrite(copy.pending)
                    copy.journal.set_resident(copy.local.keys())
            else:
                _take_for_cleared(copy, then)
            raise
        _take_for_cleared(copy, then)
        copy.local.sync()


def _take_for_cleared(copy: WorkingCopy, then: PendingChanges) -> None:
    copy.pending.clear()
    copy.pending.replace = then.replace


def _may_have_keys(copy: WorkingCopy) -> bool:
    try:
        return copy.local.count() > 0
    except Exception:  # noqa: BLE001  # another error is on its way, which says more
        return True


def discard(copy: WorkingCopy, keys: Iterable[str] | None) -> None:
    """Drop pending changes of `keys`, or all of them with metadata; unknown keys are ignored."""
    with telling_evictions(copy), _between_pushes(copy, "discard"):
        copy.require_writable("discard")
        copy.pending.absorb()
        if keys is None:
            drop_changes(copy, [*copy.pending.sets, *copy.pending.deletes])
            if copy.pending.replace:
                copy.pending.replace = False
                copy.pending.shape += 1
            if copy.pending.metadata:
                copy.pending.metadata = False
                theirs = committed_metadata(copy, copy.base.head) if copy.base else None
                copy.local.set_metadata(*(theirs or NO_METADATA))
            copy.journal.rewrite(copy.pending)
        else:
            drop_changes(copy, list(dict.fromkeys(filter(is_key, check_keys(keys)))))


def prune(copy: WorkingCopy, older_than: int | None) -> int:
    """Rewrite the local file without dead data, and without cached values older than a moment.

    Args:
        copy: the working copy, writable.
        older_than: µs; None evicts nothing.

    Returns:
        Entries removed from the local file.
    """
    with telling_evictions(copy), _between_pushes(copy, "prune"):
        copy.require_writable("prune")
        copy.sync()
        awaited = copy.journal.awaited()
        evict = [
            key
            for key, timestamp in (copy.local.timestamps() if older_than is not None else ())
            if older_than is not None
            and timestamp < older_than
            and key not in copy.pending
            and key not in awaited
        ]
        if copy.base is None or copy.pending.replace:
            evict = []  # nothing is stored anywhere else
        note_evicted(copy, evict)
        copy.journal.gone(evict)
        removed = copy.local.compact(evict=evict)
        copy.local.sync()
    return removed


@contextmanager
def _between_pushes(copy: WorkingCopy, op: str) -> Iterator[None]:
    """Hold the copy's lock with no push under way, which reads what is to be removed.

    A push that comes meanwhile waits for that lock at its first step, and then sees what was done.

    Raises:
        PushInProgressError: another thread pushes.
    """
    copy.require_open()
    with copy.lock:
        if copy.push_lock.locked():
            raise being_pushed(op)
        yield
