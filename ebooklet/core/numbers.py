"""Numbers that callers choose."""

from __future__ import annotations


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
