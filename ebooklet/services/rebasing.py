"""Moving the base: local copies that went stale are dropped, pending changes note what moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ebooklet.core.index.diff import Change, diff
from ebooklet.core.journal import ABSENT, UNKNOWN, Base
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError
from ebooklet.services.conflicts import UNRELATED
from ebooklet.services.evictions import note_evicted
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_BATCH_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Moved:
    """What differs between two snapshots.

    Attributes:
        n_changed: keys whose value or timestamp differs.
        reshaped: whether keys came or went.
    """

    n_changed: int = 0
    reshaped: bool = False


def leave_base(copy: WorkingCopy, base: Snapshot | None, target: Snapshot) -> Moved:
    """Bring local copies from `base` to `target`, and note what moved under pending changes.

    Every value stored locally is then pending or equal to what `target` has; the caller makes it
    the base. A crash on the way leaves values that are pending or equal in both.
    """
    if base is None:
        rebase_unknown(copy, ABSENT)
        return Moved()
    if copy.pending.replace:
        return Moved()  # only what was set since the replacement began is stored here
    n_changed, reshaped = 0, False
    try:
        for changes in copy.nodes.scan(diff(base.root, target.root, times=True)):
            n_changed += len(changes)
            reshaped |= any(change.old is None or change.new is None for change in changes)
            _apply(copy, changes)
    except (ObjectNotFound, RemoteIntegrityError):
        # The old base is no longer retained, or damaged, as where a revert left it for that:
        # lookups in the new one take the diff's place.
        n_changed += drop_differing(copy, target)
        rebase_unknown(copy, UNRELATED)
        reshaped = True
    return Moved(n_changed, reshaped)


def rebase_unknown(copy: WorkingCopy, base: Base, *, of_deletions: Base | None = None) -> None:
    """Say what pending keys were based on, before their base commit is left behind.

    Args:
        copy: the working copy.
        base: of keys of which that is not known.
        of_deletions: of those that are deleted; None for the same.
    """
    with copy.lock:
        copy.pending.absorb()
        bases = (base, base if of_deletions is None else of_deletions)
        rebased = []
        for table, known in zip((copy.pending.sets, copy.pending.deletes), bases, strict=True):
            keys = [key for key, old in table.items() if old is UNKNOWN]
            copy.pending.set_bases(keys, known)
            rebased += keys
        copy.journal.rebased(copy.pending, rebased)


def _apply(copy: WorkingCopy, changes: list[Change]) -> None:
    """Drop stale local copies, restamp those of another time; note what moved under pending keys."""
    with copy.lock:
        copy.pending.absorb()
        moved = [change for change in changes if change.key in copy.pending]
        for change in moved:
            copy.pending.base_moved(change)
        copy.journal.rebased(copy.pending, [change.key for change in moved])
        stale = [change for change in changes if change.key not in copy.pending]
        note_evicted(copy, [c.key for c in stale if copy.fetched.pop(c.key) is not None])
        here = [change for change in stale if copy.local.contains(change.key)]
        copy.restamp({c.key: c.new.timestamp for c in here if c.new is not None and c.same_value})
        _drop(copy, [change.key for change in here if not change.same_value])


def _drop(copy: WorkingCopy, keys: list[str]) -> None:
    note_evicted(copy, keys)
    copy.journal.gone(keys)
    copy.local.delete(keys)


def drop_differing(copy: WorkingCopy, target: Snapshot) -> int:
    """Check every local copy against an index, in batches; drop those that differ.

    What is pending stays.

    Returns:
        How many were dropped.
    """
    n_dropped = 0
    keys = list(copy.local.keys())
    for at in range(0, len(keys), _BATCH_KEYS):
        batch = keys[at : at + _BATCH_KEYS]
        entries = copy.nodes.lookup(target.root, batch)
        differing = [
            key
            for key, found in copy.local.get_many(batch)
            if (entry := entries.get(key)) is None
            or entry.timestamp != found.timestamp
            or entry.digest != copy.sealer.digest(found.value)
        ]
        with copy.lock:
            copy.pending.absorb()
            stale = [key for key in differing if key not in copy.pending]
            _drop(copy, stale)
        n_dropped += len(stale)
    return n_dropped
