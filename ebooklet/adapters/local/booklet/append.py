"""Writing many new keys at once, a fifth of what as many calls of Booklet cost.

Booklet spends most of a `set` on finding the end of its chain with unbuffered reads, one key at a
time. Here the blocks of many keys are written in one piece, each put before the chain that its
bucket has (as Booklet's own growing of the index does), and then the index in one piece. A process
killed in between leaves what a killed Booklet leaves: blocks that no chain leads to, which the next
open finds. Keys that are in the file already are left to Booklet.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import blake2s
from itertools import pairwise
from typing import Final, TypeAlias

from ebooklet.adapters.local.booklet.handles import Handle
from ebooklet.adapters.local.booklet.layout import (
    BLOCK_HEADER,
    HASH_BYTES,
    POINTER_BYTES,
    TIMESTAMP_BYTES,
    Header,
)

Item: TypeAlias = tuple[str, bytes, int]  # key, value, timestamp in µs

WORTH_IT: Final = 64  # items; below, finding the file's end costs more than it saves
_MAX_KEY: Final = (1 << 16) - 1
_MAX_VALUE: Final = 1 << 20  # larger ones gain nothing
_MAX_TIMESTAMP: Final = (1 << 8 * TIMESTAMP_BYTES) - 1
_LAST: Final = (1).to_bytes(POINTER_BYTES, "little")
_HEAD_BYTES: Final = HASH_BYTES + POINTER_BYTES
_WHOLE_INDEX: Final = 64  # buckets an item: up to here the index is read and written in one piece
_JOINED: Final = 4096  # bytes of index that are written again rather than left out between two


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
    size = position = os.fstat(fd).st_size
    index = _Index(fd, header, whole=header.n_buckets <= _WHOLE_INDEX * len(items))
    n_buckets, number, pack = header.n_buckets, int.from_bytes, BLOCK_HEADER.pack
    heads: dict[int, bytes] = {}  # bucket -> pointer to its newest block, once it has one of ours
    hashes: set[bytes] = set()
    parts: list[bytes] = []
    left: list[Item] = []
    for item in items:
        key, value, timestamp = item
        try:
            raw = key.encode()
        except UnicodeEncodeError:
            left.append(item)
            continue
        hashed = blake2s(raw, digest_size=HASH_BYTES).digest()
        bucket = number(hashed, "little") % n_buckets
        first = index.first(bucket)
        if (
            hashed in hashes
            or len(value) > _MAX_VALUE
            or len(raw) > _MAX_KEY
            or not 0 <= timestamp <= _MAX_TIMESTAMP
            or (first and _may_hold(fd, first, hashed, size))
        ):
            left.append(item)
            continue
        hashes.add(hashed)
        following = heads.get(bucket) or (
            first.to_bytes(POINTER_BYTES, "little") if first else _LAST
        )
        stamp = timestamp.to_bytes(TIMESTAMP_BYTES, "little")
        parts += (pack(hashed, following, len(raw), len(value), stamp), raw, value)
        heads[bucket] = position.to_bytes(POINTER_BYTES, "little")
        position += BLOCK_HEADER.size + len(raw) + len(value)
    if heads:
        _write(fd, b"".join(parts), size)
        index.write(heads)
        handle.count_in(len(hashes))
    return left


class _Index:
    """The buckets' first blocks."""

    def __init__(self, fd: int, header: Header, *, whole: bool) -> None:
        self._fd = fd
        self._at = header.index_at
        self._data: bytearray | None = None
        if whole:
            self._data = bytearray(os.pread(fd, header.n_buckets * POINTER_BYTES, self._at))

    def first(self, bucket: int) -> int:
        """Position of a bucket's first block as the file has it; 0 without one."""
        at = bucket * POINTER_BYTES
        if self._data is None:
            pointer: bytes | bytearray = os.pread(self._fd, POINTER_BYTES, self._at + at)
        else:
            pointer = self._data[at : at + POINTER_BYTES]
        position = int.from_bytes(pointer, "little")
        return position if position > 1 else 0

    def write(self, heads: dict[int, bytes]) -> None:
        """Put new first blocks into the file."""
        if self._data is None:
            for bucket, pointer in heads.items():
                _write(self._fd, pointer, self._at + bucket * POINTER_BYTES)
            return
        for bucket, pointer in heads.items():
            at = bucket * POINTER_BYTES
            self._data[at : at + POINTER_BYTES] = pointer
        for start, stop in _runs(sorted(heads)):
            _write(self._fd, self._data[start:stop], self._at + start)


def _runs(buckets: list[int]) -> list[tuple[int, int]]:
    """Spans of bytes that hold these buckets' pointers, few rather than tight."""
    cuts = [
        at
        for at, (one, other) in enumerate(pairwise(buckets), 1)
        if (other - one) * POINTER_BYTES > _JOINED
    ]
    return [
        (buckets[start] * POINTER_BYTES, (buckets[stop - 1] + 1) * POINTER_BYTES)
        for start, stop in pairwise((0, *cuts, len(buckets)))
    ]


def _may_hold(fd: int, position: int, hashed: bytes, size: int) -> bool:
    """Whether a chain has a block of this hash, or is not what it should be."""
    while position != 1:
        if position == 0 or position + _HEAD_BYTES > size:
            return True
        head = os.pread(fd, _HEAD_BYTES, position)
        if head[:HASH_BYTES] == hashed:
            return True
        position = int.from_bytes(head[HASH_BYTES:], "little")
    return False


def _write(fd: int, data: bytes | bytearray, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        position += written
        view = view[written:]
