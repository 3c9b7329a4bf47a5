"""AES-256-GCM by the package `cryptography` (NIST SP 800-38D)."""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ebooklet.core.params import AES_256_GCM
from ebooklet.errors import RemoteIntegrityError
from ebooklet.ports.remote_store import Body

_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class AesGcmCipher:
    """AES-256 in Galois/Counter mode: nonce, 12 random bytes | encrypted | tag, 16 bytes.

    Random nonces are good for 2^32 texts under one key (NIST SP 800-38D §8.3). They come from the
    system each time, as bytes held back would be used again by a forked process.
    """

    name: Final = AES_256_GCM
    overhead: Final = _NONCE_BYTES + _TAG_BYTES

    def __init__(self) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}

    def __repr__(self) -> str:
        return "<AesGcmCipher>"

    def seal(self, key: bytes, plain: Body, context: bytes) -> bytes:
        """Encrypt under a fresh nonce."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(key).encrypt(nonce, plain, context)

    def open(self, key: bytes, sealed: Body, context: bytes) -> bytes:
        """Decrypt; raises `RemoteIntegrityError` for anything but what `seal` made."""
        nonce = bytes(sealed[:_NONCE_BYTES])
        try:
            return self._cipher(key).decrypt(nonce, sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise RemoteIntegrityError(
                "a sealed block was changed, moved, or sealed under another key; run fsck"
            ) from None

    def _cipher(self, key: bytes) -> AESGCM:
        # Setting a key up takes as long as sealing a kilobyte. Few keys are used in a process.
        found = self._ciphers.get(key)
        if found is None:
            found = self._ciphers[key] = AESGCM(key)
        return found
