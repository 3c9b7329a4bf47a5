"""Local files that are not as they were left: cut, or with some bytes flipped."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Final

_HEADER_BYTES: Final = 200  # of a Booklet
_INDEX_AT: Final = slice(65, 71)
_DATA_AT: Final = slice(71, 77)


def damage(path: Path, chance: random.Random) -> str:
    """Cut or flip one of the files of a local half.

    Returns:
        what was done to which, for the report; "" if there is nothing to damage.
    """
    beside = path.with_name(f"{path.name}.ebk")
    files = [one for one in (path, *beside.glob("*")) if one.is_file() and one.stat().st_size]
    if not files:
        return ""
    (target,) = chance.choices(files, [4 if one == path else 1 for one in files])
    size = target.stat().st_size
    at = chance.randrange(size)
    if chance.random() < 0.5:
        os.truncate(target, at)
        return f"truncated: {_part(path, target, at)}"
    part = _part(path, target, at)
    with target.open("r+b") as file:
        for _ in range(chance.choice((1, 1, 8))):
            file.seek(at)
            (old,) = file.read(1)
            file.seek(at)
            file.write(bytes([old ^ 1 << chance.randrange(8)]))
            at = min(size - 1, at + 1)
    return f"flipped: {part}"


def remove(path: Path) -> None:
    """Begin anew, as one does with a file that is refused."""
    path.unlink(missing_ok=True)
    shutil.rmtree(path.with_name(f"{path.name}.ebk"), ignore_errors=True)


def _part(path: Path, target: Path, at: int) -> str:
    if target != path:
        return target.name
    head = path.read_bytes()[:_HEADER_BYTES]
    index, data = (int.from_bytes(head[one], "little") for one in (_INDEX_AT, _DATA_AT))
    if at < _HEADER_BYTES:
        return "header of the file"
    return "index of the file" if index <= at < data or at < data else "values of the file"
