"""Where one node ends and the next begins: integers only, keys only (FORMAT §3)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from ebooklet.core.index.limits import base_weight, target
from ebooklet.core.params import TreeParams
from ebooklet.errors import InvalidKeyError

_HASH_BITS: Final = 64
_FULL: Final = (1 << _HASH_BITS) - 1
_ABOVE_ALL: Final = b"\xff" * 9  # greater than any hash of 8 bytes


class Cutter:
    """Finds the cuts of one level, whose keys it is given in order.

    A cut depends on the keys since the last cut and on nothing else. After an item: cut iff there
    are at least two items and (S >= 4T, or S >= T/4 and h < w·2^64 // 3T, or S >= T and
    h < min(2^64 - 1, 6w·2^64 // T)). S sums the weights w = base + key bytes since the last cut;
    h is 64 bits of BLAKE2b of the key, salted by database and personal to the level.

    Args:
        level: of the nodes, 0 = leaf.
        params: of the tree.
    """

    __slots__ = ("_base", "_bounds", "_hash", "_target", "count", "weight")

    def __init__(self, level: int, params: TreeParams) -> None:
        self._base = base_weight(level)
        self._target = target(params, level)
        # A copied state hashes three times faster than one made from its parameters.
        self._hash = blake2b(
            digest_size=_HASH_BITS // 8, person=b"ebk-cut" + bytes([level]), salt=params.salt
        )
        # Hashes and their bounds stay bytes: in big-endian they order as the numbers do.
        self._bounds: dict[int, tuple[bytes, bytes]] = {}  # by the weight of the item
        self.count = 0  # items since the last cut
        self.weight = 0  # S

    def cut(self, keys: Sequence[str], uncut: int = 0) -> list[int]:
        """Take the next keys and say where nodes end.

        Args:
            keys: n keys, all above the ones before.
            uncut: how many of the first keys are known to end no node; saves hashing them.

        Returns:
            For each node that ends here, the index after its last key, 1 to n, increasing.

        Raises:
            InvalidKeyError: a key that UTF-8 cannot encode.
        """
        base, goal, state, bounds = self._base, self._target, self._hash, self._bounds
        quarter = -(-goal // 4)
        ceiling = 4 * goal
        weight = self.weight
        start = -self.count  # index at which the open node began
        ends: list[int] = []
        i = 0
        try:
            for i, key in enumerate(keys, 1):
                raw = key.encode()
                own = base + len(raw)
                weight += own
                if weight < quarter or i <= uncut or i - start < 2:
                    continue
                if weight < ceiling:
                    hasher = state.copy()
                    hasher.update(raw)
                    h = hasher.digest()
                    low, high = bounds.get(own) or self._bound(own)
                    if h >= low and (weight < goal or h >= high):
                        continue
                ends.append(i)
                start = i
                weight = 0
        except UnicodeEncodeError as exc:
            raise InvalidKeyError("a key cannot be encoded as UTF-8", op="index") from exc
        self.count = i - start
        self.weight = weight
        return ends

    def _bound(self, own: int) -> tuple[bytes, bytes]:
        """The two bounds under which h ends a node: from T/4 on, and from T on."""
        share = own << _HASH_BITS
        low = share // (3 * self._target)
        high = min(_FULL, 6 * share // self._target)
        size = _HASH_BITS // 8
        bounds = (
            low.to_bytes(size, "big") if low <= _FULL else _ABOVE_ALL,
            high.to_bytes(size, "big"),
        )
        self._bounds[own] = bounds
        return bounds
