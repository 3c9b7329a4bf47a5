"""Writing many new keys at once, at half of what as many calls of Booklet cost.

Booklet spends most of a `set` on finding the end of its chain with unbuffered reads, one key at a
time. Here the blocks of many keys are written in one piece, and then what leads to them (the first
blocks of buckets, the ends of chains) through a map of the file. The file is byte for byte what
Booklet would have made of it: a new block follows those that its chain had, so that neither a kill
nor a power cut takes more than what was being written. Keys that the file has are left to Booklet.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from hashlib import blake2s
from typing import Final, TypeAlias

from ebooklet.adapters.local.booklet.handles import Handle
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
    with mmap.mmap(handle.fd, 0) as file:
        chains = _Chains(file, header)
        left = [item for item in items if not chains.add(item)]
        if chains.added:
            os.lseek(handle.fd, 0, os.SEEK_END)
            write_all(handle.fd, b"".join(chains.blocks()))
            chains.link()
            handle.count_in(chains.added)
    return left


class _Chains:
    """The buckets' chains of blocks, as they will be.

    Args:
        file: the whole of it.
        header: of it.
    """

    def __init__(self, file: mmap.mmap, header: Header) -> None:
        self._file = file
        self._index_at = header.index_at
        self._n_buckets = header.n_buckets
        self._end = len(file)
        self._hashes: set[bytes] = set()
        self._new: list[tuple[bytes, bytes, Item]] = []  # hash, encoded key, item
        self._following: list[bytes] = []  # for each of them, the pointer to the next of its chain
        self._newest: dict[int, int] = {}  # bucket -> which of them ends its chain
        self._links: list[tuple[int, bytes]] = []  # where in the file -> pointer to one of them

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
        bucket = int.from_bytes(hashed, "little") % self._n_buckets
        link = self._open_end(bucket, hashed)
        if link is None:
            return False
        pointer = self._end.to_bytes(POINTER_BYTES, "little")
        before = self._newest.get(bucket)
        if before is None:
            self._links.append((link, pointer))
        else:
            self._following[before] = pointer
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
            self._file[at : at + POINTER_BYTES] = pointer

    def _open_end(self, bucket: int, hashed: bytes) -> int | None:
        """Where a chain's last pointer lies; None if a block has this hash, or it is not as it should be."""
        file, size = self._file, len(self._file)
        link = self._index_at + bucket * POINTER_BYTES
        position = int.from_bytes(file[link : link + POINTER_BYTES], "little")
        if position <= 1:
            return link
        while 1 < position <= size - _HEAD_BYTES:
            link = position + HASH_BYTES
            if file[position:link] == hashed:
                return None
            position = int.from_bytes(file[link : link + POINTER_BYTES], "little")
            if position == 1:
                return link
        return None
