"""The quickest way to one value: the chain of its bucket, read as Booklet reads it.

Booklet seeks and reads six times for a value of a file that it may write to, and takes numbers
apart in functions of its own for one that is mapped: with one read a block, or slices of a map, the
lock around it and all that lies above cost less than what is saved.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2s
from typing import Final

from ebooklet.adapters.local.booklet.handles import Handle
from ebooklet.adapters.local.booklet.layout import (
    HASH_BYTES,
    POINTER_BYTES,
    STAMP_AT,
    TIMESTAMP_BYTES,
    Header,
)
from ebooklet.adapters.localfiles.shared import Read

_POINTER_END: Final = HASH_BYTES + POINTER_BYTES  # of the next block in the chain; 0 dead, 1 last
_KEY_LENGTH_END: Final = _POINTER_END + 2  # the length of the value follows, up to the timestamp
_KEY_AT: Final = STAMP_AT + TIMESTAMP_BYTES
_AT_ONCE: Final = 2048  # bytes read of a block before its length is known


def mapped_read(fd: int, header: Header) -> Read:
    """Read values of a file to which nobody writes.

    Args:
        fd: its descriptor; may be closed afterwards.
        header: of the file, which is sound.
    """
    file = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    index_at, n_buckets = header.index_at, header.n_buckets
    number = int.from_bytes

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

    return read


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
