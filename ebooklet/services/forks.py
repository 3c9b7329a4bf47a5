"""Forks: what a child process inherits has to refuse, before it deadlocks or does harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Final
from weakref import WeakMethod

__all__ = ["in_forked_child"]

_METHODS: Final[dict[int, WeakMethod[Callable[[], None]]]] = {}
_numbers: Final = count()


def in_forked_child(method: Callable[[], None]) -> None:
    """Call a bound method in every process forked while its object lives, in the order given here.

    The object is not kept alive by it, and need not be hashable.
    """
    number = next(_numbers)
    _METHODS[number] = WeakMethod(method, lambda _: _METHODS.pop(number, None))


def _tell() -> None:
    for reference in _METHODS.copy().values():
        method = reference()
        if method is not None:
            method()


os.register_at_fork(after_in_child=_tell)
