"""Timestamps: integer µs since the Unix epoch, UTC (CONTRACT §5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

__all__ = ["MAX_TIMESTAMP", "Timestamp", "to_datetime", "to_microseconds"]

Timestamp: TypeAlias = int | str | datetime | None
"""What a user may give: µs, an ISO 8601 text with a zone, an aware datetime, or nothing."""

MAX_TIMESTAMP: Final = (1 << 56) - 1  # Booklet stores 7 bytes
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_microseconds(timestamp: Timestamp, now: int) -> int:
    """Turn what a user gives into µs.

    Args:
        timestamp: µs, an ISO 8601 string with a zone, an aware datetime, or None for `now`.
        now: µs.

    Raises:
        TypeError: another type.
        ValueError: naive, not ISO 8601, or outside 0 to 2**56 - 1 µs.
    """
    if timestamp is None:
        return now
    if isinstance(timestamp, bool):
        raise TypeError("a timestamp is an int, str or datetime, not a bool")
    if isinstance(timestamp, int):
        microseconds = int(timestamp)
    else:
        if isinstance(timestamp, str):
            timestamp = _parse(timestamp)
        elif not isinstance(timestamp, datetime):
            raise TypeError(
                f"a timestamp is an int, str or datetime, not {type(timestamp).__name__}"
            )
        if timestamp.utcoffset() is None:
            raise ValueError("the timestamp has no time zone; give one, for example '+00:00'")
        microseconds = (timestamp - _EPOCH) // _MICROSECOND
    if not 0 <= microseconds <= MAX_TIMESTAMP:
        raise ValueError("the timestamp is outside 0 to 2**56 - 1 µs since 1970")
    return microseconds


def _parse(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not an ISO 8601 timestamp: {text[:40]!r}") from None


def to_datetime(microseconds: int) -> datetime:
    """The aware UTC datetime of µs since the epoch, exact to the µs."""
    return _EPOCH + timedelta(microseconds=microseconds)
