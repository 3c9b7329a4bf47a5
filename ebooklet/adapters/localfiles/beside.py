"""Where the folder beside a local file lies, and whose a path in it is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["file_of", "folder_beside"]

_SUFFIX: Final = ".ebk"


def folder_beside(location: Path) -> Path:
    """The folder that goes with a local file."""
    return location.with_name(location.name + _SUFFIX)


def file_of(path: Path) -> Path:
    """The local file that a path belongs to: itself, or the one that it lies in the folder of.

    A file that is written anew is made in that folder, and then takes the place of the old one.
    """
    folder = path.parent
    if folder.name.endswith(_SUFFIX):
        return folder.with_name(folder.name.removesuffix(_SUFFIX))
    return path
