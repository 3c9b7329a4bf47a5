"""When the hooks of an open database run, and what may be called from inside them.

None of them runs while a lock is held that reading or writing the database takes: what was evicted
is noted where it happens, and told once the work is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Final, Literal

from ebooklet.errors import PluginError, PushInProgressError
from ebooklet.ports.hooks import DatabaseHooks, Hook, HookFailure
from ebooklet.services.closing import close_copy
from ebooklet.services.evictions import take_evicted
from ebooklet.services.working_copy import WorkingCopy

# From inside these the same call again would wait for itself, or go on for ever.
_CLOSED_TO: Final[dict[Literal["push", "pull"], Set[Hook]]] = {
    "push": {"before_push", "after_push", "on_conflict", "on_evict"},
    "pull": {"after_pull", "on_conflict", "on_evict"},
}


def set_hooks(copy: WorkingCopy, hooks: DatabaseHooks, flag: str) -> None:
    """Let `hooks` know of this database from here on, and that it was opened with `flag`.

    What comes out all the same, an interrupt or a warning made an error, closes the copy.
    """
    copy.hooks = hooks
    try:
        hooks.on_open(flag)
    except BaseException:
        close_copy(copy)
        raise


def check_reentry(copy: WorkingCopy, op: Literal["push", "pull"]) -> None:
    """Refuse what a hook, or a function for conflicts, of this database is itself called by.

    Raises:
        PluginError: from inside a hook.
        PushInProgressError: from inside the function.
    """
    if copy.deciding == threading.get_ident():
        raise PushInProgressError(
            f"{op}() was called from inside the conflict= function of the same database; call it "
            "after the push has returned",
            op=op,
            key=copy.db_key,
        )
    if copy.hooks is None:
        return
    inside = copy.hooks.running & _CLOSED_TO[op]
    if inside:
        raise PluginError(
            f"{op}() was called from inside the hook {' in '.join(sorted(inside))} of the same "
            f"database; call it after the {op} that the hook belongs to has returned",
            op=op,
            key=copy.db_key,
        )


def asked_before_push(copy: WorkingCopy, message: str) -> None:
    """Let the hooks refuse a push; what they raise comes out."""
    if copy.hooks is not None:
        copy.hooks.before_push(message or None)
        copy.require_writable("push")  # a hook may have closed it


@contextmanager
def telling_evictions(copy: WorkingCopy) -> Iterator[list[HookFailure]]:
    """Tell the hooks at the end which local copies were dropped inside, whether it fails or not.

    Yields:
        A list that then has the failures of hooks.
    """
    failures: list[HookFailure] = []
    try:
        yield failures
    finally:
        keys = take_evicted(copy)
        if keys and copy.hooks is not None:
            failures += copy.hooks.on_evict(keys)
