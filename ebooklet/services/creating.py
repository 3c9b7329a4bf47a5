"""Before a push creates a database where no head is: none may lie there headless (decision 0051)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ebooklet.errors import RemoteMissingError
from ebooklet.services.headless import (
    REMEDY,
    Segments,
    describe_headless,
    find_headless,
    segment_sizes,
)
from ebooklet.services.heads import deleted_meanwhile
from ebooklet.services.removal import let_go
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


def look_before(copy: WorkingCopy, *, force: bool) -> tuple[Snapshot | None, Segments | None]:
    """What stands where a push is about to create a database, all of it asked for side by side.

    Returns:
        The head, and the segments, or None where `begin_anew` does not ask for them.

    Raises:
        LockLostError: the lock is another's. Without a head only the lock itself can tell that.
        EBookletError: see `HeadStore.read`.
    """
    with ThreadPoolExecutor(2, "ebooklet-look") as pool:
        verified = None if copy.lease is None else pool.submit(copy.lease.verify)
        listed = None if _expects_segments(copy, force=force) else pool.submit(segment_sizes, copy)
        current = copy.heads.read(at_once=True)
        if verified is not None:
            verified.result()
    return current, None if listed is None else listed.result


def _expects_segments(copy: WorkingCopy, *, force: bool) -> bool:
    """Whether segments without a head are no wonder: this copy's deletion may not have ended."""
    return copy.base is None and (force or copy.former is not None)


def begin_anew(copy: WorkingCopy, segments: Segments | None, *, force: bool) -> None:
    """Before a push creates a database where no head is: see that none lies there headless.

    Args:
        copy: the working copy.
        segments: what lies there, where that was asked for already.
        force: create one all the same.

    Raises:
        RemoteMissingError: one does, and it is not forced.
        RemoteDeleted: there was a head when this handle was opened.
    """
    base = copy.base
    if base is not None and base.etag:
        raise deleted_meanwhile(copy.db_key)
    if _expects_segments(copy, force=force):
        return
    found = find_headless(copy, segments)
    if found is None:
        if base is not None:
            raise deleted_meanwhile(copy.db_key)
        return
    if not force:
        n_stored = copy.local.count()
        raise RemoteMissingError(
            f"{describe_headless(copy, found)}. Nothing was pushed, and what is pending stays so: {REMEDY}; then "
            f"push again. force_push=True creates a database of the {n_stored} keys stored locally "
            "in its place, after which no fsck brings the other back",
            op="push",
            key=copy.db_key,
        )
    if base is not None:
        let_go(copy, base)
