"""Writing many new keys at once, at half of what as many calls of Booklet cost.

Booklet spends most of a `set` on finding the end of its chain with unbuffered reads, one key at a
time. Here the blocks of many keys are written in one piece, and then what leads to them: the ends of
chains, and the index through a map of it. The file is byte for byte what Booklet would have made of
it: a new block follows those that its chain had, so that neither a kill nor a power cut takes more
than what was being written. Keys that the file has are left to Booklet.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from hashlib import blake2s
from typing import Final, Self, TypeAlias

from ebooklet.adapters.local.booklet.handles import Handle, unforked
from ebooklet.adapters.local.booklet.layout import (
    BLOCK_HEADER,
    HASH_BYTES,
    POINTER_BYTES,
    TIMESTAMP_BYTES,
    Header,
)
from ebooklet.adapters.localfiles.files import write_all

Item: TypeAlias = tuple[str, bytes, int]  # key, value, timestamp in µs

WORTH_IT: Final = 64  # items; below, finding the file's end costs more than it saves
_MAX_KEY: Final = (1 << 16) - 1
_MAX_VALUE: Final = 1 << 20  # larger ones gain nothing
_MAX_TIMESTAMP: Final = (1 << 8 * TIMESTAMP_BYTES) - 1
_LAST: Final = (1).to_bytes(POINTER_BYTES, "little")
_HEAD_BYTES: Final = HASH_BYTES + POINTER_BYTES


def append_new(handle: Handle, header: Header, items: Iterable[Item]) -> list[Item]:
    """Write the items whose keys the file does not have; the caller has marked it as changing.

    The index must have room for them: this does not grow it.

    Args:
        handle: open for writing.
        header: of its file.
        items: in any order.

    Returns:
        What was not written, in the order given: items whose keys are there already or come a
        second time, and those that only Booklet itself should judge.
    """
    items = list(items)
    if not handle.can_count:
        return items
    handle.file.sync()
    fd = handle.fd
    size = os.fstat(fd).st_size
    # A map has a descriptor of its own, by which a forked child would keep the file locked.
    with unforked(), _Index(fd, header) as index:
        chains = _Chains(fd, size, index)
        left = [item for item in items if not chains.add(item)]
        if chains.added:
            os.lseek(fd, 0, os.SEEK_END)
            write_all(fd, b"".join(chains.blocks()))
            chains.link()
            handle.count_in(chains.added)
    return left


class _Index:
    """The buckets' pointers to their first blocks, in a map of that part of the file alone.

    A map of all of it would bring much of the file into this process's memory.
    """

    def __init__(self, fd: int, header: Header) -> None:
        start = header.index_at - header.index_at % mmap.ALLOCATIONGRANULARITY
        self.n_buckets = header.n_buckets
        self._at = header.index_at - start
        stop = self._at + header.n_buckets * POINTER_BYTES
        self._map = mmap.mmap(fd, stop, offset=start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def __getitem__(self, bucket: int) -> int:
        at = self._at + bucket * POINTER_BYTES
        return int.from_bytes(self._map[at : at + POINTER_BYTES], "little")

    def __setitem__(self, bucket: int, pointer: bytes) -> None:
        at = self._at + bucket * POINTER_BYTES
        self._map[at : at + POINTER_BYTES] = pointer


class _Chains:
    """The buckets' chains of blocks, as they will be.

    Args:
        fd: of the file, which is written by nobody else.
        size: of it, in bytes; where the new blocks begin.
        index: where the chains begin.
    """

    def __init__(self, fd: int, size: int, index: _Index) -> None:
        self._fd = fd
        self._size = self._end = size
        self._index = index
        self._hashes: set[bytes] = set()
        self._new: list[tuple[bytes, bytes, Item]] = []  # hash, encoded key, item
        self._following: list[bytes] = []  # for each of them, the pointer to the next of its chain
        self._newest: dict[int, int] = {}  # bucket -> which of them ends its chain
        self._firsts: list[tuple[int, bytes]] = []  # bucket -> pointer to one of them
        self._links: list[tuple[int, bytes]] = []  # the same, by where a chain of the file ended

    @property
    def added(self) -> int:
        """Number of new blocks."""
        return len(self._new)

    def add(self, item: Item) -> bool:
        """Put an item at the end of its chain; False if Booklet itself must see to it."""
        key, value, timestamp = item
        try:
            raw = key.encode()
        except UnicodeEncodeError:
            return False
        hashed = blake2s(raw, digest_size=HASH_BYTES).digest()
        if (
            hashed in self._hashes
            or len(value) > _MAX_VALUE
            or len(raw) > _MAX_KEY
            or not 0 <= timestamp <= _MAX_TIMESTAMP
        ):
            return False
        bucket = int.from_bytes(hashed, "little") % self._index.n_buckets
        first = self._index[bucket]
        last = self._last_without(hashed, first) if first > 1 else 0
        if last is None:
            return False
        pointer = self._end.to_bytes(POINTER_BYTES, "little")
        if bucket in self._newest:
            self._following[self._newest[bucket]] = pointer
        elif last:
            self._links.append((last + HASH_BYTES, pointer))
        else:
            self._firsts.append((bucket, pointer))
        self._newest[bucket] = len(self._new)
        self._hashes.add(hashed)
        self._new.append((hashed, raw, item))
        self._following.append(_LAST)
        self._end += BLOCK_HEADER.size + len(raw) + len(value)
        return True

    def blocks(self) -> Iterator[bytes]:
        """The bytes of the new blocks, in their order."""
        pack = BLOCK_HEADER.pack
        for (hashed, raw, (_, value, at)), pointer in zip(self._new, self._following, strict=True):
            stamp = at.to_bytes(TIMESTAMP_BYTES, "little")
            yield pack(hashed, pointer, len(raw), len(value), stamp)
            yield raw
            yield value

    def link(self) -> None:
        """Lead to the new blocks, which are in the file by now."""
        for at, pointer in self._links:
            os.pwrite(self._fd, pointer, at)  # in place, so that no room is wanted
        for bucket, pointer in self._firsts:
            self._index[bucket] = pointer

    def _last_without(self, hashed: bytes, position: int) -> int | None:
        """Where a chain's last block lies; None if one has this hash, or it is not as it should be."""
        while 1 < position <= self._size - _HEAD_BYTES:
            head = os.pread(self._fd, _HEAD_BYTES, position)
            if head[:HASH_BYTES] == hashed:
                return None
            following = int.from_bytes(head[HASH_BYTES:], "little")
            if following == 1:
                return position
            position = following
        return None
