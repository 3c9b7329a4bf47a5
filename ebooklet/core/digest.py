"""The hashes of the format: BLAKE2b with a person string each (FORMAT, terms; §3)."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from ebooklet.ports.remote_store import Body

VALUE_DIGEST_BYTES: Final = 16
NODE_DIGEST_BYTES: Final = 32


def value_digest(value: Body) -> bytes:
    """Digest of a serialised value, 16 bytes: B2(16, "ebk-val")."""
    return blake2b(value, digest_size=VALUE_DIGEST_BYTES, person=b"ebk-val").digest()


def digest32(person: bytes, data: Body) -> bytes:
    """B2(32, person) of the data."""
    return blake2b(data, digest_size=NODE_DIGEST_BYTES, person=person).digest()
