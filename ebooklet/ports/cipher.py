"""The ports of encryption: a cipher that authenticates, and a source of keys."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from ebooklet.ports.remote_store import Body

KEY_BYTES: Final = 32
"""Bytes of every key, as users give them and as ciphers take them."""


class Cipher(Protocol):
    """Authenticated encryption under keys of 32 bytes, usable from many threads at once.

    1. What `open` returns was given to `seal` under the same key and the same context, whole.
    2. Two seals of the same bytes differ: a nonce is never used twice under one key, in no thread
       and in no process forked meanwhile.
    3. A sealed text is exactly `overhead` bytes longer than what was sealed.
    4. No key, and nothing of a key, is in any `repr` or error.
    """

    @property
    def name(self) -> str:
        """How heads name it."""
        ...

    @property
    def overhead(self) -> int:
        """Bytes that sealing adds."""
        ...

    def seal(self, key: bytes, plain: Body, context: bytes) -> bytes:
        """Encrypt, and bind what comes out to `context`, which is not stored."""
        ...

    def open(self, key: bytes, sealed: Body, context: bytes) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            RemoteIntegrityError: it was changed, or belongs to another key or context.
        """
        ...


@runtime_checkable
class KeySource(Protocol):
    """Where keys come from, each known by an id, which is no secret."""

    @property
    def current(self) -> str | None:
        """The id of the key that new data are sealed under; None leaves it to the database."""
        ...

    def key(self, key_id: str) -> bytes:
        """The key of this id, 32 bytes.

        Raises:
            LookupError: there is none.
        """
        ...
