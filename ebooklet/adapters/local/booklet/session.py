"""A Booklet while it is open: made, repaired where it was found broken, and rewritten."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from ebooklet.adapters.local.booklet.append import Item
from ebooklet.adapters.local.booklet.finding import (
    check_replaceable,
    examine,
    refuse_unfit,
)
from ebooklet.adapters.local.booklet.handles import (
    Handle,
    new_header,
    open_handle,
    serializer_name,
    serializer_number,
)
from ebooklet.adapters.local.booklet.inspection import Salvage, dead_blocks, sound_keys
from ebooklet.adapters.local.booklet.layout import (
    HEADER_BYTES,
    MAX_BUCKETS,
    RESERVED,
    Header,
    edited_header,
    live_blocks,
    parse_header,
)
from ebooklet.adapters.local.booklet.rebuild import Replacement, buckets_for
from ebooklet.adapters.localfiles.diskfailures import explained
from ebooklet.adapters.localfiles.finding import Finding, is_there, signature
from ebooklet.adapters.localfiles.flushed import Flushed, encode_positions
from ebooklet.adapters.localfiles.gate import Waiting
from ebooklet.adapters.localfiles.session import FileSession, carried_by
from ebooklet.adapters.localfiles.sidecar import Carried
from ebooklet.errors import LocalFileError
from ebooklet.ports.clock import Clock

_log = logging.getLogger("ebooklet.local")
_COARSE_NS: Final = 4_000_000_000  # file systems that round times round to at most 2 s


@dataclass(frozen=True, slots=True)
class Creation:
    """How to make a file that is not there."""

    uuid: UUID | None  # None: Booklet makes one up
    value_serializer: str | None  # None: a class of the user's own
    n_buckets: int


class Session(FileSession[Handle, Creation, Header]):
    """One open Booklet. Not for several threads at once."""

    def __init__(self, location: Path, *, clock: Clock, buffer_size: int) -> None:
        super().__init__(location, clock=clock)
        self.rebuilds = 0  # grows when blocks move
        self._coming: Replacement | None = None  # what takes the place of the file just now
        self._buffer_size = buffer_size

    # Writing.

    def rebuild(
        self,
        *,
        n_buckets: int = 0,
        skip: Collection[str] = (),
        clear: bool = False,
        uuid: UUID | None = None,
    ) -> int:
        """Write the file anew and put it in the place of the old one.

        Args:
            n_buckets: new size of the index; 0 keeps it.
            skip: keys to leave out.
            clear: leave all keys out.
            uuid: a new one; None keeps it.

        Returns:
            Number of keys left out because of `skip`.
        """
        old = self.handle
        if old is None:
            raise LocalFileError(f"{self.location} is not open for writing", op="rebuild")
        old.flush()
        header = self.header()
        buckets = n_buckets or header.n_buckets
        raw = edited_header(header.raw, n_buckets=buckets, uuid=uuid)
        self.soil()
        left_out = 0
        with (
            explained(self.location),
            Replacement(self.sidecar.folder, raw, buckets, self._buffer_size) as new,
        ):
            if not clear:
                left_out = new.copy(old.fd, live_blocks(old.fd, header), skip)
            new.copy_reserved(old)
            self._publish(new)
        return left_out

    def adopt_uuid(self, uuid: UUID) -> None:
        """Write the file anew with another uuid, and mark it as of that one.

        A folder whose mark names another uuid than the file is taken for a stranger's and emptied,
        so the mark names none while the file is being replaced.
        """
        self.soil()
        self.sidecar.disown()
        self.rebuild(uuid=uuid)
        self.uuid = uuid
        self.seal(self._carried)

    def mend(self) -> None:
        """Put in order what an interrupt left between two steps of a change, if one did.

        What was set stays, and so does what was deleted; the change itself is made, or is not. Where
        chains lead on as they should, the file is counted; else it is written anew.
        """
        self._take_over()
        handle = self.handle
        if handle is None or not handle.in_doubt:
            return
        self.soil()
        items = handle.take_back()
        header = self.header()
        n_keys = sound_keys(handle.fd, header, os.fstat(handle.fd).st_size)
        if n_keys is None or not handle.can_count:
            self._salvage(handle.fd, header, items)
            return
        with handle.changing:
            handle.trust(n_keys)
            try:
                for key, value, timestamp in items:
                    handle.file.set(key, value, timestamp, False)
                handle.file.sync()
            except OSError:  # as when the disk is full: they are still to be written
                handle.doubt()
                raise
            handle.forget_rescued()

    def seal(self, carried: Carried) -> None:
        """Mend what is half done, make everything durable and leave the mark."""
        self.mend()
        super().seal(carried)

    def finish(self) -> None:
        """Mend, write and mark what is open, and give it back; idempotent."""
        try:
            if not self.forked and self.handle is not None and self.handle.in_doubt:
                self.soil()  # or it would not be looked at
        finally:
            super().finish()

    def release(self) -> None:
        """Close the handle, and that of a file that came into its place unnoticed."""
        self._take_over()
        super().release()

    def _publish(self, new: Replacement) -> None:
        """Put a file in the place of the old one, and go on with it."""
        self._coming = new
        new.publish(self.location, self.sidecar)
        self._take_over()

    def _take_over(self) -> None:
        """Go on with the file that is in place by now, also where an interrupt came just then."""
        new = self._coming
        if new is None:
            return
        if new.is_published and new.handle is not self.handle:
            old, self.handle = self.handle, new.handle
            self.rebuilds += 1
            self.uuid = self.header().uuid
            if old is not None and old.in_doubt:
                old.abandon()
            elif old is not None:
                old.close()
        self._coming = None

    def header(self) -> Header:
        """The header as it is in the open file."""
        if self.handle is None:
            raise LocalFileError(f"{self.location} is not open", op="read")
        return parse_header(os.pread(self.handle.fd, HEADER_BYTES, 0), str(self.location))

    def _flushed(self, found: os.stat_result) -> Flushed | None:
        killed = None if self.handle is None else self.handle.killed
        if killed is None:
            return None
        listed = self.sidecar.append_dead(encode_positions(killed))
        del killed[:]
        return Flushed(self.sidecar.next_serial(), found.st_ino, found.st_size, *listed)

    # How a file is found.

    def _refuse_unfit(self, *, replace: bool) -> None:
        refuse_unfit(self.location, replace=replace)

    def _examine(self, fd: int) -> Finding[Header]:
        return examine(fd, self.location, self.sidecar)

    def _open_handle(self, flag: Literal["r", "w"]) -> Handle | None:
        return open_handle(self.location, flag, buffer_size=self._buffer_size)

    def _create(self, creation: Creation, waiting: Waiting) -> None:
        with contextlib.ExitStack() as stack:
            if is_there(self.location):
                fd = stack.enter_context(self._locked(fcntl.LOCK_EX, waiting))
                check_replaceable(os.pread(fd, HEADER_BYTES, 0), self.location)
            name = creation.value_serializer
            number = serializer_number(name) if name else 0
            header = new_header(number)
            if creation.uuid is not None:
                header = edited_header(header, n_buckets=1, uuid=creation.uuid)
            self.sidecar.purge()
            (self.sidecar.folder / "nodes").unlink(missing_ok=True)
            if name and not number:
                self.sidecar.set_serializer(name)
            self.soil()
            buckets = creation.n_buckets
            with Replacement(self.sidecar.folder, header, buckets, self._buffer_size) as new:
                self._publish(new)
        self._identify(self.header())

    def _take(self, waiting: Waiting) -> Finding[Header]:
        """Open the file for writing, repaired where needed."""
        while True:
            with self._locked(fcntl.LOCK_EX, waiting) as fd:
                finding = self._examine(fd)
                self._carried = carried_by(finding)
                if finding.foreign:
                    self.sidecar.purge()
                if not finding.sound:
                    self._salvage(fd, finding.header)
                    self._note(finding)
                    return finding
            handle = self._opened("w", waiting)
            if signature(os.fstat(handle.fd)) == finding.signature:
                break
            handle.close()  # another program was faster: look again
        self.handle = handle
        self._note(finding)
        header = finding.header
        self._know_dead(finding)
        if header.n_keys > header.n_buckets and header.n_buckets < MAX_BUCKETS:
            self.rebuild(n_buckets=buckets_for(header.n_keys))  # Booklet would, in place
        return finding

    def _know_dead(self, finding: Finding[Header]) -> None:
        """Have the list of dead blocks say what the file does, where that is not certain."""
        inode, size, _ = finding.signature
        known = self.sidecar.flushed(inode)
        if (
            finding.condition == "clean"
            and known is not None
            and not known.more
            and (known.size, known.listed, known.dead) == (size, *self.sidecar.dead_list())
        ):
            return
        handle = self.handle
        if handle is None or handle.killed is None:
            return
        self.soil()
        os.fsync(handle.fd)
        serial = self.sidecar.next_serial()
        dead = encode_positions(dead_blocks(handle.fd, finding.header))
        self.sidecar.replace_dead(dead, serial)
        self.sidecar.will_publish(Flushed(serial + 1, inode, size, serial, len(dead)))
        self.sidecar.note_start()

    def _salvage(self, fd: int, header: Header, items: Collection[Item] = ()) -> None:
        found = os.fstat(fd)
        search = Salvage(fd, header, found.st_size)
        if self.sidecar.lost_power() and self.sidecar.mark() is None:
            known = self.sidecar.flushed(found.st_ino)
            dead = self.sidecar.dead_of(known) if known is not None else None
            if known is not None and dead is not None:
                search = Salvage(fd, header, known.size, dead)
        size = search.size
        live = sum(block[0] not in RESERVED for block in search.blocks()) + len(items)
        buckets = header.n_buckets if header.is_plausible(size) else 0
        if buckets == 0 or buckets < live * 8 // 7:
            buckets = buckets_for(live)
        self.soil()
        with Replacement(self.sidecar.folder, header.raw, buckets, self._buffer_size) as new:
            new.salvage(fd, search.blocks())
            for key, value, timestamp in items:
                new.handle.file.set(key, value, timestamp, False)
            self._publish(new)
        _log.warning(
            "%s was not closed properly: kept %d blocks, skipped %d bytes that are none",
            self.location,
            live,
            search.skipped,
        )

    def _identify(self, header: Header) -> None:
        self.uuid = header.uuid
        number = header.value_serializer
        self.serializer = serializer_name(number) if number else self.sidecar.serializer()
