"""What is sealed before it leaves for the bucket, and what a sealed block looks like (FORMAT §3).

A sealed block: version u8 = 1 | tag of the key id, 4 bytes | pieces. A piece is what the cipher
makes of 64 MiB of the plain bytes, the last of what is left; there is always one. The context that
the cipher binds it to: `ebk-seal` | content u8 | number of the piece u32 | whether it is the last
u8 | what the caller adds. So no block passes for one that holds something else, and no piece is
moved or left out.

The cipher's key is derived, see `core.derivedkeys`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Final, Protocol

from ebooklet.core.digest import VALUE_DIGEST_BYTES, value_digest, value_digests, value_hasher
from ebooklet.core.headtypes import Head
from ebooklet.errors import RemoteIntegrityError
from ebooklet.ports.cipher import Cipher
from ebooklet.ports.remote_store import Body

PIECE_BYTES: Final = 64 * 1024 * 1024
TAG_BYTES: Final = 4
_VERSION: Final = 1
_HEADER: Final = struct.Struct(f">B{TAG_BYTES}s")
_CONTEXT: Final = struct.Struct(">8sBIB")
MAX_OVERHEAD: Final = 64
"""Most bytes that sealing adds to a block of one piece."""


class Content(IntEnum):
    """What a sealed block holds."""

    VALUE = 1
    NODE = 2
    METADATA = 3  # the user's
    NOTES = 4  # of a commit: author and message
    DIGEST_KEY = 5
    DICTIONARY = 6  # that values were compressed with


class Hasher(Protocol):
    """Makes a digest of bytes that come in pieces."""

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes."""
        ...

    def digest(self) -> bytes:
        """The digest of all of them."""
        ...


class Sealer(Protocol):
    """How the blocks of one database are stored, and how its values are told apart."""

    @property
    def seals(self) -> bool:
        """Whether anything is encrypted."""
        ...

    @property
    def current(self) -> str | None:
        """Id of the key that new blocks are sealed under; None where nothing is encrypted."""
        ...

    def digest(self, value: Body, /) -> bytes:
        """Digest of a serialised value, 16 bytes."""
        ...

    def digests(self, values: Sequence[Body], /) -> list[bytes]:
        """Digests of many serialised values."""
        ...

    def stored_hasher(self) -> Hasher:
        """Makes the digest of a value out of its stored bytes."""
        ...

    def stored_length(self, length: int, /) -> int:
        """Bytes that a value of this length is stored as."""
        ...

    def seal(self, content: Content, plain: Body, /, extra: bytes = b"") -> Body:
        """What is stored of a block."""
        ...

    def open(self, content: Content, stored: Body, /, extra: bytes = b"") -> Body:
        """The block that was stored.

        Raises:
            RemoteIntegrityError: it is not what was stored, or not at this place.
            EncryptionError: the key that it needs is not to be had.
        """
        ...


class DatabaseSealer(Sealer, Protocol):
    """The sealer of one database, which also sees to what its heads say of keys."""

    def protect(self, head: Head, /) -> Head:
        """The head as it is to be written: with what it says of keys, if anything is sealed.

        Raises:
            EncryptionError: it would name more keys than a head can.
        """
        ...


class _Plain:
    """Nothing is sealed, and whoever reads the bucket reads the database."""

    seals: Final = False
    current: Final = None
    digest = staticmethod(value_digest)
    digests = staticmethod(value_digests)

    def stored_hasher(self) -> Hasher:
        return value_hasher()

    def stored_length(self, length: int, /) -> int:
        return length

    def seal(self, content: Content, plain: Body, /, extra: bytes = b"") -> Body:
        return plain

    def open(self, content: Content, stored: Body, /, extra: bytes = b"") -> Body:
        return stored

    def protect(self, head: Head, /) -> Head:
        return head


PLAIN: Final[DatabaseSealer] = _Plain()
"""The sealer of databases that are not encrypted."""


