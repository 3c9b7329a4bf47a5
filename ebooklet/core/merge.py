"""The three-way decision for one key (FORMAT §6, step 2)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias


class Version(NamedTuple):
    """What decides of one value."""

    digest: bytes  # value digest
    timestamp: int  # µs since the Unix epoch


class Special(Enum):
    """What a key can be beside a value. Both are public names of the package too.

    They are no values, and no format is to store them as one: orjson takes a member for what it is
    assigned here. Pickled they go to other processes, and stay what they are.
    """

    ABSENT = object()  # a deletion is the value "absent"
    UNKNOWN = object()  # noqa: PIE796  no two objects are equal; nobody remembers what the base said

    def __repr__(self) -> str:
        return f"ebooklet.{self.name}"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[..., object], tuple[object, ...]]:
        return getattr, (Special, self.name)


ABSENT: Final = Special.ABSENT
UNKNOWN: Final = Special.UNKNOWN
State: TypeAlias = Version | Literal[Special.ABSENT]
Base: TypeAlias = State | Literal[Special.UNKNOWN]


class Verdict(Enum):
    """What becomes of our pending change of a key."""

    APPLY = "apply"  # write ours over theirs
    DROP = "drop"  # theirs stands: it says what ours says, or ours says nothing new
    CONFLICT = "conflict"  # both sides changed the key, differently


def decide(base: Base, ours: State, theirs: State) -> Verdict:
    """Decide one key that may have changed on both sides since the base.

    Values are compared by digest, a deletion being a value like any other. Sides with equal
    values cannot conflict; when only their timestamps differ, the side that moved its own away
    from the base wins, and of two that did, the later. So exchanging the sides exchanges APPLY
    and DROP, and the merged database is the same whichever side merges.

    Args:
        base: what both sides started from, or UNKNOWN.
        ours: what we hold, ABSENT = deleted.
        theirs: what the other side holds now.

    Returns:
        APPLY, DROP or CONFLICT. With an unknown base any difference in value is a conflict,
        never agreement.
    """
    if ours == theirs:
        return Verdict.DROP
    if isinstance(ours, Version) and isinstance(theirs, Version) and _same(ours, theirs):
        if theirs == base:
            return Verdict.APPLY
        if ours == base:
            return Verdict.DROP
        return Verdict.APPLY if ours.timestamp > theirs.timestamp else Verdict.DROP
    if base is UNKNOWN:
        return Verdict.CONFLICT
    if _same(theirs, base):
        return Verdict.APPLY
    if _same(ours, base):
        return Verdict.DROP
    return Verdict.CONFLICT


def _same(a: Base, b: Base) -> bool:
    """Whether two states hold equal values, timestamps aside."""
    if isinstance(a, Version) and isinstance(b, Version):
        return a.digest == b.digest
    return a is b
