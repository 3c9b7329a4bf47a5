"""Switching: a local half that was in step with one branch, brought into step with another.

As `git switch` does: what is pending comes along where both branches have the same under it, and
otherwise nothing moves. What was fetched stays where both have it.
"""

from __future__ import annotations

from ebooklet.core.entry import Entry
from ebooklet.core.refnames import named
from ebooklet.errors import (
    ConflictError,
    LocalFileError,
    ObjectNotFound,
    OfflineError,
    ReplaceConflict,
    UnknownVersionError,
)
from ebooklet.services.conflicts import describe
from ebooklet.services.pull import take_in
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


def settle_branch(copy: WorkingCopy, current: Snapshot | None, *, writes: bool) -> Snapshot | None:
    """See that a copy is on the branch that was asked for, or on the one that it was on last.

    Args:
        copy: its journal was read, and all that is stored locally is known to be pending or not.
        current: the head that stands; None when there is none, or nobody was asked.
        writes: whether this is for a writer.

    Returns:
        The same head, seen from that branch. The copy is still to take it in.

    Raises:
        UnknownVersionError: the branch that it was on last is there no longer.
        ConflictError, ReplaceConflict: what is pending would meet other values there; nothing was
            changed.
        LocalFileError: it is on another one, and this is for a reader.
        OfflineError: it is on another one, and nobody may be asked.
    """
    base, wanted = copy.base, copy.settings.branch
    last = None if base is None else base.branch
    if wanted is None or base is None or last == wanted:
        copy.put_on(wanted if base is None or wanted is not None else base.other)
        if current is None:
            return None
        if last is not None and last not in current.head.branches:
            raise UnknownVersionError(
                f"{copy.local.location} is on branch {last!r}, which is gone; nothing was changed. "
                f"There are {named(current.head.branches, last)}: open it with one of them, or "
                f"undelete({last!r}) with another local file",
                op="open",
                key=copy.db_key,
            )
        return copy.heads.of_branch(current)
    if current is None:
        if not copy.settings.offline:
            return None  # there is no database, and so no branch to be on
        raise OfflineError(
            f"{copy.local.location} is on branch {last!r}: it cannot be brought to {wanted!r} "
            "while the database is opened offline",
            op="open",
            key=copy.db_key,
        )
    if not writes:
        # Others may be reading it, and are not to meet another branch's values in it.
        raise LocalFileError(
            f"{copy.local.location} is on branch {last!r}: open it with flag 'w' to bring it to "
            f"{wanted!r}, or read that with another local file, or none",
            op="open",
            key=copy.db_key,
        )
    if last in current.head.branches:
        copy.put_on(last)
        take_in(copy, copy.heads.of_branch(current))  # tells what became of writes in doubt
        copy.put_on(wanted)
    there = copy.heads.of_branch(current)
    _check_pending(copy, there)
    return there


def _check_pending(copy: WorkingCopy, there: Snapshot) -> None:
    base, pending = copy.base, copy.pending
    if base is None:
        return
    way_out = f"open it with branch={base.branch!r}, and push or discard() there first"
    if base.branch not in there.head.branches:
        way_out = (
            f"branch {base.branch!r} is gone: undelete() it, with another local file, {way_out}"
        )
    if pending.replace:
        raise ReplaceConflict(
            f"{copy.local.location} is on branch {base.branch!r}, all of which the next push "
            f"replaces, and cannot be brought to {there.branch!r}: {way_out}",
            op="open",
            key=copy.db_key,
        )
    pending.absorb()
    keys = sorted((*pending.sets, *pending.deletes))
    if not keys:
        return
    copy.adopt(there)
    try:
        here = copy.nodes.lookup(base.root, keys)
    except ObjectNotFound:
        return  # no longer retained: every pending key is compared when the base moves
    others = copy.nodes.lookup(there.root, keys)
    met = [key for key in keys if _value(here.get(key)) != _value(others.get(key))]
    if met:
        raise ConflictError(
            f"{describe(met)} changed in {copy.local.location}, which is on branch "
            f"{base.branch!r}, and differ in {there.branch!r}; nothing was changed: {way_out}",
            keys=met,
            op="open",
            key=copy.db_key,
        )


def _value(entry: Entry | None) -> bytes | None:
    return None if entry is None else entry.digest
