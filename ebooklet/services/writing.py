"""Local writes that are more than a set: deletions, clearing, discarding, pruning."""

from __future__ import annotations

from collections.abc import Iterable

from ebooklet.core.keys import check_keys, is_key
from ebooklet.errors import PushInProgressError
from ebooklet.services import reading
from ebooklet.services.conflicts import drop_changes
from ebooklet.services.metadata import committed_metadata
from ebooklet.services.working_copy import WorkingCopy


def delete(copy: WorkingCopy, key: object) -> bool:
    """Delete one key; the deletion is journalled before this returns.

    Returns:
        Whether the key was there.
    """
    if not is_key(key) or not reading.contains(copy, key):
        return False
    with copy.lock:
        copy.require_writable("delete")
        copy.pending.absorb()
        if key in copy.pending.deletes:
            return False
        copy.pending.mark_deleted(key, copy.clock.now_us())
        # Journalled first: a crash between the two leaves a deletion that is found again, where
        # the other order would leave a key that is merely not cached.
        copy.journal.deleted(copy.pending, (key,))
        copy.local.delete((key,))
    return True


def restamp(copy: WorkingCopy, key: str, moment: int) -> bool:
    """Change a key's timestamp (µs), whatever other threads do to its value meanwhile.

    Returns:
        Whether the key was there.
    """
    while True:
        base = copy.base
        found = reading.read(copy, key)
        if found is None:
            return False
        with copy.lock:
            copy.require_writable("set_timestamp")
            here = copy.local.get_entry(key)
            if here is None and (copy.base is not base or key in copy.pending):
                continue  # deleted, or another commit's by now: look again
            copy.pending.touched[key] = None
            copy.local.set(key, (here or found).value, moment)
            return True


def clear(copy: WorkingCopy) -> None:
    """Delete every key at once; the next push replaces the remote content in one step."""
    refuse_during_push(copy, "clear")
    with copy.lock:
        copy.require_writable("clear")
        copy.pending.clear()
        copy.pending.replace = copy.base is not None and copy.base.count > 0
        copy.journal.rewrite(copy.pending)
        copy.journal.all_gone()
        copy.local.clear()
        copy.local.sync()


def discard(copy: WorkingCopy, keys: Iterable[str] | None) -> None:
    """Drop pending changes of `keys`, or all of them with metadata; unknown keys are ignored."""
    refuse_during_push(copy, "discard")
    with copy.lock:
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
                copy.local.set_metadata(*(theirs or (b"null", 0)))
            copy.journal.rewrite(copy.pending)
        else:
            drop_changes(copy, list(dict.fromkeys(check_keys(keys))))


def prune(copy: WorkingCopy, older_than: int | None) -> int:
    """Rewrite the local file without dead data, and without cached values older than a moment.

    Args:
        copy: the working copy, writable.
        older_than: µs; None evicts nothing.

    Returns:
        Entries removed from the local file.
    """
    refuse_during_push(copy, "prune")
    with copy.lock:
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
        copy.journal.gone(evict)
        removed = copy.local.compact(evict=evict)
        copy.local.sync()
    return removed


def refuse_during_push(copy: WorkingCopy, op: str) -> None:
    """Raise `PushInProgressError` while another thread pushes: it reads what this would remove."""
    copy.require_open()
    if copy.push_lock.locked():
        raise PushInProgressError(f"cannot {op} while a push is under way", op=op)
