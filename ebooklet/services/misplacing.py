"""A local half opened with a place where its database is not, but was never seen to be either.

A mistyped key looks like a database that was deleted. So nothing of the local half changes until
somebody says that a database is wanted there: what is stored is served, what is written is pending
on top of the place that is remembered, and a push is refused (decision 0035).
"""

from __future__ import annotations

import warnings

from ebooklet.core.callers import stacklevel
from ebooklet.errors import LockTimeout, RemoteMissingError
from ebooklet.services.removal import let_go
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


def look_around(copy: WorkingCopy, current: Snapshot | None, *, writes: bool) -> None:
    """Note where the copy is, at an open, and warn if that is not where its database is.

    Args:
        copy: its journal was read.
        current: the head that stands at the place asked for.
        writes: whether this is for a writer.
    """
    elsewhere = copy.journal.place.elsewhere
    if current is not None or not copy.asks_remote:
        elsewhere = None
    copy.stand_off(elsewhere)
    if elsewhere is None:
        return
    then = (
        "A push here is refused, unless with force_push=True: see there"
        if writes
        else "What is stored locally is served, and may be old"
    )
    warnings.warn(
        f"there is no database at {copy.location}; {copy.local.location} was last in step with "
        f"{elsewhere}. Open it with that, or check the key. {then}",
        UserWarning,
        stacklevel=stacklevel(),
    )


def settle_in(copy: WorkingCopy) -> None:
    """Remember the place of a copy that was found to be in step there; never waits for it."""
    place = copy.journal.place
    if not place.due:
        return
    try:
        with copy.local.exclusive(0):
            place.note()
    except LockTimeout:
        pass  # another process is at work on the file, and notes where it is itself


def begin_here(copy: WorkingCopy, *, force: bool) -> None:
    """Before a push creates a database: let it, if nothing says that it exists elsewhere.

    Raises:
        RemoteMissingError: the copy was last in step elsewhere, and it is not forced.
    """
    elsewhere = copy.elsewhere
    if elsewhere is None:
        return
    base = copy.base
    n_stored = copy.local.count()
    if not force:
        n_all = n_stored if base is None else base.count
        raise RemoteMissingError(
            f"there is no database at {copy.location}; {copy.local.location} was last in step "
            f"with {elsewhere}. Nothing was pushed, and what is pending stays so: open it with "
            f"that place. To move the database, open it there and use copy_remote(). "
            f"force_push=True creates a second database here, of the {n_stored} keys stored "
            f"locally (there were {n_all})",
            op="push",
            key=copy.db_key,
        )
    if base is not None:
        let_go(copy, base)
    copy.stand_off(None)
