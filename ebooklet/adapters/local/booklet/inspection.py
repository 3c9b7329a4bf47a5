"""Whether a Booklet file can be trusted, and what can be saved from one that cannot.

Booklet marks an old copy dead before it links the new one, moves blocks when it prunes, and writes
the number of keys last; a process killed in between leaves chains that lead nowhere or into the
middle of values. Blocks themselves are appended whole and carry the hash of their key, so they can
be found again one by one.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Final, NamedTuple

from ebooklet.adapters.local.booklet.layout import (
    BLOCK_BYTES,
    BLOCK_HEADER,
    DEAD,
    HASH_BYTES,
    HEADER_BYTES,
    POINTER_BYTES,
    RESERVED,
    STAMP_AT,
    UNCLOSED,
    Block,
    Header,
    key_hash,
)

_NO_HASH: Final = bytes(HASH_BYTES)
_WINDOW: Final = 1 << 20
_NEAR: Final = 1 << 14
_POINTER: Final = struct.Struct("<IH")
_INDEX_PART: Final = POINTER_BYTES * (1 << 16)
_SEARCH_LIMIT: Final = 64 << 20  # bytes looked through, offset by offset, for the next block
# Bytes hashed, in all, as the key of what looked like a block and was none.
_HASH_LIMIT: Final = 256 << 20


class _Seen(NamedTuple):
    """A block whose lengths fit and whose key has its hash, or a filler that Booklet wrote."""

    end: int
    following: int  # position of the next block of the chain; 0 dead, 1 last
    block: Block


class _Window:
    """Reads small pieces of a file through one buffer, for access that mostly moves forward."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._base = 0
        self._data = b""

    def read(self, position: int, length: int) -> bytes:
        at = position - self._base
        if at < 0 or at + length > len(self._data):
            # Past a large value only the next header is wanted, not its neighbourhood.
            near = 0 <= at <= len(self._data) + _NEAR
            self._data = os.pread(self._fd, max(length, _WINDOW if near else _NEAR), position)
            self._base, at = position, 0
        return self._data[at : at + length]

    def peek(self, position: int, length: int) -> bytes:
        """Read without moving the buffer away from where the scan is."""
        at = position - self._base
        if at < 0 or at + length > len(self._data):
            return os.pread(self._fd, length, position)
        return self._data[at : at + length]


def _block_at(window: _Window, position: int, end: int, *, isolated: bool = False) -> _Seen | None:
    """The block at a position, if one that fits before `end` is there."""
    if position + BLOCK_BYTES > end:
        return None
    read = window.peek if isolated else window.read
    head = read(position, BLOCK_BYTES)
    if len(head) < BLOCK_BYTES:
        return None
    hashed, following, key_bytes, value_bytes, stamp = BLOCK_HEADER.unpack(head)
    stop = position + BLOCK_BYTES + key_bytes + value_bytes
    if stop > end:
        return None
    if following == DEAD and hashed == _NO_HASH:
        key = b""
    else:
        key = read(position + BLOCK_BYTES, key_bytes) if key_bytes else b""
        if key_hash(key) != hashed:
            return None
    block = (key, int.from_bytes(stamp, "little"), position + STAMP_AT, value_bytes)
    return _Seen(stop, int.from_bytes(following, "little"), block)


def _index(fd: int, header: Header) -> Iterator[int]:
    """Positions of the first blocks of all chains."""
    position = header.index_at
    while position < header.index_end:
        part = os.pread(fd, min(_INDEX_PART, header.index_end - position), position)
        if not part or len(part) % POINTER_BYTES:
            return
        for low, high in _POINTER.iter_unpack(part):
            if low > 1 or high:
                yield low | high << 32
        position += len(part)


def is_sound(fd: int, header: Header, size: int) -> bool:
    """Whether blocks, chains and count of a Booklet agree, so that Booklet may be trusted with it.

    Every byte belongs to a block, dead or with a key that has its hash; each live block is pointed at exactly
    once, and nothing else is (compared by count, sum and sum of squares, in constant memory); the
    number of keys in the header is the number of live blocks. Values are not looked at: Booklet
    keeps no checksum of them.

    Args:
        fd: descriptor of the file.
        header: its header.
        size: its size, in bytes.
    """
    if header.n_keys == UNCLOSED:
        return False
    return sound_keys(fd, header, size) == header.n_keys


def sound_keys(fd: int, header: Header, size: int) -> int | None:
    """How many keys a Booklet has whose blocks and chains agree, whatever its header says; else None."""
    if not header.is_plausible(size):
        return None
    links = link_sum = link_squares = 0
    live = 0
    for pointer in _index(fd, header):
        links += 1
        link_sum += pointer
        link_squares += pointer * pointer
    unpack = BLOCK_HEADER.unpack_from
    number = int.from_bytes
    for start, end in header.regions(size):
        position = base = start
        buffer = b""
        filled = 0
        chunk = _WINDOW
        while position < end:
            at = position - base
            if at + BLOCK_BYTES > filled:
                buffer = os.pread(fd, chunk, position)
                base, at, filled = position, 0, len(buffer)
                if filled < BLOCK_BYTES:
                    return None
            hashed, following, key_bytes, value_bytes, _ = unpack(buffer, at)
            if following != DEAD:
                if at + BLOCK_BYTES + key_bytes > filled:
                    buffer = os.pread(fd, BLOCK_BYTES + key_bytes + _NEAR, position)
                    base, at, filled = position, 0, len(buffer)
                key = buffer[at + BLOCK_BYTES : at + BLOCK_BYTES + key_bytes]
                if blake2s(key, digest_size=HASH_BYTES).digest() != hashed:
                    return None
                target = number(following, "little")
                links -= 1
                link_sum -= position
                link_squares -= position * position
                if target > 1:
                    links += 1
                    link_sum += target
                    link_squares += target * target
                live += key not in RESERVED
            position += BLOCK_BYTES + key_bytes + value_bytes
            chunk = _NEAR if value_bytes > _NEAR else _WINDOW
        if position > end:
            return None
    return live if links == link_sum == link_squares == 0 else None


