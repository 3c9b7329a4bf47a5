"""The parameters that shape a database's tree, fixed at its creation (FORMAT §2, §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AES_256_GCM: Final = "aes-256-gcm"
"""What a database that is encrypted says in its parameters."""


@dataclass(frozen=True, slots=True)
class TreeParams:
    """What shapes the tree: equal parameters and equal content give equal digests."""

    leaf_target: int = 6 * 1024  # bytes of weight, T of the cut rule
    inner_target: int = 20 * 1024  # bytes of weight
    inline_max: int = 64  # bytes; values up to this size sit in the leaf
    value_digest_bytes: int = 16
    salt: bytes = b""  # up to 16 bytes, keeps strangers from choosing keys that cut badly
    codec: str = "zstd"  # of node columns
    encryption: str | None = None  # the cipher's name, where blocks are sealed
