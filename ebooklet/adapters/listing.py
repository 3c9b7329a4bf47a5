"""Lists of S3-compatible servers: what to ask for, and what of the answer counts.

Servers differ in the order of a list, in the prefixes they take, and in whether they show folders
as objects.
"""

from __future__ import annotations

import re
from typing import Final

from ebooklet.adapters.objects import is_key

__all__ = ["asked_prefix", "is_wanted", "start_after"]

_ORDERED_ALIKE: Final = re.compile(r"[0-9A-Za-z]+")
_DOTS: Final = (".", "..")


def asked_prefix(prefix: str) -> str | None:
    """The prefix to send for keys that begin with `prefix`; None when no key can.

    JuiceFS answers 400 to components that no key has, and to beginnings that look like them: the
    `.` of `.hidden`. There its folder is asked for, and `is_wanted` picks.
    """
    folder, _, name = prefix.rpartition("/")
    if "/" in prefix and not is_key(folder):
        return None
    return prefix[: len(prefix) - len(name)] if name in _DOTS else prefix


def start_after(prefix: str, after: str) -> str | None:
    """What to send as `StartAfter`; None where the server must not skip for us.

    SeaweedFS lists `a/b` before `a-b`: it may skip only where all orders agree.
    """
    return after if after.startswith(prefix) and _is_plain(after[len(prefix) :]) else None


def is_wanted(key: str, prefix: str, after: str) -> bool:
    """Whether a listed key was asked for; folders, with a slash at the end, are no objects of ours."""
    return key.startswith(prefix) and key > after and is_key(key)


def _is_plain(text: str) -> bool:
    return _ORDERED_ALIKE.fullmatch(text) is not None
