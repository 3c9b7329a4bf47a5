"""Entries: what the base commit's index says of keys, pending changes left out of account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ebooklet.core.entry import Entry
from ebooklet.core.index.lookup import scan
from ebooklet.services.explaining import explaining
from ebooklet.services.working_copy import WorkingCopy


def entries_of(copy: WorkingCopy, keys: Iterable[str]) -> dict[str, Entry]:
    """What the base commit says of `keys`; absent ones are missing. Pending changes are ignored."""
    root = copy.view_root
    if root is None:
        return {}
    with explaining(copy):
        return copy.nodes.lookup(root, keys)


def base_entries(copy: WorkingCopy, keys: Iterable[str]) -> dict[str, Entry]:
    """`entries_of`, even while a replacement of everything is pending."""
    base = copy.base
    if base is None:
        return {}
    with explaining(copy):
        return copy.nodes.lookup(base.root, keys)


def equal_here(
    copy: WorkingCopy, keys: list[str], entries: Mapping[str, Entry]
) -> dict[str, Entry]:
    """The entries of those of the keys that are stored here with the same value and time."""
    return {
        key: entry
        for key, (timestamp, value) in copy.local.get_many(keys)
        if (entry := entries.get(key)) is not None
        and entry.timestamp == timestamp
        and entry.digest == copy.sealer.digest(value)
    }


def iter_entries(
    copy: WorkingCopy, start: str | None = None, stop: str | None = None
) -> Iterator[list[Entry]]:
    """Yield the base commit's entries in [start, stop), sorted, in lists; ignores pending changes."""
    root = copy.view_root
    if root is not None:
        with explaining(copy):
            yield from copy.nodes.scan(scan(root, start, stop))


def iter_base(copy: WorkingCopy) -> Iterator[list[Entry]]:
    """All entries of the base commit, even while a replacement of everything is pending."""
    if copy.base is not None and copy.base.root is not None:
        with explaining(copy):
            yield from copy.nodes.scan(scan(copy.base.root))


def resolve_pending(copy: WorkingCopy) -> None:
    """Learn of every pending key whether the base has it; one batch of node reads at most."""
    with copy.lock:
        keys = copy.pending.unresolved()
        if not keys:
            return
        base, root = copy.base, copy.view_root
    with explaining(copy):
        entries = copy.nodes.lookup(root, keys)
    with copy.lock:
        if copy.base is base and copy.view_root == root:
            copy.pending.resolve(keys, entries)
