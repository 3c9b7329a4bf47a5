"""Branches and tags by their names, as a head has them."""

from __future__ import annotations

from ebooklet.core.head import Branch, Head, Tag
from ebooklet.core.refnames import named, shown_name
from ebooklet.errors import UnknownVersionError


def find_branch(head: Head, name: str, db_key: str) -> Branch:
    """What a head says of a branch.

    Raises:
        UnknownVersionError: there is none of that name; the message lists some of those there are.
    """
    branch = head.branches.get(name)
    if branch is None:
        is_tag = f" ({name!r} is a tag: branch('...', {name!r}) begins a branch there)"
        raise UnknownVersionError(
            f"there is no branch {shown_name(name)}{is_tag if name in head.tags else ''}; "
            f"there are {named(head.branches, name)}",
            op="branch",
            key=db_key,
        )
    return branch


def find_tag(head: Head, name: str, db_key: str) -> Tag:
    """What a head says of a tag.

    Raises:
        UnknownVersionError: there is none of that name; the message lists some of those there are.
    """
    found = head.tags.get(name)
    if found is None:
        raise UnknownVersionError(
            f"there is no tag {shown_name(name)}; there are: {named(head.tags, name)}",
            op="tag",
            key=db_key,
        )
    return found
