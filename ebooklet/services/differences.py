"""What differs between two versions, as users see it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, TypedDict

from ebooklet.core.entry import Entry
from ebooklet.core.index.diff import Change, diff
from ebooklet.core.refs import CommitRef, NodeRef
from ebooklet.core.timestamps import to_datetime
from ebooklet.errors import RemoteMissingError
from ebooklet.services.explaining import explaining
from ebooklet.services.versions import VersionLike, check_version, find_commit, load_commit
from ebooklet.services.working_copy import WorkingCopy


class Difference(TypedDict):
    """One key whose value differs between two versions. Times are aware, UTC; None: not there."""

    key: str
    kind: Literal["added", "modified", "deleted"]
    old_timestamp: datetime | None
    new_timestamp: datetime | None


def differences(
    copy: WorkingCopy, a: VersionLike, b: VersionLike | None = None
) -> Iterator[Difference]:
    """Yield what leads from version `a` to `b`, in key order; None: what this copy stands on.

    Costs a look at each version, and the index nodes that the two do not share: what differs
    decides, not the number of keys. Values are not fetched, and timestamps make no difference.

    Raises:
        UnknownVersionError, SnapshotExpired: see `versions.find_commit`.
        RemoteMissingError: nothing was pushed yet.
    """
    copy.require_open()
    check_version(a)
    if b is not None:
        check_version(b)
    old, new = _root(copy, a), _root(copy, b)
    return _differences(copy, old, new)


def _root(copy: WorkingCopy, version: VersionLike | None) -> tuple[CommitRef, NodeRef | None]:
    base = copy.base
    if base is None:
        raise RemoteMissingError(
            "nothing was pushed yet, so that there are no versions", op="diff", key=copy.db_key
        )
    if version is None:
        return base.ref, base.root
    with explaining(copy):
        ref = find_commit(copy.log_nodes, base.head, version)
    if ref.id == base.ref.id:
        return ref, base.root
    with explaining(copy, ref):
        return ref, load_commit(copy.segments, copy.db_key, base.head, ref, copy.sealer).root


def _differences(
    copy: WorkingCopy,
    old: tuple[CommitRef, NodeRef | None],
    new: tuple[CommitRef, NodeRef | None],
) -> Iterator[Difference]:
    older = min(old[0], new[0], key=lambda ref: ref.seq)
    changes = copy.nodes.scan(diff(old[1], new[1]))
    while True:
        copy.require_open()
        with explaining(copy, older):
            page = next(changes, None)
        if page is None:
            return
        yield from map(_difference, page)


def _difference(change: Change) -> Difference:
    return Difference(
        key=change.key,
        kind="added" if change.old is None else "deleted" if change.new is None else "modified",
        old_timestamp=_moment(change.old),
        new_timestamp=_moment(change.new),
    )


def _moment(entry: Entry | None) -> datetime | None:
    return None if entry is None else to_datetime(entry.timestamp)
