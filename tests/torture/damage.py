"""Local files that are not as they were left: cut, or with some bytes flipped.

No bit is flipped within a stored value: a Booklet keeps no checksum of it, and nobody could tell. What
leads to values, and says whose and of when they are, is fair game, and so is all beside the file.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from ebooklet.adapters.local.booklet.inspection import Salvage
from ebooklet.adapters.local.booklet.layout import (
    BLOCK_BYTES,
    HEADER_BYTES,
    STAMP_AT,
    parse_header,
)
from ebooklet.errors import LocalFileError


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
    values = _values(target) if target == path else []
    if chance.random() < 0.5:
        os.truncate(target, at)
        return f"truncated: {_part(path, target, at)}"
    while any(start <= at < end for start, end in values):
        at = chance.randrange(size)
    part = _part(path, target, at)
    with target.open("r+b") as file:
        for _ in range(chance.choice((1, 1, 8))):
            file.seek(at)
            (old,) = file.read(1)
            file.seek(at)
            file.write(bytes([old ^ 1 << chance.randrange(8)]))
            at = min(size - 1, at + 1)
            if any(start <= at < end for start, end in values):
                break
    return f"flipped: {part}"


def remove(path: Path) -> None:
    """Begin anew, as one does with a file that is refused."""
    path.unlink(missing_ok=True)
    shutil.rmtree(path.with_name(f"{path.name}.ebk"), ignore_errors=True)


def _values(path: Path) -> list[tuple[int, int]]:
    """Where in a Booklet the values are, [start, end); all but its header, if it is none."""
    with path.open("rb") as file:
        size = path.stat().st_size
        try:
            header = parse_header(file.read(HEADER_BYTES), str(path))
        except LocalFileError:
            return [(HEADER_BYTES, size)]
        found = []
        for key, _, stamp_at, n_bytes in Salvage(file.fileno(), header, size).blocks():
            start = stamp_at - STAMP_AT + BLOCK_BYTES + len(key)
            found.append((start, start + n_bytes))
        return found


def _part(path: Path, target: Path, at: int) -> str:
    if target != path:
        return target.name
    if at < HEADER_BYTES:
        return "header of the file"
    try:
        header = parse_header(path.read_bytes()[:HEADER_BYTES], str(path))
    except LocalFileError:
        return "file that is none"
    inside = header.index_at <= at < header.index_end
    return "index of the file" if inside else "blocks of the file"
