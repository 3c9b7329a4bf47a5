"""Commit records, read where a head, or another record, says that they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple
from zlib import crc32

from ebooklet.core.commit import MAX_COMMIT_BYTES, Commit, decode_commit
from ebooklet.core.head import MAX_ROOT_BYTES
from ebooklet.core.names import segment_key
from ebooklet.core.refs import BlockRef, CommitRef
from ebooklet.core.segment import check_block
from ebooklet.errors import EBookletError, RemoteIntegrityError
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.services.parts import checked

# Nodes lie before the record that ends their segment, the root last: a few more bytes for a request.
_LOOK_BACK: Final = 32 * 1024


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


class RecordRead(NamedTuple):
    """A record, and the bytes of its segment that were read along with it."""

    commit: Commit
    block: BlockRef  # of the record
    before: bytes

    def root_node(self) -> bytes | None:
        """The commit's root as it is stored, if it came along and is small enough for a head."""
        root = self.commit.root
        if root is None or root.block.sid != self.block.sid or root.block.length > MAX_ROOT_BYTES:
            return None
        at = root.block.offset - self.block.offset + len(self.before)
        data = self.before[at : at + root.block.length] if at >= 0 else b""
        # What a damaged copy brought is asked for again where it is wanted.
        return data if len(data) == root.block.length and crc32(data) == root.block.crc else None


class CommitReader:
    """Reads the records of one database.

    Args:
        remote: where its segments are.
        db_key: its key.
    """

    def __init__(self, remote: RemoteStore, db_key: str) -> None:
        self._remote = remote
        self._db_key = db_key

    def read_many(self, refs: Sequence[CommitRef]) -> Iterator[Commit | EBookletError]:
        """The records of these commits, in order; each that cannot be read as its error."""
        sound = [ref for ref in refs if ref.block.length <= MAX_COMMIT_BYTES]
        bodies = iter(self._remote.get_ranges([self._part(ref) for ref in sound]))
        for ref in refs:
            if ref.block.length > MAX_COMMIT_BYTES:
                yield self._unreadable(ref, "it is above the size limit")
            else:
                yield self._record(ref, next(bodies))

    def read_around(self, ref: CommitRef) -> RecordRead:
        """One record, and what lies before it in its segment, by one request.

        Raises:
            ObjectNotFound: its segment is gone.
            RemoteIntegrityError: it is damaged, or not the one that is named.
            EBookletError: it cannot be fetched.
        """
        block = ref.block
        if block.length > MAX_COMMIT_BYTES:
            raise self._unreadable(ref, "it is above the size limit")
        start = max(0, block.offset - _LOOK_BACK)
        part = replace(self._part(ref), start=start)
        (body,) = self._remote.get_ranges([part])
        n_before = block.offset - start

        def split(data: bytes) -> RecordRead:
            check_block(data[n_before:], block, part.key)
            return RecordRead(decode_commit(data[n_before:], ref.id), block, data[:n_before])

        read = checked(self._remote, part, body, split)
        if read.commit.seq != ref.seq:
            raise self._unreadable(ref, f"it says seq {read.commit.seq}")
        return read

    def _part(self, ref: CommitRef) -> ByteRange:
        block = ref.block
        key = segment_key(self._db_key, block.sid)
        return ByteRange(key, block.offset, block.offset + block.length)

    def _record(self, ref: CommitRef, body: bytes | EBookletError) -> Commit | EBookletError:
        part = self._part(ref)

        def decoded(data: bytes) -> Commit:
            check_block(data, ref.block, part.key)
            return decode_commit(data, ref.id)

        try:
            commit = checked(self._remote, part, body, decoded)
        except EBookletError as exc:
            return exc
        if commit.seq != ref.seq:
            return self._unreadable(ref, f"it says seq {commit.seq}")
        return commit

    def _unreadable(self, ref: CommitRef, why: str) -> RemoteIntegrityError:
        return RemoteIntegrityError(
            f"the record of commit {ref.seq} cannot be read: {why}; run fsck",
            op="read",
            key=segment_key(self._db_key, ref.block.sid),
        )
