"""Figures as people read them."""

from __future__ import annotations


def size(n_bytes: float) -> str:
    """Bytes, with three digits that count."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if n_bytes >= power:
            return f"{_three(n_bytes / power)} {unit}"
    return f"{n_bytes:.0f} B"


def span(seconds: float) -> str:
    """A time."""
    if seconds >= 1:
        return f"{_three(seconds)} s"
    if seconds >= 0.01:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds * 1e3:.2g} ms"


def _three(figure: float) -> str:
    return (
        f"{figure:.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"
    )
