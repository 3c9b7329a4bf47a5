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

    __slots__ = ("_base", "_hash", "_target", "count", "weight")

    def __init__(self, level: int, params: TreeParams) -> None:
        self._base = base_weight(level)
        self._target = target(params, level)
        # A copied state hashes three times faster than one made from its parameters.
        self._hash = blake2b(
            digest_size=_HASH_BITS // 8, person=b"ebk-cut" + bytes([level]), salt=params.salt
        )
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
        base, goal, state = self._base, self._target, self._hash
        quarter = -(-goal // 4)
        ceiling = 4 * goal
        thrice = 3 * goal
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
                    h = int.from_bytes(hasher.digest(), "big")
                    share = own << _HASH_BITS
                    if h >= share // thrice and (
                        weight < goal or h >= min(_FULL, 6 * share // goal)
                    ):
                        continue
                ends.append(i)
                start = i
                weight = 0
        except UnicodeEncodeError as exc:
            raise InvalidKeyError("a key cannot be encoded as UTF-8", op="index") from exc
        self.count = i - start
        self.weight = weight
        return ends
