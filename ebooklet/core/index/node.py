"""Decoded nodes: columns in memory, entries made when asked for."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final, NamedTuple, TypeAlias

from ebooklet.core.digest import NODE_DIGEST_BYTES
from ebooklet.core.entry import Entry, Place, new_entry, new_place
from ebooklet.core.refs import BlockRef, NodeRef

NO_SID: Final = 0xFFFF  # in the sid column: the value is inline


class Child(NamedTuple):
    """One item of an inner node."""

    key: str  # the last key below
    ref: NodeRef


@dataclass(frozen=True, slots=True)
class LeafNode:
    """Entries of n consecutive keys. Columns are parallel; treat them as read-only."""

    keys: tuple[str, ...]  # n, strictly increasing
    lengths: array[int]  # n, bytes of each serialised value
    timestamps: array[int]  # n, µs since the Unix epoch
    digests: bytes  # n × digest_size, back to back
    digest_size: int  # bytes
    sids: tuple[bytes, ...]  # the segments the places refer to
    sid_index: array[int]  # n, into sids; NO_SID = inline
    offsets: list[int]  # n, of the stored bytes in their segment; no meaning where inline
    stored: array[int]  # n, stored bytes
    inline: bytes  # the inline values, back to back
    inline_ends: list[int] | None  # n, ends in `inline`; None when nothing is inline
    level: int = field(default=0, init=False)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.keys)

    @property
    def last(self) -> str:
        """The last key."""
        return self.keys[-1]

    def digest(self, i: int) -> bytes:
        """The value digest of entry i."""
        size = self.digest_size
        return self.digests[i * size : (i + 1) * size]

    def entry(self, i: int) -> Entry:
        """Entry i, 0 <= i < n."""
        return Entry(
            self.keys[i],
            self.lengths[i],
            self.digest(i),
            self.timestamps[i],
            self._inline(i),
            self._place(i),
        )

    def find(self, key: str) -> Entry | None:
        """The entry of `key`, or None."""
        i = bisect_left(self.keys, key)
        if i < len(self.keys) and self.keys[i] == key:
            return self.entry(i)
        return None

    def items(self) -> list[Entry]:
        """All entries, in key order."""
        return self.slice(0, len(self.keys))

    def slice(self, start: int, stop: int) -> list[Entry]:
        """Entries start to stop, exclusive, in key order."""
        size = self.digest_size
        digests = self.digests
        inlines: Iterable[bytes | None]
        places: Iterable[Place | None]
        if self.inline_ends is None:
            inlines = repeat(None)
            sids = map(self.sids.__getitem__, self.sid_index[start:stop])
            places = map(
                new_place, zip(sids, self.offsets[start:stop], self.stored[start:stop], strict=True)
            )
        else:
            inlines = map(self._inline, range(start, stop))
            places = map(self._place, range(start, stop))
        return list(
            map(
                new_entry,
                zip(
                    self.keys[start:stop],
                    self.lengths[start:stop],
                    [digests[at : at + size] for at in range(start * size, stop * size, size)],
                    self.timestamps[start:stop],
                    inlines,
                    places,
                    strict=False,  # `repeat` has no end
                ),
            )
        )

    def _inline(self, i: int) -> bytes | None:
        if self.sid_index[i] != NO_SID or self.inline_ends is None:
            return None
        end = self.inline_ends[i]
        return self.inline[end - self.stored[i] : end]

    def _place(self, i: int) -> Place | None:
        index = self.sid_index[i]
        if index == NO_SID:
            return None
        return Place(self.sids[index], self.offsets[i], self.stored[i])


@dataclass(frozen=True, slots=True)
class InnerNode:
    """Children in key order. Columns are parallel; treat them as read-only."""

    level: int  # of this node; the children are one below
    keys: tuple[str, ...]  # n, the last key below each child, strictly increasing
    sids: tuple[bytes, ...]  # the segments the children lie in
    sid_index: array[int]  # n, into sids
    offsets: list[int]  # n
    lengths: array[int]  # n, stored bytes
    crcs: array[int]  # n
    counts: array[int]  # n, keys below
    digests: bytes  # n × 32

    def __len__(self) -> int:
        """Number of children."""
        return len(self.keys)

    @property
    def last(self) -> str:
        """The last key below."""
        return self.keys[-1]

    def child(self, i: int) -> NodeRef:
        """The ref of child i, 0 <= i < n."""
        at = i * NODE_DIGEST_BYTES
        return NodeRef(
            BlockRef(self.sids[self.sid_index[i]], self.offsets[i], self.lengths[i], self.crcs[i]),
            self.digests[at : at + NODE_DIGEST_BYTES],
            self.counts[i],
            self.level - 1,
        )

    def children(self) -> Iterator[NodeRef]:
        """The refs of all children, in key order."""
        return map(self.child, range(len(self.keys)))

    def items(self) -> list[Child]:
        """All children with their last keys, in key order."""
        return list(map(Child, self.keys, self.children()))

    def find(self, key: str) -> int | None:
        """The child under which `key` would be, or None beyond the last key."""
        i = bisect_left(self.keys, key)
        return i if i < len(self.keys) else None


Node: TypeAlias = LeafNode | InnerNode
