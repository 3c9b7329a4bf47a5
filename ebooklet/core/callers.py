"""Where the library ends and its caller begins: the line that a warning should name."""

from __future__ import annotations

import inspect

_PACKAGE = __name__.partition(".")[0]


def stacklevel() -> int:
    """The `stacklevel` with which `warnings.warn`, called beside this, names the caller's line.

    A fixed number is right for one of the ways that lead to a warning only: a pull is called by
    users, by opens and by pushes. (`skip_file_prefixes` does this from Python 3.12 on.)
    """
    level = 1
    frame = inspect.currentframe()
    frame = frame.f_back if frame is not None else None
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        level += 1
    return level


def _is_ours(module: str) -> bool:
    return module == _PACKAGE or module.startswith(f"{_PACKAGE}.")
