"""Failures of reads, told in terms of what was asked for, and explained by a look at the head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ebooklet.core.refs import CommitRef
from ebooklet.errors import (
    ObjectNotFound,
    OfflineError,
    RemoteDeleted,
    RemoteIntegrityError,
    RemoteUnavailable,
    SnapshotExpired,
    UnknownVersionError,
)
from ebooklet.services.retained import is_retained
from ebooklet.services.working_copy import WorkingCopy

__all__ = ["asked", "explaining"]


@contextmanager
def asked(op: str, key: str | None, what: str = "") -> Iterator[None]:
    """Have a remote that was not reached, or not asked, named with what it was wanted for.

    Without, its error names the object that was wanted of it, which says nothing to a caller.

    Args:
        op: what the caller called.
        key: of what; None for more than one.
        what: what could not be had, where `key` does not say it.
    """
    try:
        yield
    except (OfflineError, RemoteUnavailable) as exc:
        exc.op, exc.key = op, key
        if what:
            exc.args = (f"{what} could not be read: {exc.args[0]}",)
        raise


@contextmanager
def explaining(copy: WorkingCopy, commit: CommitRef | None = None) -> Iterator[None]:
    """Tell an expired snapshot from a damaged remote when a segment is missing (FORMAT §5).

    Args:
        copy: whose remote it is.
        commit: whose segments are read; None: the base's.
    """
    try:
        yield
    except ObjectNotFound as exc:
        base = copy.base
        if base is None or copy.settings.offline:
            raise
        try:
            current = copy.heads.read()
        except UnknownVersionError as gone:
            raise SnapshotExpired(str(gone.args[0]), op="read", key=copy.db_key) from exc
        if current is None:
            raise RemoteDeleted(
                "the remote database was deleted while it was open", op="read", key=copy.db_key
            ) from exc
        read = base.ref if commit is None else commit
        if current.head.uuid != base.head.uuid or not is_retained(
            copy.segments, copy.db_key, current.head, read
        ):
            stays = copy.settings.stays_at is not None
            remedy = "open one that is" if stays else "call pull() and repeat with what is"
            raise SnapshotExpired(
                f"commit {read.seq} is no longer retained by the remote; {remedy}",
                op="read",
                key=copy.db_key,
            ) from exc
        raise RemoteIntegrityError(
            f"segment {exc.key!r} is missing although the head names it; run fsck",
            op="read",
            key=copy.db_key,
        ) from exc
