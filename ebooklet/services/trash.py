"""The trash: branches and tags that were dropped, until the grace ends (FORMAT §2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ebooklet.core.head import Head, Tag, Trash
from ebooklet.core.refnames import (
    RefKind,
    check_ref_name,
    dropped_name,
    named,
    shown_name,
    trash_name,
)
from ebooklet.core.sealing import DatabaseSealer
from ebooklet.core.timestamps import to_datetime
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError, UnknownVersionError
from ebooklet.services.amending import amend
from ebooklet.services.naming import shown
from ebooklet.services.retained import HistoryReader
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedRef:
    """A branch or a tag that was deleted, or the tip of a branch whose content was replaced.

    Attributes:
        name: that it had.
        kind: "branch" or "tag".
        commit: id of the commit it names, 64 hexadecimal digits.
        seq: number of that commit.
        time: when it was dropped; aware, UTC.
        oldest_seq: number of the oldest commit that comes back with it. `undelete` says it of a
            branch as far as that goes: to its tip alone, where nothing else retains what led there.
    """

    name: str
    kind: RefKind
    commit: str
    seq: int
    time: datetime
    oldest_seq: int


def dropping(copy: WorkingCopy, head: Head, kind: RefKind, name: str) -> Mapping[str, object]:
    """The fields of a head that has dropped a branch or tag which this one has.

    The commit that it names stays in the trash until the grace ends.
    """
    table = head.tags if kind == "tag" else head.branches
    row = Trash(trash_name(kind, name), table[name].commit, copy.clock.now_us() // 1000)
    return {
        "tags" if kind == "tag" else "branches": {
            other: kept for other, kept in table.items() if other != name
        },
        "trash": (*head.trash, row),
    }


def trash(copy: WorkingCopy) -> tuple[DroppedRef, ...]:
    """What was dropped and can be had again, newest first; costs one request, offline none."""
    found = shown(copy, "trash")
    return () if found is None else tuple(_info(row) for row in reversed(found.head.trash))


def undelete(copy: WorkingCopy, name: str, new_name: str | None = None) -> DroppedRef:
    """Take the newest dropped branch or tag of that name out of the trash.

    A branch comes back with its tip, and older commits as far as something else retains them; a tag
    without its message.

    Args:
        copy: the working copy, writable.
        name: that it had.
        new_name: that it is to have; None: the same.

    Returns:
        What was taken out.

    Raises:
        UnknownVersionError: none of that name is in the trash, or not any more.
        ValueError: the new name cannot be one, or is in use.
        EBookletError: see `amending.amend`.
    """
    found: list[DroppedRef] = []

    def amendment(current: Snapshot, _: DatabaseSealer) -> Mapping[str, object]:
        head = current.head
        row = _newest(head, name, copy.db_key)
        kind = dropped_name(row.name).kind
        target = name if new_name is None else new_name
        check_ref_name(target, kind)
        for other, in_use in (("tag", head.tags), ("branch", head.branches)):
            if target in in_use:
                raise ValueError(
                    f"cannot undelete {name!r}: there is a {other} {target!r}; pass another new_name"
                )
        left = {"trash": tuple(other for other in head.trash if other is not row)}
        found[:] = [_info(row)]
        if kind == "tag":
            restored = Tag(row.commit, copy.clock.now_us() // 1000)
            return {"tags": {**head.tags, target: restored}, **left}
        history = HistoryReader(copy.reachable_remote(), copy.db_key, head)
        oldest_seq = history.line_of(row.commit)
        for problem in history.problems:
            if not isinstance(problem, RemoteIntegrityError | ObjectNotFound):
                raise problem  # what is damaged does not come back, what cannot be reached may
        found[:] = [replace(found[0], oldest_seq=oldest_seq)]
        line = replace(head.branch, commit=row.commit, oldest_seq=oldest_seq)
        return {"branches": {**head.branches, target: line}, **left}

    amend(copy, "undelete", amendment)
    return found[0]


def _newest(head: Head, name: str, db_key: str) -> Trash:
    for row in reversed(head.trash):
        if dropped_name(row.name).name == name:
            return row
    names = named((dropped_name(row.name).name for row in head.trash), name)
    raise UnknownVersionError(
        f"nothing called {shown_name(name)} is in the trash; there are: {names}",
        op="undelete",
        key=db_key,
    )


def _info(row: Trash) -> DroppedRef:
    kind, name = dropped_name(row.name)
    return DroppedRef(
        name=name,
        kind=kind,
        commit=row.commit.id.hex(),
        seq=row.commit.seq,
        time=to_datetime(row.ms * 1000),
        oldest_seq=row.commit.seq,
    )
