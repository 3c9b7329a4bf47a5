"""References: how one stored block points to another (FORMAT §2)."""

from __future__ import annotations

from typing import NamedTuple


class BlockRef(NamedTuple):
    """Bytes [offset, offset + length) of one segment."""

    sid: bytes  # 16 bytes, see core.names
    offset: int
    length: int
    crc: int  # CRC-32 of the stored bytes


class NodeRef(NamedTuple):
    """One node of an index tree."""

    block: BlockRef
    digest: bytes  # 32 bytes, over the content below, places and timestamps left out
    count: int  # type: ignore[assignment]  # keys below; a node ref is never searched as a tuple
    level: int  # 0 = leaf


class CommitRef(NamedTuple):
    """One commit record."""

    block: BlockRef
    id: bytes  # 32 bytes
    seq: int
