"""What the library says of its parameters, said of the options of a command."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["in_options"]


def in_options(text: str, options: Mapping[str, str]) -> str:
    """Name options where a message names parameters.

    Args:
        text: of the library. A parameter is told by what follows it, as in `lock=`, or by an
            underscore: a bare `lock` is a word.
        options: parameter to option.

    Example:
        >>> in_options("pass lock='none', or rescue=True", {"lock": "--lock", "rescue": "--rescue"})
        "pass --lock 'none', or --rescue"
    """
    longest_first = sorted(options, key=len, reverse=True)
    names = "|".join(map(re.escape, longest_first))
    long_names = "|".join(re.escape(name) for name in longest_first if "_" in name) or "(?!)"
    parameter = re.compile(rf"\b({names})=(True\b|(?=[\w'\"]))?|\b({long_names})\b")

    def option(found: re.Match[str]) -> str:
        name, value = found[1] or found[3], found[2]
        return options[name] + (" " if value == "" else "")

    return parameter.sub(option, text)
