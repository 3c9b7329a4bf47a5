"""Finding what changed in the local store while this library was not looking.

Between two sessions people edit the file with plain Booklet; and a crash leaves writes that the
journal does not know of. Timestamps narrow the search, digests decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from ebooklet.core.entry import Entry
from ebooklet.core.journal import UNKNOWN, Base
from ebooklet.core.refs import NodeRef
from ebooklet.errors import OfflineError, RemoteMissingError, SnapshotExpired
from ebooklet.ports.local_store import Condition
from ebooklet.services.conflicts import UNRELATED
from ebooklet.services.entries import entries_of, equal_here
from ebooklet.services.metadata import NO_METADATA, committed_metadata
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_BATCH_KEYS: Final = 10_000


def reconcile(
    copy: WorkingCopy, against: Snapshot | None, condition: Condition, *, related: bool
) -> bool:
    """Make the pending changes say all that the local store says.

    Where the index cannot be read (offline, and not cached), keys that may have changed are taken
    for pending without a look, and compared at the next open that can.

    Args:
        copy: with its journal loaded; its local store writable or borrowed.
        against: the snapshot to compare with; None when there never was one.
        condition: how the local store was found.
        related: whether `against` is what the local half was last in step with. If not (the
            folder beside the file was lost), a key that differs counts as a conflict.

    Returns:
        Whether the local store looks like an older copy of what it was in step with, as when a file
        was restored and the folder beside it was not.
    """
    pending = copy.pending
    known = copy.journal.resident() if condition == "edited" else set()
    known.update(pending.sets)
    root = against.root if against is not None and not pending.replace else None
    present: list[str] = []
    newest = newest_changed = newest_in_base = n_older = 0
    for batch in _batches(copy.local.timestamps()):
        keys = [key for key, _ in batch]
        present += keys
        newest = max(newest, max(timestamp for _, timestamp in batch))
        entries = _entries(copy, root, keys)
        if entries is None:
            copy.journal.unverified = True
            for key in keys:
                if key not in pending.sets:
                    pending.mark_set(key)
            continue
        suspects = [
            (key, entries.get(key))
            for key, timestamp in batch
            if key not in pending.sets
            and not (condition == "edited" and related and _same_time(entries.get(key), timestamp))
        ]
        times = dict(batch) if suspects else {}
        n_older += sum(e is not None and times[key] < e.timestamp for key, e in suspects)
        newest_changed = max(newest_changed, *(times[key] for key, _ in suspects), 0)
        newest_in_base = max(newest_in_base, *(entry.timestamp for entry in entries.values()), 0)
        for key, base in _changed(copy, suspects, related=related):
            pending.mark_set(key, base)
    missing = known.difference(present)
    foreign = condition == "edited" and related
    # In a copy nothing is as new as the base; who edits the file leaves something newer in it.
    is_older = foreign and (
        (n_older > 0 and newest_changed < newest_in_base) or _are_later(copy, root, missing, newest)
    )
    for key in missing:
        if condition == "edited":
            # The last session ended in order, so somebody deleted it on purpose.
            pending.mark_deleted(key, copy.clock.now_us())
        elif (deleted_at := pending.undone.get(key)) is not None:
            pending.mark_deleted(key, deleted_at)  # set again, which never became durable
        else:
            pending.forget(key)  # journalled, but the write itself never became durable
    _compare_metadata(copy, against)
    copy.journal.rewrite(pending)
    copy.journal.set_resident(present)
    copy.local.sync()
    return is_older


def verify(copy: WorkingCopy) -> None:
    """Compare with the base what `reconcile` took for pending unseen, and drop what is equal."""
    if not copy.journal.unverified:
        return
    with copy.local.exclusive(copy.lock_timeout):
        with suppress(SnapshotExpired):  # the base is gone: moving on from it compares every key
            _drop_equal(copy)
        copy.journal.unverified = False


def _drop_equal(copy: WorkingCopy) -> None:
    with copy.lock:
        copy.pending.absorb()
        sets = list(copy.pending.sets)
    entries = entries_of(copy, sets)  # none where all is to be replaced: there equal ones count too
    stored = copy.local.get_metadata() if copy.pending.metadata else None
    theirs = committed_metadata(copy, copy.base.head) if stored and copy.base else None
    with copy.lock:
        copy.pending.absorb()
        if copy.pending.replace:
            entries = {}
        # Read only now, as another thread may have changed them meanwhile.
        equal = list(equal_here(copy, [key for key in sets if key in copy.pending.sets], entries))
        for key in equal:
            copy.pending.forget(key)
        copy.journal.settled(equal)
        if stored is not None and stored == theirs == copy.local.get_metadata():
            copy.pending.metadata = False
            copy.journal.metadata(pending=False)


def _entries(copy: WorkingCopy, root: NodeRef | None, keys: list[str]) -> dict[str, Entry] | None:
    """What the index says of the keys; None when it would have to be asked for and cannot be."""
    if root is None:
        return {}
    try:
        return copy.nodes.lookup(root, keys)
    except (OfflineError, RemoteMissingError):
        return None


def _batches(items: Iterable[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH_KEYS)):
        yield batch


def _same_time(entry: Entry | None, timestamp: int) -> bool:
    return entry is not None and entry.timestamp == timestamp


def _are_later(copy: WorkingCopy, root: NodeRef | None, missing: set[str], newest: int) -> bool:
    """Whether all keys that went were written after the newest value that is here.

    An older copy lacks the latest ones; who deletes keys with plain Booklet rarely takes just these.
    """
    entries = _entries(copy, root, list(missing)) if missing else None
    return bool(entries) and all(entry.timestamp > newest for entry in (entries or {}).values())


def _changed(
    copy: WorkingCopy, suspects: list[tuple[str, Entry | None]], *, related: bool
) -> Iterator[tuple[str, Base]]:
    """Those of the suspects whose stored value or time differs from their entry."""
    to_read = [key for key, entry in suspects if entry is not None]
    stored = dict(copy.local.get_many(to_read))
    for key, entry in suspects:
        if entry is None:
            yield key, UNKNOWN
            continue
        found = stored.get(key)
        if found is None:
            continue
        same_value = copy.sealer.digest(found.value) == entry.digest
        if same_value and found.timestamp == entry.timestamp:
            continue
        yield key, UNKNOWN if related or same_value else UNRELATED


def _compare_metadata(copy: WorkingCopy, against: Snapshot | None) -> None:
    stored = copy.local.get_metadata()
    if stored is None or copy.pending.metadata:
        return
    try:
        theirs = committed_metadata(copy, against.head) if against is not None else None
    except (OfflineError, RemoteMissingError):
        copy.journal.unverified = True
        theirs = None
    if stored != theirs and (theirs is not None or stored != NO_METADATA):
        copy.pending.metadata = True
