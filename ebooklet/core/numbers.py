"""Numbers that callers choose."""

from __future__ import annotations

from datetime import timedelta
from numbers import Real
from typing import Final

_LONGEST_AGE_S: Final = 100 * 365 * 24 * 3600.0


def check_whole(name: str, number: object, *, largest: int | None = None) -> None:
    """Refuse anything but a whole number from 1 to `largest`.

    Raises:
        TypeError, ValueError: naming the option `name`.
    """
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} must be a whole number, not {type(number).__name__}")
    if number < 1 or (largest is not None and number > largest):
        upto = "1 or more" if largest is None else f"between 1 and {largest}"
        raise ValueError(f"{name} must be {upto}, not {number}")


def check_seconds(name: str, seconds: object) -> None:
    """Refuse anything but a number of seconds, 0 or more; infinity is one.

    Raises:
        TypeError, ValueError: naming the option `name`.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not float(seconds) >= 0:
        raise ValueError(f"{name} is in seconds, 0 or more, not {seconds!r}")


def age_ms(name: str, age: timedelta | float) -> int:
    """An age that a caller gives as a timedelta or in seconds, in ms; 100 years at the most.

    Raises:
        TypeError, ValueError: naming the option `name`.
    """
    seconds = age.total_seconds() if isinstance(age, timedelta) else age
    check_seconds(name, seconds)
    return round(min(seconds, _LONGEST_AGE_S) * 1000)
