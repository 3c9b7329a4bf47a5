"""What callers may say of keys that changed on both sides: a policy by name, or a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

ConflictFunction: TypeAlias = Callable[[str, Any, Any, Any], Any]
"""From key, base, ours and theirs to what the key is to be, all of them values of the database.

`ebooklet.ABSENT` stands for no value, given and returned: a deletion is a value like any other.
`base`, what both sides started from, is `ebooklet.UNKNOWN` where nobody remembers it any more.
"""

PolicyName: TypeAlias = Literal["error", "ours", "theirs"]
ConflictPolicy: TypeAlias = PolicyName | ConflictFunction

_NAMES: Final[tuple[PolicyName, ...]] = get_args(PolicyName)


def check_policy(policy: object) -> None:
    """Raise `ValueError` for anything but a conflict policy: a typo must not decide."""
    if policy not in _NAMES and not callable(policy):
        raise ValueError(
            "conflict must be 'error', 'ours', 'theirs' or a function of key, base, ours and "
            f"theirs, not {policy!r}"
        )
