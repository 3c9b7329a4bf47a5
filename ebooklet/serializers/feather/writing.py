"""How data frames are written: as Booklet does, and so that the limits of reading are kept."""

from __future__ import annotations

import io
from typing import Final

import pandas as pd

from ebooklet.core.serialization import MAX_INFLATION, inflated_limit
from ebooklet.serializers.feather.checks import needed_bytes
from ebooklet.serializers.feather.claims import footer_start
from ebooklet.serializers.feather.labels import check_labels

__all__ = ["feather"]

_LEVEL: Final = 1  # Booklet's
_ALIGNMENT: Final = 8  # bytes


def feather(frame: pd.DataFrame) -> bytes:
    """Write Feather with zstd at level 1 inside.

    Raises:
        ValueError, TypeError, …: a column is of a type that Feather, or we, do not take, or labels
            would be changed.
    """
    check_labels(frame)
    sink = io.BytesIO()
    frame.to_feather(sink, compression="zstd", compression_level=_LEVEL)
    data = sink.getvalue()
    needed = needed_bytes(data)
    if needed > inflated_limit(len(data)):
        return _padded(data, needed // MAX_INFLATION + 1)
    return data


def _padded(data: bytes, size: int) -> bytes:
    """The same file, at least `size` bytes long, with a gap that every reader skips.

    What compresses too well is stored long enough to be read back within the limit that protects
    readers from hostile files.
    """
    at = footer_start(data)
    gap = -(-(size - len(data)) // _ALIGNMENT) * _ALIGNMENT
    return b"".join((data[:at], bytes(gap), data[at:]))
