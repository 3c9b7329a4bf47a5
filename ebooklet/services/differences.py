"""What differs between two versions, as users see it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, TypedDict

from ebooklet.core.commit import Commit
from ebooklet.core.entry import Entry
from ebooklet.core.index.diff import Change, diff
from ebooklet.core.refs import CommitRef, NodeRef
from ebooklet.core.timestamps import to_datetime
from ebooklet.services.explaining import explaining
from ebooklet.services.guards import nothing_pushed
from ebooklet.services.versions import VersionLike, check_version, find_commit, load_commit
from ebooklet.services.working_copy import WorkingCopy


class Difference(TypedDict):
    """One key whose value differs between two versions. Times are aware, UTC; None: not there."""

    key: str
    kind: Literal["added", "modified", "deleted"]
    old_timestamp: datetime | None
    new_timestamp: datetime | None


def differences(
    copy: WorkingCopy, a: VersionLike | None = None, b: VersionLike | None = None
) -> Iterator[Difference]:
    """Yield what leads from version `a` to `b`, in key order.

    Without `b`, to what this copy stands on; without `a`, from the (first) parent of the other one.

    Costs a look at each version, and the index nodes that the two do not share: what differs
    decides, not the number of keys. Values are not fetched, and timestamps make no difference.

    Raises:
        UnknownVersionError, SnapshotExpired: see `versions.find_commit`.
        RemoteMissingError: nothing was pushed yet.
    """
    copy.require_open()
    for version in (a, b):
        if version is not None:
            check_version(version)
    ref, commit = _commit(copy, b)
    if a is None and not commit.parents:
        return _differences(copy, ref, None, commit.root)
    other, old = _commit(copy, commit.parents[0].hex() if a is None else a)
    return _differences(copy, min(ref, other, key=lambda one: one.seq), old.root, commit.root)


def _commit(copy: WorkingCopy, version: VersionLike | None) -> tuple[CommitRef, Commit]:
    base = copy.base
    if base is None:
        raise nothing_pushed("diff", copy.location, copy.db_key)
    if version is None:
        return base.ref, base.commit
    with explaining(copy):
        ref = find_commit(copy.log_nodes, base.head, version)
    if ref.id == base.ref.id:
        return ref, base.commit
    with explaining(copy, ref):
        return ref, load_commit(copy.segments, copy.db_key, base.head, ref, copy.sealer)


def _differences(
    copy: WorkingCopy, older: CommitRef, old: NodeRef | None, new: NodeRef | None
) -> Iterator[Difference]:
    changes = copy.nodes.scan(diff(old, new))
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
