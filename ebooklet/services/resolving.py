"""One key in conflict decided: as a hook says, or else by the policy or the caller's function.

The one place where that is done, for a push as for a merge. Nothing is changed here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from ebooklet.core.merge import ABSENT, UNKNOWN
from ebooklet.core.serialization import no_value, special_in
from ebooklet.errors import SerializationError
from ebooklet.ports.hooks import Conflict, Resolution
from ebooklet.ports.serializer import Serializer
from ebooklet.services.policy import ConflictFunction, ConflictPolicy
from ebooklet.services.working_copy import WorkingCopy


class Merged(NamedTuple):
    """Neither side as it is: the serialised value that a function made of both, None = absent."""

    value: bytes | None


Answer: TypeAlias = Resolution | Merged


def has_rules(copy: WorkingCopy) -> bool:
    """Whether hooks decide conflicts of this copy; a reader has none to decide."""
    hooks = copy.hooks
    return hooks is not None and "on_conflict" in hooks.wanted and copy.settings.writable


def looks_at_values(copy: WorkingCopy, policy: ConflictPolicy) -> bool:
    """Whether anybody has to be shown the values before conflicts are decided."""
    return callable(policy) or has_rules(copy)


def resolve(copy: WorkingCopy, conflict: Conflict, policy: ConflictPolicy) -> Answer | None:
    """Decide one key. Hooks come before the policy.

    Args:
        copy: whose hooks and serializer; none of its locks is held but the one on the base.
        conflict: the key, with its values.
        policy: what decides where no hook does.

    Returns:
        Whose value it is to be, or another one; None where it is left open, by "error".

    Raises:
        Exception: what a hook or the function raised.
        SerializationError: a value cannot be read for the function, or its answer not be stored.
    """
    if copy.hooks is not None and has_rules(copy):
        answer = copy.hooks.on_conflict(conflict)
        copy.require_writable("settle conflicts")  # a hook may have closed it
        if answer is not None:
            return answer
    if policy == "error":
        return None
    if policy == "ours" or policy == "theirs":
        return policy
    return _by_function(copy, conflict, policy)


def _by_function(copy: WorkingCopy, conflict: Conflict, function: ConflictFunction) -> Answer:
    serializer = copy.serializer
    if serializer is None:
        raise ValueError("a function decides conflicts of an opened database only")
    try:
        base = _loaded(serializer, conflict.base) if conflict.base_known else UNKNOWN
        ours, theirs = (_loaded(serializer, side) for side in (conflict.ours, conflict.theirs))
        with _inside(copy):
            answer = function(conflict.key, base, ours, theirs)
        copy.require_writable("settle conflicts")  # it may have closed the database
        if answer is UNKNOWN:
            raise ValueError(
                f"the conflict= function answered ebooklet.UNKNOWN for {conflict.key!r}; it is to "
                "answer with a value, or with ebooklet.ABSENT"
            )
        if answer is not ABSENT and (special := special_in(answer)) is not None:
            raise no_value(special)  # pickle would take it
        value = None if answer is ABSENT else serializer.dumps(answer)
    except SerializationError as exc:
        exc.key = conflict.key
        raise
    if value == conflict.theirs:
        return "theirs"
    return "ours" if value == conflict.ours else Merged(value)


def _loaded(serializer: Serializer, data: bytes | None) -> object:
    return ABSENT if data is None else serializer.loads(data)


@contextmanager
def _inside(copy: WorkingCopy) -> Iterator[None]:
    """Note that this thread runs the caller's function, which may not move the base under it."""
    copy.deciding = threading.get_ident()
    try:
        yield
    finally:
        copy.deciding = None
