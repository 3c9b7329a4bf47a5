"""Values that attempts of one write have laid down, for those that follow after a lost race."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from ebooklet.core.digest import VALUE_DIGEST_BYTES
from ebooklet.core.entry import Entry, Place


class PlacedValues:
    """Kept in columns, some fifty bytes a key beside the key itself: a push may lay down millions.

    Example:
        >>> placed = PlacedValues()
        >>> placed.add(["k"], [100], [bytes(16)], [Place(bytes(16), 64, 100)])
        >>> placed.entries()["k"].place.offset
        64
    """

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._lengths = array("Q")
        self._digests = bytearray()
        self._sids: list[bytes] = []
        self._offsets = array("Q")
        self._stored = array("Q")

    def add(
        self,
        keys: Sequence[str],
        lengths: Sequence[int],
        digests: Sequence[bytes],
        places: Sequence[Place],
    ) -> None:
        """Take in n values; of two of one key the later counts.

        Args:
            keys: n.
            lengths: n, bytes of the serialised values.
            digests: n, of the values.
            places: n.
        """
        self._keys += keys
        self._lengths.extend(lengths)
        self._digests += b"".join(digests)
        self._sids += [place[0] for place in places]
        self._offsets.extend([place[1] for place in places])
        self._stored.extend([place[2] for place in places])

    def entries(self) -> dict[str, Entry]:
        """All of them by key; the timestamps are 0, as a value may be written again at another time."""
        size = VALUE_DIGEST_BYTES
        return {
            key: Entry(
                key,
                self._lengths[i],
                bytes(self._digests[i * size : (i + 1) * size]),
                0,
                None,
                Place(self._sids[i], self._offsets[i], self._stored[i]),
            )
            for i, key in enumerate(self._keys)
        }
