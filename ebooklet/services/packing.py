"""What the options of older versions say about packing, now that values are packed in one way.

EBooklet 0.11 had two storage modes, one object a key or groups of a chosen size. Here values lie in
segments, are read by ranges and are never rewritten, so that nothing is left to choose (decision
0016). Programs that chose go on running; one that insists on what there is not is told so.
"""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Final, Literal, TypeAlias

from ebooklet.core.callers import stacklevel
from ebooklet.core.numbers import check_whole

DEFAULT_GROUP_BYTES: Final = 32 * 1024 * 1024
"""Size of a group of values in EBooklet 0.11 unless one was chosen, in bytes."""

MAX_GROUP_BYTES: Final = (1 << 32) - 1


class Unset(Enum):
    """Tells an option that was left out from one that was given as None."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final = Unset.UNSET
GroupBytes: TypeAlias = int | Literal[Unset.UNSET] | None


def check_packing(group_bytes: object, push_packers: object, num_groups: object) -> None:
    """Refuse what the older versions refused, so that a slip does not go unnoticed.

    Raises:
        TypeError: not a whole number, where one is due.
        ValueError: a number out of range, or `num_groups` at all.
    """
    if group_bytes is not None and group_bytes is not UNSET:
        check_whole("group_bytes", group_bytes, largest=MAX_GROUP_BYTES)
    check_whole("push_packers", push_packers)
    if num_groups is not None:
        raise ValueError("num_groups was removed: leave it out")


def settle_group_bytes(given: GroupBytes, *, replacing: bool) -> int:
    """The size that the handle shows as its `group_bytes`; it has no effect.

    Args:
        given: None asks for one object a key, which conflicts with every database there is.
        replacing: an existing remote is to be replaced, and could not change its mode.

    Raises:
        ValueError: None, and an existing remote is to be replaced.
    """
    if given is UNSET:
        return DEFAULT_GROUP_BYTES
    if given is not None:
        return given
    if replacing:
        raise ValueError(
            "group_bytes=None asks for one object a key, and this database packs its values into "
            "segments: leave group_bytes out"
        )
    warnings.warn(
        "group_bytes=None has no effect: values are packed into segments, each read by its own "
        "range and none rewritten. Leave it out",
        UserWarning,
        stacklevel=stacklevel(),
    )
    return DEFAULT_GROUP_BYTES
