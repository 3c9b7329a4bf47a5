"""Keys that changed both here and in the remote: found, reported, given up or kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ebooklet.core import merge
from ebooklet.core.entry import Entry
from ebooklet.core.journal import UNKNOWN, Base
from ebooklet.services.entries import entries_of
from ebooklet.services.evictions import note_evicted
from ebooklet.services.marking import may_be_here
from ebooklet.services.working_copy import WorkingCopy

UNRELATED: Final = b"?"  # a base that equals no digest: nothing is known of what this key once was
_SHOWN: Final = 5


def find_conflicts(copy: WorkingCopy) -> list[str]:
    """Look at the pending keys whose base moved under them; drop changes that are none.

    Returns:
        Keys in conflict, sorted.
    """
    conflicts: list[str] = []
    decided: dict[str, tuple[merge.State, merge.State]] = {}
    for key, verdict, ours, theirs in _verdicts(copy):
        if verdict is merge.Verdict.CONFLICT:
            conflicts.append(key)
        elif verdict is merge.Verdict.DROP:
            decided[key] = ours, theirs
    with copy.lock:
        # Another thread may have changed them since: then nothing was decided about them.
        same = {k: theirs for k, (ours, theirs) in decided.items() if ours_of(copy, k) == ours}
        kept = {
            key: theirs.timestamp
            for key, theirs in same.items()
            if isinstance(theirs, merge.Version) and _holds(decided[key][0], theirs)
        }
        keep_values(copy, kept)
        drop_changes(copy, [key for key in same if key not in kept])
    return conflicts


def standing_conflicts(
    copy: WorkingCopy, entries: Mapping[str, Entry] | None = None
) -> frozenset[str]:
    """Pending keys that are in conflict with what the base has; changes nothing.

    Args:
        copy: the working copy.
        entries: what the base says of everything pending; None looks up what is needed.
    """
    return frozenset(
        key for key, verdict, *_ in _verdicts(copy, entries) if verdict is merge.Verdict.CONFLICT
    )


def _verdicts(
    copy: WorkingCopy, entries: Mapping[str, Entry] | None = None
) -> Iterator[tuple[str, merge.Verdict, merge.State, merge.State]]:
    """Decide the pending keys whose base moved under them, in order; with ours and theirs."""
    with copy.lock:
        moved = {
            key: base
            for table in (copy.pending.sets, copy.pending.deletes)
            for key, base in table.items()
            if base is not UNKNOWN
        }
    if not moved:
        return
    found = entries_of(copy, moved) if entries is None else entries
    for key in sorted(moved):
        entry = found.get(key)
        ours = ours_of(copy, key)
        theirs: merge.State = merge.ABSENT
        if entry is not None:
            theirs = merge.Version(entry.digest, entry.timestamp)
        yield key, merge.decide(_base(moved[key]), ours, theirs), ours, theirs


def drop_changes(copy: WorkingCopy, keys: list[str]) -> None:
    """Give up the changes of `keys` made here: what the base has is readable again."""
    with copy.lock:
        copy.pending.absorb()
        dropped = [key for key in keys if key in copy.pending]
        stored = [key for key in dropped if key in copy.pending.sets]
        note_evicted(copy, stored)
        copy.journal.gone(stored)
        try:
            copy.local.delete(stored)
        except BaseException:
            # A change without its value could never be pushed.
            dropped = [key for key in stored if not may_be_here(copy, key)]
            raise
        finally:
            for key in dropped:
                copy.pending.shape += copy.pending.may_count(key)
                copy.pending.forget(key)
            copy.journal.settled(dropped)


def keep_values(copy: WorkingCopy, times: Mapping[str, int]) -> None:
    """Settle changes whose values the base has too: they stay here, under its timestamps (µs)."""
    with copy.lock:
        copy.pending.absorb()
        copy.restamp(times)
        for key in times:
            copy.pending.forget(key)
        copy.journal.stored(times)
        copy.journal.settled(list(times))


def describe(keys: list[str]) -> str:
    """Name the first few of many keys."""
    shown = ", ".join(repr(key if len(key) <= 60 else key[:57] + "...") for key in keys[:_SHOWN])
    more = len(keys) - _SHOWN
    return f"{shown} and {more} more keys" if more > 0 else shown


def ours_of(copy: WorkingCopy, key: str) -> merge.State:
    """What a pending key is here; the caller holds the lock where that is to stay."""
    found = None if key in copy.pending.deletes else copy.local.get_entry(key)
    return (
        merge.ABSENT
        if found is None
        else merge.Version(copy.sealer.digest(found.value), found.timestamp)
    )


def _holds(ours: merge.State, theirs: merge.Version) -> bool:
    return isinstance(ours, merge.Version) and ours.digest == theirs.digest


def _base(base: Base) -> merge.Base:
    if base == UNRELATED:
        return merge.UNKNOWN
    # The journal keeps digests only: a time that equals no real one.
    return merge.Version(base, -1) if base else merge.ABSENT
