"""Whether a local file is there and can be used, and in which condition it was found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ebooklet.adapters.local.booklet.handles import serializer_name
from ebooklet.adapters.local.booklet.inspection import dead_blocks, is_sound
from ebooklet.adapters.local.booklet.layout import (
    HEADER_BYTES,
    Header,
    looks_like_booklet,
    parse_header,
)
from ebooklet.adapters.localfiles.finding import Finding, is_there, signature
from ebooklet.adapters.localfiles.sidecar import Sidecar
from ebooklet.errors import LocalFileError


def refuse_unfit(location: Path, *, replace: bool) -> None:
    """Refuse a file that cannot be used before anything is put beside it.

    It is looked at again under its lock, which would leave a folder beside it.

    Args:
        location: its path; nothing need be there.
        replace: it is to be replaced, not used.

    Raises:
        LocalFileError: it cannot be used, or is not to be replaced.
    """
    if not is_there(location):
        return
    try:
        with location.open("rb") as file:
            raw = file.read(HEADER_BYTES)
    except PermissionError:
        return  # said under the lock
    if replace:
        check_replaceable(raw, location)
    else:
        usable_header(raw, location)


def check_replaceable(raw: bytes, location: Path) -> None:
    """Raise `LocalFileError` for what is no Booklet by its first 200 bytes."""
    if not looks_like_booklet(raw):
        raise LocalFileError(
            f"{location} is not a Booklet and will not be replaced: choose another path, or "
            "remove it yourself",
            op="open",
        )


def usable_header(raw: bytes, location: Path) -> Header:
    """Read the header of a file that can be kept in step with the installed booklet.

    Args:
        raw: its first 200 bytes, or all of a shorter file.
        location: its path, for messages.

    Raises:
        LocalFileError: it cannot be used.
    """
    header = parse_header(raw, str(location))
    number = header.value_serializer
    if number and serializer_name(number) is None:
        raise LocalFileError(
            f"{location} names a value serializer (number {number}) that the installed booklet "
            "does not know: upgrade booklet",
            op="open",
        )
    return header


def examine(fd: int, location: Path, sidecar: Sidecar) -> Finding[Header]:
    """Look at a file that nobody writes to.

    Args:
        fd: its descriptor.
        location: its path, for messages.
        sidecar: the folder beside it.

    Raises:
        LocalFileError: the file cannot be used.
    """
    found = os.fstat(fd)
    header = usable_header(os.pread(fd, HEADER_BYTES, 0), location)
    mark = sidecar.mark()
    begun, before = sidecar.unfinished()
    condition: Literal["edited", "crashed"] = "edited"
    foreign = any(one is not None and one.uuid != header.uuid for one in (mark, before))
    if not foreign:
        if mark is not None and mark.fits(found):
            return Finding(header, mark.carried or "clean", True, False, signature(found))
        if mark is None and begun:
            condition = "crashed"
            if sidecar.lost_power():
                sound = is_sound(fd, header, found.st_size)
                known = sidecar.flushed(found.st_ino)
                if sound and known is not None:
                    dead = sidecar.dead_of(known)
                    same = known.size == found.st_size and dead == frozenset(
                        dead_blocks(fd, header)
                    )
                    sound = same or dead is None
                return Finding(header, condition, sound, False, signature(found))
            if before is not None and before.fits(found):  # it died before its first write
                return Finding(header, condition, True, False, signature(found))
    sound = is_sound(fd, header, found.st_size)
    if not sound and not foreign and mark is not None:
        # Whoever wrote last did not finish: a key that is missing was lost, not deleted.
        condition = "crashed"
    return Finding(header, condition, sound, foreign, signature(found))
