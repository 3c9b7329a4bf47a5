"""Minting segment ids whose times never fall behind what gc already passed (FORMAT §1)."""

from __future__ import annotations

from ebooklet.core.names import MAX_MS, mint_sid
from ebooklet.errors import RemoteIntegrityError

__all__ = ["SidMinter"]


class SidMinter:
    """Mints ids with ms = max(now, gc floor + 1, last minted).

    A clock that is years off can neither mint an id that a running gc takes for garbage, nor go
    back between two ids of one writer.

    Args:
        floor_ms: gc floor of the head that the write builds on, Unix ms.
        last_ms: the newest time this writer minted before, Unix ms.
    """

    def __init__(self, floor_ms: int = 0, last_ms: int = 0) -> None:
        self.floor_ms = floor_ms
        self._last_ms = last_ms

    @property
    def last_ms(self) -> int:
        """The newest time minted, Unix ms."""
        return self._last_ms

    def mint(self, now_ms: int, randomness: bytes) -> bytes:
        """Make an id.

        Args:
            now_ms: Unix ms by the store's clock where it is known (`server_time_ms`), else local.
            randomness: 10 bytes.

        Returns:
            16 bytes.

        Raises:
            RemoteIntegrityError: the floor is at the end of time, in a damaged or hostile head.
        """
        ms = max(min(now_ms, MAX_MS), self.floor_ms + 1, self._last_ms)
        if ms > MAX_MS:
            raise RemoteIntegrityError(
                "the gc floor of the head leaves no time to mint segment ids in; run fsck"
            )
        self._last_ms = ms
        return mint_sid(ms, randomness)
