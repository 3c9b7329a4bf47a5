"""Object keys as paths of a file system, one to one.

A plain key is its own path, so that a folder can be copied to a bucket, or served, as it is. What
a file system cannot hold is spelt with `%`, which itself is always spelt `%25`:

- `%XX`: a control character, a backslash, or the dot of a key that begins like our own folder;
- a trailing `%+`: the component goes on in the next path element (components over 255 bytes);
- a trailing `%o`: this is an object whose plain name is taken by a folder (`a` beside `a/b`).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HIDDEN_FOLDER", "decode", "encode", "set_aside"]

HIDDEN_FOLDER: Final = ".ebooklet"
_CONTINUES: Final = "%+"
_SET_ASIDE: Final = "%o"
_MAX_NAME_BYTES: Final = 250  # the usual limit is 255, less our suffixes
_UNSAFE: Final = re.compile(r"[%\\\x00-\x1f\x7f]")
_SPELT: Final = re.compile(r"%([0-9A-F]{2})")


def encode(key: str) -> list[str]:
    """The path elements of a key that `check_key` let through."""
    elements: list[str] = []
    for component in key.split("/"):
        safe = _UNSAFE.sub(_spell, component)
        if not elements and safe.casefold() == HIDDEN_FOLDER:
            safe = "%2E" + safe[1:]
        if len(safe) * 4 <= _MAX_NAME_BYTES or len(safe.encode()) <= _MAX_NAME_BYTES:
            elements.append(safe)
        else:
            elements.extend(_split(component))
    return elements


def decode(elements: list[str], *, folder: bool) -> str | None:
    """The key of a path, or the beginning of the keys below a folder.

    Returns:
        None if no key has this path: the file is not ours.
    """
    names = list(elements)
    if not folder:
        names[-1] = names[-1].removesuffix(_SET_ASIDE)
    text = ""
    for name in names:
        text += name.removesuffix(_CONTINUES) if name.endswith(_CONTINUES) else name + "/"
    if not folder:
        if not text.endswith("/"):
            return None
        text = text[:-1]
    key = _SPELT.sub(lambda match: chr(int(match[1], 16)), text)
    if folder:
        return key
    try:
        key.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return None
    return key if encode(key) == names else None


def set_aside(name: str) -> str:
    """The name an object takes when a folder has its plain one."""
    return name + _SET_ASIDE


def _spell(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def _split(component: str) -> list[str]:
    names: list[str] = []
    name, size = "", 0
    for letter in component:
        spelt = _UNSAFE.sub(_spell, letter)
        length = len(spelt.encode())
        if size + length > _MAX_NAME_BYTES:
            names.append(name + _CONTINUES)
            name, size = "", 0
        name += spelt
        size += length
    return [*names, name]
