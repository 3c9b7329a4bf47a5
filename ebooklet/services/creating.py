"""Before a push creates a database where no head is: none may lie there headless (decision 0051)."""

from __future__ import annotations

from ebooklet.errors import RemoteMissingError
from ebooklet.services.headless import REMEDY, describe_headless, find_headless
from ebooklet.services.heads import deleted_meanwhile
from ebooklet.services.removal import let_go
from ebooklet.services.working_copy import WorkingCopy


def begin_anew(copy: WorkingCopy, *, force: bool) -> None:
    """Before a push creates a database where no head is: see that none lies there headless.

    Raises:
        RemoteMissingError: one does, and it is not forced.
        RemoteDeleted: there was a head when this handle was opened.
    """
    base = copy.base
    if base is not None and base.etag:
        raise deleted_meanwhile(copy.db_key)
    if base is None and (force or copy.former is not None):
        return  # of a deletion by this copy, which may not have ended, segments are no wonder
    found = find_headless(copy)
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
