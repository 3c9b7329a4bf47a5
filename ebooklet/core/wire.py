"""How refs are written inside records: flat CBOR lists.

A block is [sid, offset, length, crc]; a node adds [digest, count, level], a commit [id, seq]. In a
commit record and in log rows a sid is its 16 bytes; in the head, where hundreds of refs share
segments, it is an index into the head's own table.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final, TypeAlias

from ebooklet.core.cbor import U32, U48, U63, Malformed, blob, row, uint
from ebooklet.core.refs import BlockRef, CommitRef, NodeRef

PackSid: TypeAlias = Callable[[bytes], object]
UnpackSid: TypeAlias = Callable[[object], bytes]

SID_BYTES: Final = 16
MAX_BLOCK: Final = 64 * 1024 * 1024  # bytes; no block of ours is larger than a segment
MAX_LEVEL: Final = 32


def own_sid(sid: bytes) -> object:
    """Write a sid as itself."""
    return sid


def read_sid(value: object) -> bytes:
    """Read the sid that `own_sid` wrote."""
    return blob(value, "a segment id", SID_BYTES)


def pack_block(ref: BlockRef, sid: PackSid = own_sid) -> list[object]:
    """The list that stands for a block ref."""
    return [sid(ref.sid), ref.offset, ref.length, ref.crc]


def unpack_block(value: object, sid: UnpackSid = read_sid) -> BlockRef:
    """Read the list of `pack_block`; raises `Malformed`."""
    return _block(row(value, "a block ref", 4), sid)


def pack_node(ref: NodeRef, sid: PackSid = own_sid) -> list[object]:
    """The list that stands for a node ref."""
    return [*pack_block(ref.block, sid), ref.digest, ref.count, ref.level]


def unpack_node(value: object, sid: UnpackSid = read_sid) -> NodeRef:
    """Read the list of `pack_node`; raises `Malformed`."""
    items = row(value, "a node ref", 7)
    return NodeRef(
        _block(items, sid),
        blob(items[4], "a node digest", 32),
        uint(items[5], "a key count"),
        uint(items[6], "a node level", MAX_LEVEL),
    )


def pack_commit(ref: CommitRef, sid: PackSid = own_sid) -> list[object]:
    """The list that stands for a commit ref."""
    return [*pack_block(ref.block, sid), ref.id, ref.seq]


def unpack_commit(value: object, sid: UnpackSid = read_sid) -> CommitRef:
    """Read the list of `pack_commit`; raises `Malformed`."""
    items = row(value, "a commit ref", 6)
    return CommitRef(
        _block(items, sid), blob(items[4], "a commit id", 32), uint(items[5], "seq", U63)
    )


def _block(items: list[object], sid: UnpackSid) -> BlockRef:
    return BlockRef(
        sid(items[0]),
        uint(items[1], "an offset", U48),
        uint(items[2], "a block length", MAX_BLOCK),
        uint(items[3], "a checksum", U32),
    )


class SidTable:
    """The segment ids of one head, each written once and named by its index."""

    def __init__(self, sids: list[bytes]) -> None:
        self.sids = sids
        self._index = {sid: index for index, sid in enumerate(sids)}

    def pack(self, sid: bytes) -> object:
        """The index that stands for `sid`."""
        return self._index[sid]

    def unpack(self, value: object) -> bytes:
        """The sid that an index stands for; raises `Malformed`."""
        if type(value) is int and 0 <= value < len(self.sids):
            return self.sids[value]
        raise Malformed("a ref names a segment that is not in the head's table")


def join_ids(ids: list[bytes]) -> bytes:
    """Pack 16-byte ids back to back."""
    return b"".join(ids)


def split_ids(value: object, name: str, limit: int) -> list[bytes]:
    """Read the ids of `join_ids`, at most `limit` of them, sorted and all different."""
    data = blob(value, name, limit=limit * SID_BYTES)
    ids = [data[at : at + SID_BYTES] for at in range(0, len(data), SID_BYTES)]
    if len(data) % SID_BYTES or any(a >= b for a, b in pairwise(ids)):
        raise Malformed(f"{name} is not a sorted list of 16-byte ids")
    return ids
