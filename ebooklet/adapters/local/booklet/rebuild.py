"""New files that take the place of old ones in one step.

Whatever moves data (growing the index, compacting, clearing, salvaging) fills a new file through
Booklet and renames it over the old one, so that a kill at any moment leaves one of both whole. The
new file stays open, and locked, across the renaming.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import orjson

from ebooklet.adapters.local.booklet.handles import Handle, open_handle
from ebooklet.adapters.local.booklet.layout import (
    MAX_BUCKETS,
    METADATA_KEY,
    RESERVED,
    SLOT_KEYS,
    Block,
    edited_header,
    value_at,
)
from ebooklet.adapters.localfiles.files import sync_folder, temporary_path
from ebooklet.adapters.localfiles.flushed import Flushed
from ebooklet.adapters.localfiles.sidecar import Sidecar
from ebooklet.errors import LocalFileError

DEFAULT_BUCKETS: Final = 12_007
_CHAIN: Final = (DEFAULT_BUCKETS, 144_013, 1_728_017, MAX_BUCKETS)  # the sizes Booklet grows to


def buckets_for(keys: int) -> int:
    """Size of an index that holds this many keys with an eighth to spare."""
    wanted = keys * 8 // 7 + 1
    return next((size for size in _CHAIN if size >= wanted), wanted * 2)


class Replacement:
    """A new Booklet in the making: fill it, then `publish` it or let the context discard it."""

    def __init__(self, folder: Path, header: bytes, n_buckets: int, buffer_size: int) -> None:
        self._path = temporary_path(folder)
        try:
            handle = open_handle(
                self._path,
                "n",
                buffer_size=buffer_size,
                header=edited_header(header, n_buckets=n_buckets),
            )
        except BaseException:  # as when the disk is full, or by Ctrl-C
            self._path.unlink(missing_ok=True)
            raise
        if handle is None:
            raise LocalFileError(f"{self._path} is in use: try again", op="open")
        self.handle = handle
        self._discarded = False

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self.is_published:
            self._discarded = True
            with contextlib.suppress(OSError):
                self.handle.abandon()  # it need not be whole, nor can it be after an interrupt
            self._path.unlink(missing_ok=True)

    @property
    def is_published(self) -> bool:
        """Whether the file is in the place of the old one, whatever came just after that."""
        return not self._discarded and not self._path.exists()

    def copy(self, fd: int, blocks: Iterable[Block], skip: Collection[str] = ()) -> int:
        """Copy blocks of users' keys from another file, later ones of a key replacing earlier.

        Returns:
            Number of blocks left out because of `skip`.
        """
        write = self.handle.file.set
        left_out = 0
        for block in blocks:
            key, timestamp, _, value_bytes = block
            name = key.decode()
            if name in skip:
                left_out += 1
                continue
            value = os.pread(fd, value_bytes, value_at(block))
            if len(value) < value_bytes:  # one read moves at most 2 GiB
                value += _rest(fd, block, len(value))
            write(name, value, timestamp, False)
        return left_out

    def salvage(self, fd: int, blocks: Iterable[Block]) -> None:
        """Copy whatever is usable of blocks found in a damaged file."""
        reserved: dict[bytes, tuple[bytes, int]] = {}

        def of_users() -> Iterable[Block]:
            for block in blocks:
                key, timestamp, _, value_bytes = block
                if key in RESERVED:
                    reserved[key] = (os.pread(fd, value_bytes, value_at(block)), timestamp)
                elif _is_text(key):
                    yield block

        self.copy(fd, of_users())
        for key, (value, timestamp) in reserved.items():
            if key != METADATA_KEY:
                self.handle.file.set_reserved(SLOT_KEYS.index(key) + 1, value, timestamp)
            elif _is_json(value):
                self.handle.file.set_metadata(orjson.Fragment(value), timestamp)

    def copy_reserved(self, source: Handle) -> None:
        """Copy the metadata and the slots that other libraries keep in a Booklet."""
        found = source.file.get_timestamp(METADATA_KEY.decode(), True, False)
        if found is not None:
            self.handle.file.set_metadata(orjson.Fragment(found[1]), found[0])
        for slot in range(1, len(SLOT_KEYS) + 1):
            kept = source.file.get_reserved(slot, True)
            if kept is not None:
                self.handle.file.set_reserved(slot, *kept)

    def publish(self, location: Path, sidecar: Sidecar) -> None:
        """Put the file in the place of the old one, durably; it stays open."""
        self.handle.flush()
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(self.handle.fd, location.stat().st_mode & 0o777)
        os.fsync(self.handle.fd)
        killed = self.handle.killed
        if killed is not None:
            found = os.fstat(self.handle.fd)
            serial = sidecar.next_serial()
            sidecar.will_publish(Flushed(serial, found.st_ino, found.st_size, 0, 0, tuple(killed)))
        sidecar.sync_logs()  # what is gone from the file has to be in them as deleted
        self._path.replace(location)
        sync_folder(location.parent)
        # Whatever fails from here on, as on a full disk: this is the file now, and raising would leave
        # the caller with the old one, whose writes nobody would find again.
        try:
            sidecar.replace_dead(b"", sidecar.next_serial())
            sidecar.note_start()  # nothing is left of what an earlier one may have lost
        except OSError:
            sidecar.forget_dead()


def _rest(fd: int, block: Block, done: int) -> bytes:
    parts = []
    while done < block[3]:
        part = os.pread(fd, block[3] - done, value_at(block) + done)
        if not part:
            raise LocalFileError(
                f"the local file ends within the value of {block[0][:100]!r}", op="copy"
            )
        parts.append(part)
        done += len(part)
    return b"".join(parts)


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
