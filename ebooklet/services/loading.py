"""Loading: values that are not here yet are fetched into the local store, to stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Final

from ebooklet.core.index.lookup import MAX_WINDOW, scan_leaves
from ebooklet.core.index.slices import grouped, without
from ebooklet.core.keys import check_keys, is_key
from ebooklet.errors import EBookletError, RemoteUnavailable
from ebooklet.services.bulkreads import MAX_KEYS, Fetched, fetch_leaves
from ebooklet.services.entries import entries_of
from ebooklet.services.explaining import asked, explaining
from ebooklet.services.fetching import fetch_values
from ebooklet.services.working_copy import WorkingCopy

_PLANNED: Final = (MAX_KEYS, 4 << 30)  # keys, and bytes of values: what is planned at once
_BATCH_BYTES: Final = 8 << 20  # of values that were asked for by their keys
_LISTED_KEYS: Final = 500_000


def load(copy: WorkingCopy, keys: Iterable[str] | None = None) -> dict[str, EBookletError]:
    """Fetch into the local store what it does not have yet; return the failures by key."""
    copy.require_open()
    base = copy.base
    failures: dict[str, EBookletError] = {}
    with asked("load_items", None, "what is to be loaded"):
        for found in _fetched(copy) if keys is None else _fetched_of(copy, keys):
            failures.update(found.failures)
            copy.keep_fetched(base, found.items)
    copy.sync()
    _name_remedy(failures)
    return failures


def _name_remedy(failures: dict[str, EBookletError]) -> None:
    """Say how to go on where the remote was not reached; many keys may share one such error."""
    for failure in {id(one): one for one in failures.values()}.values():
        if isinstance(failure, RemoteUnavailable):
            failure.args = (
                f"{failure.args[0]}; load_items() again fetches what is missing, and only that",
            )


def _fetched(copy: WorkingCopy) -> Iterator[Fetched]:
    """All that is not here."""
    root = copy.view_root
    if root is None:
        return
    with explaining(copy):
        missing = without(copy.nodes.scan(scan_leaves(root, first=MAX_WINDOW)), _presence(copy))
        for group in grouped(missing, repeat(_PLANNED)):
            yield from fetch_leaves(copy, group)


def _fetched_of(copy: WorkingCopy, keys: Iterable[str]) -> Iterator[Fetched]:
    """What is not here of some keys."""
    found = Fetched([], {})
    size = 0
    is_here = _slow_presence(copy)
    entries = entries_of(copy, filter(is_key, check_keys(keys))).values()
    for entry, value in fetch_values(copy, (one for one in entries if not is_here(one.key))):
        if isinstance(value, EBookletError):
            found.failures[entry.key] = value
            continue
        found.items.append((entry.key, value, entry.timestamp))
        size += len(value)
        if size > _BATCH_BYTES:
            yield found
            found, size = Fetched([], {}), 0
    yield found


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
