"""What a new branch or tag is to name: a commit that the head about to be replaced retains.

Looked at within each attempt to replace a head. So gc, which lets a commit go by a head of its own,
comes before and is seen, or after and sees the new name (FORMAT §10.5).
"""

from __future__ import annotations

from typing import NamedTuple

from ebooklet.core.head import Head
from ebooklet.core.refnames import RefKind
from ebooklet.core.refs import CommitRef
from ebooklet.errors import RemoteMissingError, SnapshotExpired
from ebooklet.services.retained import HistoryReader
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.versions import VersionLike, find_commit
from ebooklet.services.working_copy import WorkingCopy


class Pin(NamedTuple):
    """A commit that can be named, and how far back the way that led to it is retained."""

    ref: CommitRef
    oldest_seq: int


def pinned(
    copy: WorkingCopy,
    current: Snapshot,
    version: VersionLike | None,
    op: str,
    *,
    followed: bool = False,
) -> Pin:
    """The commit that a version names, if the head that stands now retains it.

    Costs no request where a branch names it, or a tag or the trash and it is not to be followed;
    else the records back to it.

    Args:
        copy: whose database it is.
        current: that head.
        version: checked; None names the commit that the copy stands on.
        op: what is being done, for messages.
        followed: whether what led to it is wanted, too, as far as that is retained.

    Raises:
        RemoteMissingError: the copy stands on none.
        UnknownVersionError: nothing is called so.
        SnapshotExpired: it is no longer retained.
        EBookletError: part of the history cannot be read, so that it cannot be told.
    """
    head = current.head
    if version is not None:
        ref = find_commit(copy.log_nodes, head, version)
    elif copy.base is not None:
        ref = copy.base.ref
    else:
        raise RemoteMissingError(
            f"cannot {op}: this copy stands on no commit yet; push first", op=op, key=copy.db_key
        )
    floors = [
        min(branch.oldest_seq, ref.seq)
        for branch in head.branches.values()
        if branch.commit.id == ref.id
    ]
    named = any(each.id == ref.id for each in head.commits())
    if not floors and named and not followed:
        floors = [ref.seq]
    if floors:
        return Pin(ref, min(floors))
    history = HistoryReader(copy.reachable_remote(), copy.db_key, head)
    floor = history.floor_of(ref)
    if floor is not None:
        return Pin(ref, floor)
    if named:
        return Pin(ref, ref.seq)  # what led to it cannot be told, for want of a record
    for problem in history.problems:
        raise problem
    raise SnapshotExpired(
        f"cannot {op}: commit {ref.seq} is no longer retained; pull() and repeat it on a later one",
        op=op,
        key=copy.db_key,
    )


def check_free(head: Head, name: str, kind: RefKind) -> None:
    """Refuse a name that means something else already: a version is looked up by name alone.

    Raises:
        ValueError: a branch is called so, where a tag is to be, or the reverse.
    """
    other, in_use = ("branch", head.branches) if kind == "tag" else ("tag", head.tags)
    if name in in_use:
        raise ValueError(
            f"there is a {other} {name!r}, and version={name!r} can mean one thing only: choose "
            f"another name for the {kind}"
        )


def shown(copy: WorkingCopy, op: str) -> Snapshot | None:
    """The head to read names from: the one that stands now, or offline the last one seen."""
    copy.require_open()
    if not copy.asks_remote:
        return copy.base
    current = copy.heads.read()
    if current is not None:
        copy.heads.check_same(current, copy.uuid)
    return current
