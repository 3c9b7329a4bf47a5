"""The three-way table of one key (FORMAT §10, test 17)."""

from __future__ import annotations

from itertools import product

import pytest

from ebooklet.core.merge import ABSENT, UNKNOWN, Base, State, Verdict, Version, decide

A, A_LATER, B, B_LATER, C = (
    Version(b"a" * 16, 1),
    Version(b"a" * 16, 2),
    Version(b"b" * 16, 1),
    Version(b"b" * 16, 2),
    Version(b"c" * 16, 3),
)
STATES: list[State] = [ABSENT, A, B]
STAMPED: list[State] = [ABSENT, A, A_LATER, B, B_LATER, C]
MIRROR = {
    Verdict.APPLY: Verdict.DROP,
    Verdict.DROP: Verdict.APPLY,
    Verdict.CONFLICT: Verdict.CONFLICT,
}


def value(state: Base) -> object:
    return state.digest if isinstance(state, Version) else state


def merged(base: Base, ours: State, theirs: State) -> State | None:
    """What stands after the merge; None = conflict."""
    return {Verdict.APPLY: ours, Verdict.DROP: theirs, Verdict.CONFLICT: None}[
        decide(base, ours, theirs)
    ]


@pytest.mark.parametrize(("base", "ours", "theirs"), list(product(STATES, STATES, STATES)))
def test_the_27_cases(base: State, ours: State, theirs: State) -> None:
    """FORMAT 10.17: one changed side wins, equal sides agree, two different changes conflict.

    Fails without: comparing theirs with the base; comparing ours with the base.
    """
    if value(ours) == value(theirs):
        expected: State | None = theirs
    elif value(theirs) == value(base):
        expected = ours
    elif value(ours) == value(base):
        expected = theirs
    else:
        expected = None
    result = merged(base, ours, theirs)
    assert result == expected


@pytest.mark.parametrize(("ours", "theirs"), list(product(STAMPED, STAMPED)))
def test_an_unknown_base_never_agrees_by_accident(ours: State, theirs: State) -> None:
    """Without a base any difference in value is a conflict, and none is none."""
    verdict = decide(UNKNOWN, ours, theirs)
    assert (verdict is Verdict.CONFLICT) == (value(ours) != value(theirs))


@pytest.mark.parametrize(
    ("base", "ours", "theirs"), list(product([*STAMPED, UNKNOWN], STAMPED, STAMPED))
)
def test_the_merge_is_the_same_from_either_side(base: Base, ours: State, theirs: State) -> None:
    """FORMAT 10.17: merge(a, b) = merge(b, a), times included; exchanging sides mirrors the verdict.

    Fails without: the later time winning.
    """
    assert merged(base, ours, theirs) == merged(base, theirs, ours)
    if ours != theirs:
        assert decide(base, theirs, ours) is MIRROR[decide(base, ours, theirs)]


def test_deletion_is_a_value() -> None:
    """Delete against modify conflicts both ways; both deleted agree; deleted untouched applies."""
    assert decide(A, ABSENT, B) is Verdict.CONFLICT
    assert decide(A, B, ABSENT) is Verdict.CONFLICT
    assert decide(A, ABSENT, ABSENT) is Verdict.DROP
    assert decide(A, ABSENT, A) is Verdict.APPLY
    assert decide(A, ABSENT, A_LATER) is Verdict.APPLY


def test_a_touched_timestamp_is_written_unless_theirs_is_newer() -> None:
    """Equal values with unequal timestamps are not skipped: the one that moved wins, the later of two."""
    assert decide(A, A_LATER, A) is Verdict.APPLY
    assert decide(A, A, A_LATER) is Verdict.DROP
    assert decide(ABSENT, A_LATER, A) is Verdict.APPLY
    assert decide(ABSENT, A, A_LATER) is Verdict.DROP


def test_clear_and_refill_touches_only_what_differs() -> None:
    """Clearing and writing the same values again conflicts with nothing others did elsewhere."""
    base: dict[str, State] = {"same": A, "gone": A, "new": ABSENT, "theirs": A}
    ours: dict[str, State] = {"same": A_LATER, "gone": ABSENT, "new": B, "theirs": A_LATER}
    theirs: dict[str, State] = {"same": A, "gone": A, "new": ABSENT, "theirs": B}
    result = {key: merged(base[key], ours[key], theirs[key]) for key in base}
    assert result == {"same": A_LATER, "gone": ABSENT, "new": B, "theirs": B}
