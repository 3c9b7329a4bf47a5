"""Commit records, as they lie in segments: one read by where it is, and the branch that names it."""

from __future__ import annotations

from ebooklet.core.commit import MAX_COMMIT_BYTES, Commit, decode_commit
from ebooklet.core.head import Branch, Head
from ebooklet.core.names import segment_key
from ebooklet.core.refs import CommitRef
from ebooklet.core.segment import check_block
from ebooklet.errors import RemoteIntegrityError, UnknownVersionError
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.services.parts import checked


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
    block = ref.block
    key = segment_key(db_key, block.sid)
    if block.length > MAX_COMMIT_BYTES:
        raise RemoteIntegrityError(
            f"the record of commit {ref.seq} is above the size limit; run fsck", op="read", key=key
        )
    part = ByteRange(key, block.offset, block.offset + block.length)
    (body,) = remote.get_ranges([part])

    def decoded(data: bytes) -> Commit:
        check_block(data, block, key)
        return decode_commit(data, ref.id)

    commit = checked(remote, part, body, decoded)
    if commit.seq != ref.seq:
        raise RemoteIntegrityError(
            f"the record of commit {ref.seq} says seq {commit.seq}; run fsck", op="read", key=key
        )
    return commit


def find_branch(head: Head, name: str, db_key: str) -> Branch:
    """What a head says of a branch.

    Raises:
        UnknownVersionError: there is none of that name; the message lists those there are.
    """
    branch = head.branches.get(name)
    if branch is None:
        raise UnknownVersionError(
            f"there is no branch {name!r}; there are {', '.join(map(repr, sorted(head.branches)))}",
            op="branch",
            key=db_key,
        )
    return branch
