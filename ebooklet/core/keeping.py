"""How much of a branch is kept: what users say of it, and which commits that retains."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

from ebooklet.core.head import Branch

__all__ = ["History", "Keep", "keep_of", "oldest_retained"]

History: TypeAlias = int | timedelta | Literal["all"]
"""How much is kept: a number of commits, an age, or everything."""

_EVERYTHING: Final = (1 << 63) - 1
_MS: Final = timedelta(milliseconds=1)


class Keep(NamedTuple):
    """How much of a branch is retained: what either rule retains."""

    n: int  # at least so many commits, the newest included ...
    ms: int  # ... and all that are younger, in ms


def keep_of(history: object) -> Keep:
    """Read what a user says of how much is to be kept.

    >>> keep_of(5), keep_of(0), keep_of(timedelta(days=1))
    (Keep(n=5, ms=0), Keep(n=1, ms=0), Keep(n=1, ms=86400000))

    Raises:
        ValueError: none of the three.
    """
    if history == "all":
        return Keep(_EVERYTHING, _EVERYTHING)
    if isinstance(history, timedelta) and history >= timedelta(0):
        return Keep(1, history // _MS)
    if isinstance(history, int) and not isinstance(history, bool) and 0 <= history <= _EVERYTHING:
        return Keep(max(1, history), 0)
    raise ValueError(
        "history must be a number of commits, 0 or more, an age as a timedelta, or 'all', not "
        f"{history!r}"
    )


def oldest_retained(branch: Branch, line: Iterable[tuple[int, int]], now_ms: int) -> int:
    """The seq down to which a branch is to be retained from now on; it never falls.

    Clocks of writers differ: a commit that claims to be young keeps those after it, however old
    they claim to be, as the other error could not be undone.

    Args:
        branch: as the head has it.
        line: seq and Unix ms of its retained commits, newest first.
        now_ms: Unix ms.
    """
    oldest = branch.commit.seq
    for number, (seq, ms) in enumerate(line):
        if number < branch.keep_n or (branch.keep_ms and ms >= now_ms - branch.keep_ms):
            oldest = min(oldest, seq)
    return max(branch.oldest_seq, oldest)
