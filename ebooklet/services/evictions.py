"""Which local copies were dropped, noted where it happens and told to the hooks once it is done."""

from __future__ import annotations

from collections.abc import Iterable

from ebooklet.services.working_copy import WorkingCopy


def note_evicted(copy: WorkingCopy, keys: Iterable[str]) -> None:
    """Note that local copies were dropped, for `on_evict`; the caller holds the lock."""
    if copy.hooks is not None and "on_evict" in copy.hooks.wanted:
        copy.evicted.update(dict.fromkeys(keys))


def take_evicted(copy: WorkingCopy) -> tuple[str, ...]:
    """The keys noted by `note_evicted` since the last call, sorted."""
    if not copy.evicted:
        return ()
    with copy.lock:
        keys, copy.evicted = copy.evicted, {}
    return tuple(sorted(keys))
