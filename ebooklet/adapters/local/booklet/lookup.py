"""The quickest way to one value: the chain of its bucket, read as Booklet reads it.

Booklet seeks and reads six times for a value of a file that it may write to, and takes numbers
apart in functions of its own for one that is mapped: with one read a block, or slices of a map, the
lock around it and all that lies above cost less than what is saved.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from hashlib import blake2s
from typing import Final

from ebooklet.adapters.local.booklet.handles import Handle
from ebooklet.adapters.local.booklet.layout import (
    BLOCK_HEADER,
    DEAD,
    HASH_BYTES,
    POINTER_BYTES,
    STAMP_AT,
    TIMESTAMP_BYTES,
    Header,
)
from ebooklet.adapters.localfiles.shared import Read, ReadMany

_POINTER_END: Final = HASH_BYTES + POINTER_BYTES  # of the next block in the chain; 0 dead, 1 last
_KEY_LENGTH_END: Final = _POINTER_END + 2  # the length of the value follows, up to the timestamp
_KEY_AT: Final = STAMP_AT + TIMESTAMP_BYTES
_RESIDENT_BYTES: Final = 32 << 20  # of values that reads of many leave in this process's memory
_FORGET: Final[int | None] = getattr(mmap, "MADV_DONTNEED", None)
_AT_ONCE: Final = 2048  # bytes read of a block before its length is known


def mapped_reads(fd: int, header: Header) -> tuple[Read, ReadMany]:
    """Read values of a file to which nobody writes, one or many.

    Args:
        fd: its descriptor; may be closed afterwards.
        header: of the file, which is sound.
    """
    file = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    index_at, n_buckets = header.index_at, header.n_buckets
    number, unpack = int.from_bytes, BLOCK_HEADER.unpack_from
    last = len(file) - _KEY_AT  # where a block could begin at most
    following = header.data_at  # where the block after the last one that was found begins
    resident = 0  # bytes read since the map was emptied

    def read(key: str) -> bytes | None:
        hashed = blake2s(key.encode(), digest_size=HASH_BYTES).digest()
        at = index_at + number(hashed, "little") % n_buckets * POINTER_BYTES
        block = number(file[at : at + POINTER_BYTES], "little")
        while block > 1:
            head = file[block : block + _KEY_AT]
            following = number(head[HASH_BYTES:_POINTER_END], "little")
            if not following:
                return None
            if head[:HASH_BYTES] == hashed:
                at = block + _KEY_AT + number(head[_POINTER_END:_KEY_LENGTH_END], "little")
                return file[at : at + number(head[_KEY_LENGTH_END:STAMP_AT], "little")]
            block = following
        return None

    def find(raw: bytes) -> int:
        """Where the block of a key begins; 0 if there is none."""
        hashed = blake2s(raw, digest_size=HASH_BYTES).digest()
        at = index_at + number(hashed, "little") % n_buckets * POINTER_BYTES
        block = number(file[at : at + POINTER_BYTES], "little")
        while 1 < block <= last:
            found, pointer, *_ = unpack(file, block)
            if pointer == DEAD or found == hashed:
                return 0 if pointer == DEAD else block
            block = number(pointer, "little")
        return 0

    def read_many(keys: Sequence[str], max_bytes: int) -> list[tuple[int, bytes] | None]:
        nonlocal following, resident
        found: list[tuple[int, bytes] | None] = []
        left = max_bytes
        for key in keys:
            raw = key.encode()
            # What was written in one go often lies in the order in which it is read.
            block, entry = (following if following <= last else 0), None
            at = block + _KEY_AT
            _, pointer, key_bytes, value_bytes, stamp = unpack(file, block)
            if pointer == DEAD or not block or not raw or file[at : at + key_bytes] != raw:
                block = find(raw)
                at = block + _KEY_AT
                _, _, key_bytes, value_bytes, stamp = unpack(file, block)
            if block:
                at += key_bytes
                following = at + value_bytes
                entry = number(stamp, "little"), file[at:following]
                left -= value_bytes
            found.append(entry)
            if left <= 0:
                break
        resident += max_bytes - left
        if resident > _RESIDENT_BYTES and _FORGET is not None:
            file.madvise(_FORGET)  # what was read stays in the system's cache
            resident = 0
        return found

    return read, read_many


def direct_read(handle: Handle, header: Header) -> Read:
    """Read values of a file that is open for writing.

    Args:
        handle: of the file; stays open as long as the function is used.
        header: of the file, which is sound.
    """
    if handle.buffered is None:
        return _read_by_booklet(handle)
    fd, index_at, n_buckets = handle.fd, header.index_at, header.n_buckets
    number, pread = int.from_bytes, os.pread

    def read(key: str) -> bytes | None:
        hashed = blake2s(key.encode(), digest_size=HASH_BYTES).digest()
        if hashed in (handle.buffered or ()):
            handle.flush()
        at = index_at + number(hashed, "little") % n_buckets * POINTER_BYTES
        block = number(pread(fd, POINTER_BYTES, at), "little")
        while block > 1:
            data = pread(fd, _AT_ONCE, block)
            following = number(data[HASH_BYTES:_POINTER_END], "little")
            if not following:
                return None
            if data[:HASH_BYTES] == hashed:
                at = _KEY_AT + number(data[_POINTER_END:_KEY_LENGTH_END], "little")
                end = at + number(data[_KEY_LENGTH_END:STAMP_AT], "little")
                if end <= _AT_ONCE:
                    return data[at:end]
                return data[at:] + _rest(fd, block + max(at, len(data)), block + end)
            block = following
        return None

    return read


def _read_by_booklet(handle: Handle) -> Read:
    found = handle.file.get_timestamp  # `get` decodes what it reads

    def read(key: str) -> bytes | None:
        entry = found(key, True, False)
        return None if entry is None else entry[1]

    return read


def _rest(fd: int, at: int, end: int) -> bytes:
    parts = []
    while at < end:
        part = os.pread(fd, end - at, at)  # moves less than 2 GiB at once
        if not part:
            break  # as Booklet: what is there
        parts.append(part)
        at += len(part)
    return b"".join(parts)