class KeyedSealer:
    """Seals under the current key, and opens what lies under it or under others before it.

    Args:
        cipher: does the work.
        current: id of the key that new blocks are sealed under.
        names: the ids of all keys that blocks may lie under, by their tags.
        derived: the cipher's key of an id; raises `EncryptionError`.
        digest_key: that digests of values are made with, 32 bytes.
        piece_bytes: of plain bytes; part of the format, and another one only in tests.
    """

    seals: Final = True

    def __init__(
        self,
        cipher: Cipher,
        current: str,
        names: Mapping[bytes, str],
        derived: Callable[[str], bytes],
        digest_key: bytes,
        *,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self.current: Final = current
        self.digest_key: Final = digest_key
        self._cipher = cipher
        self._names = {**names, key_tag(current): current}
        self._derived = derived
        self._piece = piece_bytes
        self._header = _HEADER.pack(_VERSION, key_tag(current))
        self._key = derived(current)
        self._keys = {key_tag(current): self._key}
        self._state = blake2b(key=digest_key, digest_size=VALUE_DIGEST_BYTES, person=b"ebk-val")

    def __repr__(self) -> str:
        return f"<KeyedSealer, current key {self.current!r}>"

    def digest(self, value: Body, /) -> bytes:
        """Digest of a serialised value, keyed: nobody without the key can try out values."""
        state = self._state.copy()
        state.update(value)
        return state.digest()

    def digests(self, values: Sequence[Body], /) -> list[bytes]:
        """Digests of many serialised values."""
        return list(map(self.digest, values))

    def stored_hasher(self) -> Hasher:
        """Makes the digest of a value out of its sealed bytes, which it has to hold."""
        return _Opened(self)

    def stored_length(self, length: int, /) -> int:
        """Bytes of the sealed block."""
        pieces = max(1, -(-length // self._piece))
        return _HEADER.size + length + pieces * self._cipher.overhead

    def seal(self, content: Content, plain: Body, /, extra: bytes = b"") -> Body:
        """Encrypt a block under the current key."""
        length, piece = len(plain), self._piece
        if length <= piece:
            context = _CONTEXT.pack(b"ebk-seal", content, 0, 1) + extra
            return self._header + self._cipher.seal(self._key, plain, context)
        out = bytearray(self._header)
        with memoryview(plain) as view:
            for number, at in enumerate(range(0, length, piece)):
                context = _CONTEXT.pack(b"ebk-seal", content, number, at + piece >= length) + extra
                out += self._cipher.seal(self._key, view[at : at + piece], context)
        return out

    def open(self, content: Content, stored: Body, /, extra: bytes = b"") -> bytes:
        """Decrypt a block under whichever key it names."""
        piece = self._piece + self._cipher.overhead
        if len(stored) < _HEADER.size + self._cipher.overhead or stored[0] != _VERSION:
            raise RemoteIntegrityError("a sealed block does not begin as one does; run fsck")
        key = self._key_of(bytes(stored[1 : _HEADER.size]))
        body = memoryview(stored)[_HEADER.size :]
        if len(body) <= piece:
            context = _CONTEXT.pack(b"ebk-seal", content, 0, 1) + extra
            return self._cipher.open(key, body, context)
        out = bytearray()
        for number, at in enumerate(range(0, len(body), piece)):
            context = _CONTEXT.pack(b"ebk-seal", content, number, at + piece >= len(body)) + extra
            out += self._cipher.open(key, body[at : at + piece], context)
        return bytes(out)

    def _key_of(self, tag: bytes) -> bytes:
        key = self._keys.get(tag)
        if key is None:
            name = self._names.get(tag)
            if name is None:
                raise RemoteIntegrityError(
                    "a block is sealed under a key that the head does not name; run fsck"
                )
            key = self._keys[tag] = self._derived(name)
        return key


class _Opened:
    """The digest of a value, from its sealed bytes."""

    def __init__(self, sealer: KeyedSealer) -> None:
        self._sealer = sealer
        self._stored = bytearray()

    def update(self, data: memoryview, /) -> None:
        self._stored += data

    def digest(self) -> bytes:
        try:
            return self._sealer.digest(self._sealer.open(Content.VALUE, self._stored))
        except RemoteIntegrityError:
            return b""  # as no value's


def key_tag(key_id: str) -> bytes:
    """What stands for a key id in a block, 4 bytes."""
    return blake2b(key_id.encode(), digest_size=TAG_BYTES, person=b"ebk-kid").digest()
