"""The cipher's keys of a database, derived from the user's (FORMAT §3, decision 0029).

Each is derived from the user's key and the id of the database's vault, so that blocks of one
database cannot be put into another's, and copies stay readable, whatever their uuid.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from ebooklet.errors import EncryptionError
from ebooklet.ports.cipher import KEY_BYTES

CHECK_BYTES: Final = 16


class DerivedKeys:
    """The cipher's keys of one vault, derived from the user's when first asked for.

    Args:
        vault: id of the database's vault, 16 bytes.
        fetch: the user's key of an id, checked; raises `EncryptionError`.
    """

    def __init__(self, vault: bytes, fetch: Callable[[str], bytes]) -> None:
        self.vault: Final = vault
        self._fetch = fetch
        self._known: dict[str, tuple[bytes, bytes]] = {}
        self._lock = threading.Lock()

    def checked(self, checks: Mapping[str, bytes], key_id: str) -> bytes:
        """The cipher's key of this id.

        Args:
            checks: what tells the keys that the database knows from others.
            key_id: which.

        Raises:
            EncryptionError: there is no such key, or it is not the one that the database knows.
        """
        derived, check = self._pair(key_id)
        if not compare_digest(check, checks.get(key_id, check)):
            raise EncryptionError(
                f"the key given for id {key_id!r} is not the one that this database is encrypted "
                "with: give the right one; nothing was read or changed",
                op="open",
                key_id=key_id,
            )
        return derived

    def check(self, key_id: str) -> bytes:
        """What tells this key from others without saying anything of it, 16 bytes."""
        return self._pair(key_id)[1]

    def _pair(self, key_id: str) -> tuple[bytes, bytes]:
        with self._lock:
            if key_id not in self._known:
                user_key = self._fetch(key_id)
                derived = _derive(user_key, b"ebk-aead", self.vault, KEY_BYTES)
                check = _derive(user_key, b"ebk-kchk", self.vault, CHECK_BYTES)
                self._known[key_id] = derived, check
            return self._known[key_id]


def _derive(user_key: bytes, person: bytes, vault: bytes, size: int) -> bytes:
    # BLAKE2b with a key is a PRF (RFC 7693 §2.9), and user keys are random: no stretching is due.
    return blake2b(vault, key=user_key, digest_size=size, person=person).digest()
