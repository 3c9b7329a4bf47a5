"""Ctrl-C at each line of what keeps track of changes: what is here is pending, or in the remote."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from ebooklet.database import EBooklet
from ebooklet.services import marking, pending, writing
from tests.services.conftest import Opener

WATCHED = {module.__file__ for module in (marking, pending, writing)}


def change_and_absorb(db: EBooklet[Any], key: str) -> None:
    db[key] = "new"
    db.update({f"{key}-2": "new"})
    db.changes()


def set_and_delete(db: EBooklet[Any], key: str) -> None:
    db[key] = "new"
    db.changes()
    del db[key]


def delete_and_set(db: EBooklet[Any], key: str) -> None:
    del db[key]
    db.changes()
    db[key] = "newer"
    db.changes()


@pytest.mark.parametrize("life", [change_and_absorb, set_and_delete, delete_and_set])
def test_interrupted_at_each_line(
    opener: Opener, life: Callable[[EBooklet[Any], str], None]
) -> None:
    """After the next push the remote has what this handle shows, whichever line was interrupted.

    Fails if marks of keys are taken off before they are taken in, or a key that changes from set
    to deleted stands in neither table for a moment.
    """
    with opener(None) as db:
        db.update({f"k{number}": "old" for number in range(400)})
        db.push()
        number = 0
        while number < 400 and interrupted_at(number, partial(life, db, f"k{number}")):
            db.changes()
            number += 1
        assert 20 < number < 400
        db.push()
        assert len(db.changes()) == 0
        shown = dict(db.items())
        assert len(db) == len(shown)
    with opener(None, "r") as db:
        assert dict(db.items()) == shown


def interrupted_at(number: int, work: Callable[[], None]) -> bool:
    """Do the work up to this line of the watched modules; whether there was such a line."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in WATCHED:
            return trace if event == "call" else None
        if event == "line":
            if left == 0:
                left -= 1
                sys.settrace(None)
                raise KeyboardInterrupt
            left -= 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
