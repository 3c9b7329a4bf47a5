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
from collections.abc import Iterable
from hashlib import blake2s
from itertools import chain, islice
from typing import Final, Self, TypeAlias

from ebooklet.adapters.local.booklet.handles import Handle, unforked
from ebooklet.adapters.local.booklet.layout import (
    BLOCK_BYTES,
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
_NO_BLOCK: Final = (bytes(POINTER_BYTES), _LAST)  # what an index has of an empty chain
_HASH: Final = blake2s(digest_size=HASH_BYTES)  # copied, it costs half of what a new one does
_HEAD_BYTES: Final = HASH_BYTES + POINTER_BYTES
_JOINED: Final = 3 * 1024  # parts of blocks in one write; a block has three


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
    handle.flush()
    fd = handle.fd
    size = os.fstat(fd).st_size
    # A map has a descriptor of its own, by which a forked child would keep the file locked.
    with unforked(), _Index(fd, header) as index:
        chains = _Chains(fd, size, index)
        left = chains.add(items)
        if chains.added:
            n_keys = len(handle.file) + chains.added
            try:
                chains.write()
                _lead_to(chains, handle, n_keys)
            except OSError:
                raise
            except BaseException:  # as by Ctrl-C: these are few bytes, and the same the second time
                if chains.written:
                    with handle.changing:
                        _lead_to(chains, handle, n_keys)
                raise
    return left


def _lead_to(chains: _Chains, handle: Handle, n_keys: int) -> None:
    try:
        chains.link()
        handle.count(n_keys)
    except OSError as exc:
        handle.fail(exc)  # blocks that nothing leads to would be gone for good
        raise


class _Index:
    """The buckets' pointers to their first blocks, in a map of that part of the file alone.

    A map of all of it would bring much of the file into this process's memory.
    """

    def __init__(self, fd: int, header: Header) -> None:
        start = header.index_at - header.index_at % mmap.ALLOCATIONGRANULARITY
        self.n_buckets = header.n_buckets
        self.at = header.index_at - start  # of the first bucket's in the map
        stop = self.at + header.n_buckets * POINTER_BYTES
        self.map = mmap.mmap(fd, stop, offset=start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.map.close()


class _Chains:
    """The buckets' chains of blocks, as they will be.

    Args:
        fd: of the file, which is written by nobody else.
        size: of it, in bytes; where the new blocks begin.
        index: where the chains begin.
    """

    def __init__(self, fd: int, size: int, index: _Index) -> None:
        self._fd = fd
        self._size = size
        self._index = index
        self.written = False  # all of the new blocks are in the file
        # The new blocks, in columns: their parts, which go to the file as they are.
        self._hashes: list[bytes] = []
        self._following: list[bytes] = []  # the pointer to the next block of the chain
        self._keys: list[bytes] = []  # encoded
        self._values: list[bytes] = []
        self._stamps: list[bytes] = []
        # Pointers to them: by their places in the map, and by where the file's own chains end.
        self._firsts: list[tuple[int, bytes]] = []
        self._links: list[tuple[int, bytes]] = []

    @property
    def added(self) -> int:
        """Number of new blocks."""
        return len(self._hashes)

    def add(self, items: Iterable[Item]) -> list[Item]:
        """Put items at the ends of their chains; return those that Booklet itself must see to.

        A tight loop, as it is what most of a load or a bulk write takes.
        """
        left: list[Item] = []
        seen: set[bytes] = set()
        # By a bucket's place in the map: which new block ends its chain.
        newest: dict[int, int] = {}
        index, number, new_hash = self._index, int.from_bytes, _HASH.copy
        table, table_at, n_buckets = index.map, index.at, index.n_buckets
        hashes, following = self._hashes, self._following
        add_key, add_value, add_stamp = self._keys.append, self._values.append, self._stamps.append
        end = self._size
        for item in items:
            key, value, timestamp = item
            try:
                raw = key.encode()
            except UnicodeEncodeError:
                left.append(item)
                continue
            hasher = new_hash()
            hasher.update(raw)
            hashed = hasher.digest()
            bucket = table_at + number(hashed, "little") % n_buckets * POINTER_BYTES
            first = table[bucket : bucket + POINTER_BYTES]
            last = 0 if first in _NO_BLOCK else self._last_without(hashed, number(first, "little"))
            if (
                last is None
                or hashed in seen
                or len(value) > _MAX_VALUE
                or len(raw) > _MAX_KEY
                or not 0 <= timestamp <= _MAX_TIMESTAMP
            ):
                left.append(item)
                seen.add(hashed)  # what comes later for this key must be written later, too
                continue
            pointer = end.to_bytes(POINTER_BYTES, "little")
            before = newest.get(bucket)
            if before is not None:
                following[before] = pointer
            elif last:
                self._links.append((last + HASH_BYTES, pointer))
            else:
                self._firsts.append((bucket, pointer))
            newest[bucket] = len(hashes)
            seen.add(hashed)
            hashes.append(hashed)
            following.append(_LAST)
            add_key(raw)
            add_value(value)
            add_stamp(timestamp.to_bytes(TIMESTAMP_BYTES, "little"))
            end += BLOCK_BYTES + len(raw) + len(value)
        return left

    def write(self) -> None:
        """Write the new blocks, to which nothing leads yet, or none of them.

        Raises:
            OSError: as when the disk is full; the file is as it was, as after Ctrl-C.
        """
        keys, values = self._keys, self._values
        heads = map(
            BLOCK_HEADER.pack,
            *(self._hashes, self._following, map(len, keys), map(len, values), self._stamps),
        )
        parts = chain.from_iterable(zip(heads, keys, values, strict=True))
        os.lseek(self._fd, self._size, os.SEEK_SET)
        try:
            while data := b"".join(islice(parts, _JOINED)):
                write_all(self._fd, data)
            self.written = True
        except BaseException:
            # Bulk reads would find blocks that nothing leads to, and no deletion ever would.
            if not self.written:
                os.ftruncate(self._fd, self._size)
            raise

    def link(self) -> None:
        """Lead to the new blocks, which are in the file by now."""
        fd, table = self._fd, self._index.map
        for at, pointer in self._links:
            os.pwrite(fd, pointer, at)  # in place, so that no room is wanted
        for bucket, pointer in self._firsts:
            table[bucket : bucket + POINTER_BYTES] = pointer

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
