"""Branches: lines of commits under a name, beside the default one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ebooklet.core.head import Branch
from ebooklet.core.refnames import check_ref_name
from ebooklet.core.sealing import DatabaseSealer
from ebooklet.services.amending import amend
from ebooklet.services.naming import check_free, pinned, shown
from ebooklet.services.refs import find_branch
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.trash import dropping
from ebooklet.services.versions import VersionLike, check_version
from ebooklet.services.working_copy import WorkingCopy


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchInfo:
    """A branch, as users see it.

    Attributes:
        name: of the branch.
        commit: id of its newest commit, 64 hexadecimal digits.
        seq: number of that commit.
        oldest_seq: number of the oldest commit of it that may still be retained.
        default: whether it is what `open` without a branch opens.
    """

    name: str
    commit: str
    seq: int
    oldest_seq: int
    default: bool


def branch(copy: WorkingCopy, name: str, version: VersionLike | None = None) -> BranchInfo:
    """Begin a branch at a commit; the copy stays on its own.

    Args:
        copy: the working copy, writable.
        name: that the branch is to have.
        version: where it begins; None for the commit that this copy stands on.

    Raises:
        ValueError: the name cannot be one, or is another branch's or a tag's.
        SnapshotExpired: the commit is no longer retained.
        EBookletError: see `amending.amend`.
    """
    check_ref_name(name, "branch")
    if version is not None:
        check_version(version)

    def amendment(current: Snapshot, _: DatabaseSealer) -> Mapping[str, object] | None:
        head = current.head
        ref, oldest_seq = pinned(copy, current, version, "branch", followed=True)
        found = head.branches.get(name)
        if found is not None:
            if found.commit.id == ref.id and name != current.branch:
                return None  # as it was to be, by an attempt whose answer was lost perhaps
            raise ValueError(
                f"there is a branch {name!r} already, at commit {found.commit.seq}: choose another "
                "name, or delete_branch() it first"
            )
        check_free(head, name, "branch")
        new = replace(current.line, commit=ref, oldest_seq=oldest_seq)
        return {"branches": {**head.branches, name: new}}

    landed = amend(copy, "branch", amendment)
    return branch_info(landed, name, landed.head.branches[name])


def delete_branch(copy: WorkingCopy, name: str) -> None:
    """Drop a branch; the commit at its tip stays in the trash until the grace ends.

    Raises:
        ValueError: it is the default one, or the one that is open here.
        UnknownVersionError: there is none of that name.
        EBookletError: see `amending.amend`.
    """

    def amendment(current: Snapshot, _: DatabaseSealer) -> Mapping[str, object]:
        head = current.head
        find_branch(head, name, copy.db_key, op="delete_branch")
        if name == head.default_branch:
            raise ValueError(
                f"cannot delete {name!r}: it is the default branch, which every open begins with"
            )
        if name == current.branch:
            raise ValueError(
                f"cannot delete {name!r}: it is open here; open another branch and repeat it"
            )
        return dropping(copy, head, "branch", name)

    amend(copy, "delete_branch", amendment)


def branches(copy: WorkingCopy) -> Mapping[str, BranchInfo]:
    """All branches by name, sorted; costs one request, offline none."""
    found = shown(copy, "branches")
    if found is None:
        return MappingProxyType({})
    return MappingProxyType(
        {name: branch_info(found, name, line) for name, line in sorted(found.head.branches.items())}
    )


def branch_info(snapshot: Snapshot, name: str, line: Branch) -> BranchInfo:
    """What users see of a branch."""
    return BranchInfo(
        name=name,
        commit=line.commit.id.hex(),
        seq=line.commit.seq,
        oldest_seq=min(line.oldest_seq, line.commit.seq),
        default=name == snapshot.head.default_branch,
    )
