"""Values that are stored here, a batch at a time, so that little is done for each of millions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Final, NamedTuple

from ebooklet.core.sealing import Sealer
from ebooklet.ports.local_store import LocalValue

__all__ = ["ValueBatch", "ValueBatches"]

_BATCH_KEYS: Final = 1_024
_BATCH_BYTES: Final = 4 * 1024 * 1024  # of values; only the last may exceed them


class ValueBatch(NamedTuple):
    """n keys with what is stored here of each, in columns."""

    keys: list[str]
    timestamps: list[int]  # µs
    values: list[bytes]
    lengths: list[int]  # bytes of the values
    digests: list[bytes]  # of the values

    def only(self, wanted: Sequence[bool]) -> ValueBatch:
        """The keys that are wanted, with what belongs to them.

        Args:
            wanted: n.
        """
        return ValueBatch(
            list(compress(self.keys, wanted)),
            list(compress(self.timestamps, wanted)),
            list(compress(self.values, wanted)),
            list(compress(self.lengths, wanted)),
            list(compress(self.digests, wanted)),
        )


class ValueBatches:
    """What is stored here, in batches of bounded size.

    Args:
        stream: in key order.
        sealer: makes the digests.
    """

    def __init__(self, stream: Iterator[tuple[str, LocalValue]], sealer: Sealer) -> None:
        self._stream = stream
        self._sealer = sealer
        self._following = next(stream, None)

    def up_to(self, last: str) -> Iterator[ValueBatch]:
        """Yield what follows of the stream, up to a key, which is included."""
        while self._following is not None and self._following[0] <= last:
            yield self._take(last)

    def _take(self, last: str) -> ValueBatch:
        stream, following = self._stream, self._following
        keys: list[str] = []
        timestamps: list[int] = []
        values: list[bytes] = []
        size = 0
        while following is not None and following[0] <= last:
            key, (timestamp, value) = following
            keys.append(key)
            timestamps.append(timestamp)
            values.append(value)
            size += len(value)
            following = next(stream, None)
            if len(keys) >= _BATCH_KEYS or size >= _BATCH_BYTES:
                break
        self._following = following
        lengths = list(map(len, values))
        return ValueBatch(keys, timestamps, values, lengths, self._sealer.digests(values))
