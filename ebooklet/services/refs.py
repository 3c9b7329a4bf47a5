"""Branches and tags by their names, as a head has them."""

from __future__ import annotations

from ebooklet.core.head import Branch, Head, Tag
from ebooklet.core.refnames import RefKind, named, shown_name, trash_name
from ebooklet.errors import UnknownVersionError


def find_branch(head: Head, name: str, db_key: str, *, op: str = "branch") -> Branch:
    """What a head says of a branch.

    Args:
        head: the head.
        name: of the branch.
        db_key: of the database, for messages.
        op: what is being done, for messages.

    Raises:
        UnknownVersionError: there is none of that name; the message lists some of those there are.
    """
    branch = head.branches.get(name)
    if branch is None:
        aside = ""
        if name in head.tags and op == "delete_branch":
            aside = f" ({name!r} is a tag: delete_tag({name!r}) drops it)"
        elif name in head.tags:
            aside = f" ({name!r} is a tag: branch('...', {name!r}) begins a branch there)"
        raise UnknownVersionError(
            f"there is no branch {shown_name(name)}{aside}{in_trash(head, 'branch', name)}; "
            f"there are: {named(head.branches, name)}",
            op=op,
            key=db_key,
        )
    return branch


def find_tag(head: Head, name: str, db_key: str) -> Tag:
    """What a head says of a tag that is to be deleted.

    Raises:
        UnknownVersionError: there is none of that name; the message lists some of those there are.
    """
    found = head.tags.get(name)
    if found is None:
        is_branch = f" ({name!r} is a branch: delete_branch({name!r}) drops it)"
        raise UnknownVersionError(
            f"there is no tag {shown_name(name)}{is_branch if name in head.branches else ''}"
            f"{in_trash(head, 'tag', name)}; there are: {named(head.tags, name)}",
            op="tag",
            key=db_key,
        )
    return found


def in_trash(head: Head, kind: RefKind, name: object) -> str:
    """What to add to a message about a branch or tag that is not there, if it was deleted; or ""."""
    if not isinstance(name, str) or name in head.tags or name in head.branches:
        return ""
    stored = trash_name(kind, name)
    if all(row.name != stored for row in head.trash):
        return ""
    where = " from another branch" if kind == "branch" else ""
    return f": it was deleted, and is in the trash: undelete({name!r}){where} brings it back"
