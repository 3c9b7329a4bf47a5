"""Parts that somebody built and passed: each of the kind that its place takes."""

from __future__ import annotations

from types import NoneType

__all__ = ["check_built"]


def check_built(remedy: str, /, **parts: tuple[object, tuple[type, ...]]) -> None:
    """Refuse what is no such part before anything is opened or locked.

    Args:
        remedy: the end of the message.
        parts: name of the place, to what was passed and the kinds that it takes.

    Raises:
        TypeError: naming the place.
    """
    for name, (given, kinds) in parts.items():
        if not isinstance(given, kinds):
            wanted = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            raise TypeError(
                f"{name} must be a built {wanted}, not {type(given).__name__}: {remedy}"
            )
