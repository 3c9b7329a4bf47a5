"""Versions: whatever names a commit, and the commit that it names."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, TypeAlias

from ebooklet.core.commit import Commit
from ebooklet.core.head import Head
from ebooklet.core.notes import check_record
from ebooklet.core.refnames import named, shown_name
from ebooklet.core.refs import CommitRef
from ebooklet.core.retention import has_expired
from ebooklet.core.sealing import Sealer
from ebooklet.core.timestamps import to_datetime, to_microseconds
from ebooklet.errors import SnapshotExpired, UnknownVersionError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.commits import read_record
from ebooklet.services.log import older_rows, row_of, rows_back
from ebooklet.services.nodes import NodeReader
from ebooklet.services.refs import in_trash

VersionLike: TypeAlias = str | int | datetime
"""A tag, a branch, an id or the beginning of one, a seq, or a moment."""

_ID: Final = re.compile(r"[0-9a-fA-F]{4,64}")
_TOO_SHORT: Final = re.compile(r"[0-9a-fA-F]{1,3}")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_LISTED: Final = 10  # ids in a message


def check_version(version: object) -> None:
    """Refuse what can name no commit.

    Raises:
        TypeError: it is no str, int or datetime.
        ValueError: it is a datetime without a zone.
    """
    if isinstance(version, bool) or not isinstance(version, str | int | datetime):
        raise TypeError(
            "a version is a tag, a branch, the id of a commit or its beginning, its seq, or a "
            f"datetime, not {type(version).__name__}"
        )
    if isinstance(version, datetime):
        to_microseconds(version, 0)


def find_commit(log_nodes: NodeReader, head: Head, version: VersionLike) -> CommitRef:
    """The commit that a version names, by what a head and its log tell.

    A str is a tag, else a branch, else the beginning of an id, of four digits at least. A moment
    names the commit at which the default branch stood by then. The last 64 commits, and whatever has
    a name, cost no request.

    Args:
        log_nodes: reads the tree of the older history.
        head: whose history to look in.
        version: checked by `check_version`.

    Raises:
        UnknownVersionError: nothing is called so, or several commits are; the message says what
            there is.
        SnapshotExpired: there was such a commit, and it is no longer retained.
    """
    if isinstance(version, str):
        if version in head.tags:
            return head.tags[version].commit
        if version in head.branches:
            return head.branches[version].commit
        refs = _by_id(log_nodes, head, version)
    elif isinstance(version, datetime):
        refs = _by_time(log_nodes, head, to_microseconds(version, 0) // 1000)
    else:
        refs = _by_seq(log_nodes, head, version)
    kept = [ref for ref in refs if not has_expired(head, ref)]
    if len(kept) > 1:
        raise UnknownVersionError(
            f"{version!r} is the beginning of {len(kept)} commits, "
            f"{', '.join(ref.id.hex()[:16] for ref in kept[:_LISTED])}: give more of it",
            op="version",
            key=head.name,
        )
    if kept:
        return kept[0]
    if refs:
        raise SnapshotExpired(
            f"commit {refs[0].seq} is no longer retained; {_what_there_is(head, version)}",
            op="version",
            key=head.name,
        )
    other = ""
    if isinstance(version, int) and 0 < version <= head.seq:
        other = ", whose number a tag, a branch or gc has taken"
    elif isinstance(version, str):
        other = _meant(head, version)
    raise UnknownVersionError(
        f"there is no version {_shown(version)}{other}; {_what_there_is(head, version)}",
        op="version",
        key=head.name,
    )


def _meant(head: Head, text: str) -> str:
    """What somebody may have meant by a str that names nothing."""
    hints = [in_trash(head, "branch", text) or in_trash(head, "tag", text)]
    if _NUMBER.fullmatch(text) is not None:
        hints.append(f": a number is an int, version={int(text)}")
    elif _TOO_SHORT.fullmatch(text) is not None:
        hints.append(": of an id, give four digits at least")
    return "".join(hints)


def load_commit(
    remote: RemoteStore, db_key: str, head: Head, ref: CommitRef, sealer: Sealer
) -> Commit:
    """The record of a commit that a head tells of; the newest costs no request.

    Raises:
        ObjectNotFound: it has expired, or it is damaged.
        RemoteIntegrityError: it is damaged, or was not made by who has the key.
    """
    if ref.id == head.branch.commit.id:
        return head.tip
    commit = read_record(remote, db_key, ref)
    check_record(commit, sealer)
    return commit


def _by_id(log_nodes: NodeReader, head: Head, text: str) -> list[CommitRef]:
    if _ID.fullmatch(text) is None:
        return []
    wanted = text.lower()
    found: dict[bytes, CommitRef] = {}
    for ref in (*head.commits(), *(row.commit for row in head.recent)):
        if ref.id.hex().startswith(wanted):
            found[ref.id] = ref
    if len(wanted) == 64 and found:
        return list(found.values())
    for row in older_rows(log_nodes, head):
        if row.commit.id.hex().startswith(wanted):
            found.setdefault(row.commit.id, row.commit)
    return list(found.values())


def _by_time(log_nodes: NodeReader, head: Head, ms: int) -> list[CommitRef]:
    if ms >= max([head.ms, *(row.ms for row in head.recent)]):
        return [head.branch.commit]
    for row in rows_back(log_nodes, head):
        if row.branch == head.default_branch and row.ms <= ms:
            return [row.commit]
    return []


def _by_seq(log_nodes: NodeReader, head: Head, seq: int) -> list[CommitRef]:
    for ref in head.commits():
        if ref.seq == seq:
            return [ref]
    row = row_of(log_nodes, head, seq)
    return [row.commit] if row is not None and row.commit.seq == seq else []


def _shown(version: VersionLike) -> str:
    return version.isoformat() if isinstance(version, datetime) else shown_name(version)


def _what_there_is(head: Head, wanted: VersionLike) -> str:
    branch = head.branch
    oldest = min(branch.oldest_seq, branch.commit.seq)
    parts = [f"branch {head.default_branch!r} has commits from {oldest} to {branch.commit.seq}"]
    for what, names in (("branches", head.branches), ("tags", head.tags)):
        others = [name for name in names if name != head.default_branch]
        if others:
            parts.append(f"{what} are {named(others, wanted if isinstance(wanted, str) else '')}")
    newest = to_datetime(head.tip.ms * 1000).isoformat(timespec="seconds")
    return f"{'; '.join(parts)}; the newest is of {newest}"
