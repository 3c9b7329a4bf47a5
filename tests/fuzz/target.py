"""What one row of the table of decoders says, and how bytes reach a decoder that wants something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ebooklet.errors import RemoteIntegrityError, UnsupportedFormatError

KIB: Final = 1 << 10
MIB: Final = 1 << 20
Damage: Final = (RemoteIntegrityError, UnsupportedFormatError)


@dataclass(frozen=True)
class Target:
    """A decoder.

    Attributes:
        name: of the row.
        decode: given the bytes, and a folder of its own for what has to be a file.
        seeds: valid bytes, which mutations start from.
        errors: what it may raise.
        room: bytes of memory that it may take for any input.
        factor: bytes of memory that it may take for each byte of input, beside that.
        is_slow: it waits for the disk, and is tried with fewer inputs.
    """

    name: str
    decode: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = ()
    room: int = MIB
    factor: int = 64
    is_slow: bool = False


def plain(decode: Callable[[bytes], object]) -> Callable[[bytes, Path], object]:
    return lambda data, _: decode(data)


def text(decode: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    """A decoder of text: what is no UTF-8 stands for lone surrogates, which a str may hold."""
    return lambda data, _: decode(data.decode("utf-8", "surrogateescape"))


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A decoder of a file, which is put into the target's folder first."""

    def decode(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        try:
            return read(path)
        finally:
            path.unlink(missing_ok=True)

    return decode
