"""What a misspelt name was meant to be."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["meant"]


def meant(misspelt: object, names: Collection[str]) -> str:
    """The end of a message that refuses a name: the nearest one there is, and all of them."""
    known = sorted(names)
    close = get_close_matches(str(misspelt), known, n=1)
    lead = f"did you mean {close[0]!r}? There are" if close else "there are"
    return f"{lead} {', '.join(known)}"
