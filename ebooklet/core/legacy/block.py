"""A value in a local file of 0.11, not read yet."""

from __future__ import annotations

from typing import NamedTuple


class StoredBlock(NamedTuple):
    """Where a value of a local file lies."""

    key: bytes
    timestamp: int  # µs since the Unix epoch
    at: int  # byte position of the value
    length: int  # of the value, bytes
