"""Commit records, as they lie in segments: one read by where it is, and the branch that names it."""

from __future__ import annotations

from ebooklet.core.commit import Commit
from ebooklet.core.head import Branch, Head
from ebooklet.core.refnames import named, shown_name
from ebooklet.core.refs import CommitRef
from ebooklet.errors import EBookletError, UnknownVersionError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.commits import CommitReader


def read_record(remote: RemoteStore, db_key: str, ref: CommitRef) -> Commit:
    """The record of a commit; costs a request.

    Args:
        remote: where the segments are.
        db_key: whose they are.
        ref: where it lies.

    Raises:
        ObjectNotFound: its segment is gone.
        RemoteIntegrityError: it is damaged, or not the one that is named.
        EBookletError: it cannot be fetched.
    """
    (found,) = CommitReader(remote, db_key).read_many((ref,))
    if isinstance(found, EBookletError):
        raise found
    return found


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
