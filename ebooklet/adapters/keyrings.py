"""What encrypted databases are opened with, of what a caller gave."""

from __future__ import annotations

from ebooklet.core.encryption import EncryptionLike, key_source
from ebooklet.core.keyring import Keyring
from ebooklet.errors import UnsupportedOperation


def keyring_of(encryption: EncryptionLike | Keyring | None) -> Keyring:
    """The cipher there is, with the caller's keys; without keys, what opens plain databases.

    A keyring is taken as it is.

    Raises:
        TypeError: it is no source of keys.
        UnsupportedOperation: the package that encrypts is not installed.
    """
    if encryption is None:
        return Keyring()
    if isinstance(encryption, Keyring):
        return encryption
    keys = key_source(encryption)
    try:
        from ebooklet.adapters.encryption.aesgcm import AesGcmCipher
    except ImportError as exc:
        raise UnsupportedOperation(
            "encryption needs the package cryptography: pip install 'ebooklet[crypto]'", op="open"
        ) from exc
    return Keyring(AesGcmCipher(), keys)