def dead_blocks(fd: int, header: Header) -> Iterator[int]:
    """Positions of the dead blocks of a sound file, fillers among them."""
    window = _Window(fd)
    for start, end in header.regions(os.fstat(fd).st_size):
        position = start
        while position < end:
            _, following, key_bytes, value_bytes, _ = BLOCK_HEADER.unpack(
                window.read(position, BLOCK_BYTES)
            )
            if following == DEAD:
                yield position
            position += BLOCK_BYTES + key_bytes + value_bytes


@dataclass(slots=True)
class Salvage:
    """Finds the whole live blocks of a damaged Booklet, in file order.

    Of two live blocks of one key the later one counts. After damage the search goes on at the
    next block that a chain of an undamaged part leads to; only where none does is the file looked
    through byte by byte, since a value may contain what looks like a block.

    After a power cut `size` is what was flushed, and `dead` what was dead by then: blocks before that
    are whole, and one that is marked dead may have been killed for another that never came.
    """

    fd: int
    header: Header
    size: int
    dead: frozenset[int] | None = None  # positions of dead blocks, whatever they themselves say
    skipped: int = field(default=0, init=False)  # bytes in which no block was found
    _forward: array[int] = field(default_factory=lambda: array("Q"), init=False)
    _known: tuple[int, list[int]] | None = field(default=None, init=False)
    _hashed: int = field(default=0, init=False)

    def blocks(self) -> Iterator[Block]:
        """Stream the blocks; reserved keys are among them."""
        self.skipped = self._hashed = 0
        self._forward = array("Q")
        if self.header.is_plausible(self.size):
            regions = self.header.regions(self.size)
        else:
            regions = ((HEADER_BYTES, self.size),)
        for start, end in regions:
            yield from self._region(start, min(end, self.size))

    def _region(self, start: int, end: int) -> Iterator[Block]:
        window = _Window(self.fd)
        position = start
        held: Block | None = None  # the last live block, until what follows it is known
        held_at = start
        while position < end:
            seen = _block_at(window, position, end)
            if seen is None:
                after = self._resume(window, held_at if held else position, position, end)
                if held is not None and after < position:
                    held = None  # a torn block: others were appended where its value should be
                self.skipped += max(0, after - position)
                position = after
                continue
            if held is not None:
                yield held
                held = None
            alive = seen.following if self.dead is None else position not in self.dead
            if alive:
                held, held_at = seen.block, position
                if seen.following > position:
                    self._forward.append(seen.following)
            position = seen.end
        if held is not None:
            yield held

    def _resume(self, window: _Window, held_at: int, position: int, end: int) -> int:
        """Where to go on after what lies at `position`, which is no whole block."""
        targets = self._targets()
        at = bisect_right(targets, held_at)
        while at < len(targets) and targets[at] < position:
            if _block_at(window, targets[at], end, isolated=True):
                return targets[at]
            at += 1
        head = window.peek(position, BLOCK_BYTES)
        torn = False
        if len(head) == BLOCK_BYTES:
            hashed, _, key_bytes, value_bytes, _ = BLOCK_HEADER.unpack(head)
            stop: int = position + BLOCK_BYTES + key_bytes + value_bytes
            if stop == end or (stop < end and _block_at(window, stop, end, isolated=True)):
                return stop  # only its key or hash is damaged
            key = window.peek(position + BLOCK_BYTES, key_bytes) if key_bytes else b""
            torn = stop > end and len(key) == key_bytes and key_hash(key) == hashed
        while at < len(targets) and targets[at] < end:
            if targets[at] > position and _block_at(window, targets[at], end, isolated=True):
                return targets[at]
            at += 1
        return end if torn else self._search(position + 1, end)

    def _targets(self) -> list[int]:
        if self._known is None or self._known[0] != len(self._forward):
            pointers = set(self._forward)
            if self.header.is_plausible(self.size):
                pointers.update(_index(self.fd, self.header))
            self._known = (len(self._forward), sorted(pointers))
        return self._known[1]

    def _search(self, start: int, end: int) -> int:
        """The next offset at which a block lies, or `end`."""
        window = _Window(self.fd)
        # A pointer into this file leaves its high bytes zero, which rules out most offsets fast.
        zeros = bytes(POINTER_BYTES - (self.size.bit_length() + 7) // 8)
        tail_at = STAMP_AT - POINTER_BYTES - len(zeros)  # of the zeros, in a block
        last = min(end, start + _SEARCH_LIMIT)
        base = start
        while base < last:
            part = os.pread(self.fd, min(_WINDOW, end - base), base)
            found = part.find(zeros, tail_at)
            while found >= 0:
                candidate = found - tail_at
                if self._may_start(part, candidate):
                    if _block_at(window, base + candidate, end, isolated=True):
                        return base + candidate
                    self._hashed += BLOCK_HEADER.unpack_from(part, candidate)[2]
                    if self._hashed > _HASH_LIMIT:
                        return end
                found = part.find(zeros, found + 1)
            if len(part) < _WINDOW:
                break
            base += len(part) - BLOCK_BYTES
        return end

    def _may_start(self, part: bytes, at: int) -> bool:
        head = part[at : at + BLOCK_BYTES]
        if len(head) < BLOCK_BYTES or head[:HASH_BYTES] == _NO_HASH:
            return False
        return int.from_bytes(head[HASH_BYTES : HASH_BYTES + POINTER_BYTES], "little") < self.size
