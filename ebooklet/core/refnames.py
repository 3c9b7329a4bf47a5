"""Names of branches and tags, and how a dropped one is known in the trash (decision 0037).

A row of the trash has a name and no kind. A colon, which no name may have, tells them apart: a tag
`v1` goes there as `tag:v1`, a branch under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple, TypeAlias

RefKind: TypeAlias = Literal["branch", "tag"]

MAX_REF_BYTES: Final = 100
_TAG_PREFIX: Final = "tag:"
_LISTED: Final = 10  # names in a message


class DroppedName(NamedTuple):
    """What a row of the trash stands for."""

    kind: RefKind
    name: str


def check_ref_name(name: object, kind: RefKind) -> None:
    """Refuse what cannot be the name of a branch or a tag.

    Raises:
        TypeError: it is no str.
        ValueError: it is empty, too long, or has a colon or a character that does not show.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a {kind} is a str, not {type(name).__name__}")
    fits = name.isprintable() and ":" not in name and name == name.strip()
    if not (name and fits and len(name.encode()) <= MAX_REF_BYTES):
        raise ValueError(
            f"{name[:MAX_REF_BYTES]!r} cannot be the name of a {kind}: it takes 1 to "
            f"{MAX_REF_BYTES} bytes of UTF-8, all printable, without a colon or a blank at its ends"
        )


def trash_name(kind: RefKind, name: str) -> str:
    """What a dropped branch or tag is called in the trash."""
    return _TAG_PREFIX + name if kind == "tag" else name


def dropped_name(stored: str) -> DroppedName:
    """What a row of the trash called so was."""
    if stored.startswith(_TAG_PREFIX):
        return DroppedName("tag", stored[len(_TAG_PREFIX) :])
    return DroppedName("branch", stored)


def named(names: Iterable[str], wanted: str) -> str:
    """Say which names there are: all of a few, sorted; of many those most like the wanted one."""
    known = sorted(set(names))
    more = len(known) - _LISTED
    if more <= 0:
        return ", ".join(map(repr, known)) or "none"
    close = get_close_matches(wanted[:MAX_REF_BYTES], known, n=_LISTED)
    ordered = list(dict.fromkeys((*close, *known)))
    return f"{', '.join(map(repr, ordered[:_LISTED]))} and {more} more"


def shown_name(name: object) -> str:
    """A name that somebody asks for, short enough for a message."""
    return repr(name)[:MAX_REF_BYTES]
