"""The Unicode Character Database of the standard library, as keys and values."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from typing import TypeAlias

Properties: TypeAlias = dict[str, str | int | float | bool | list[str] | None]

# Unassigned, surrogate and private-use code points are no assigned characters (Unicode §2.4).
_NO_CHARACTER = frozenset({"Cn", "Cs", "Co"})

VERSION = unicodedata.unidata_version


def characters() -> Iterator[str]:
    """Yield every assigned character, in the order of the code points."""
    for code_point in range(sys.maxunicode + 1):
        character = chr(code_point)
        if unicodedata.category(character) not in _NO_CHARACTER:
            yield character


def key_of(character: str) -> str:
    """The usual notation of a code point: `U+0041`."""
    return f"U+{ord(character):04X}"


def properties(character: str) -> Properties:
    """What the database says of a character; None where it says nothing.

    Control characters have no name. Case mappings are the full ones, so they may be longer than
    one character. `parts` are the code points of the full canonical decomposition.
    """
    return {
        "name": unicodedata.name(character, None),
        "category": unicodedata.category(character),
        "bidirectional": unicodedata.bidirectional(character),
        "combining": unicodedata.combining(character),
        "east_asian_width": unicodedata.east_asian_width(character),
        "mirrored": bool(unicodedata.mirrored(character)),
        "decomposition": unicodedata.decomposition(character),
        "parts": [key_of(part) for part in unicodedata.normalize("NFD", character)],
        "decimal": unicodedata.decimal(character, None),
        "digit": unicodedata.digit(character, None),
        "numeric": unicodedata.numeric(character, None),
        "upper": character.upper(),
        "lower": character.lower(),
        "title": character.title(),
        "folded": character.casefold(),
    }
