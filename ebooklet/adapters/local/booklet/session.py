"""The local file while it is open: found in which condition, repaired, marked, released.

Holds everything that must be given back (the handle, the gate, logs) and knows nothing of the
store that uses it, so that it can finish the work of a store that was simply dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from ebooklet.adapters.local.booklet.finding import (
    Finding,
    Signature,
    check_replaceable,
    examine,
    is_there,
    refuse_unfit,
    require,
    signature,
)
from ebooklet.adapters.local.booklet.gate import Gate, Waiting
from ebooklet.adapters.local.booklet.handles import (
    Handle,
    new_header,
    open_handle,
    serializer_name,
    serializer_number,
)
from ebooklet.adapters.local.booklet.inspection import Salvage
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
from ebooklet.adapters.local.booklet.sidecar import Carried, Mark, Sidecar
from ebooklet.errors import LocalFileError, ReadOnlyError
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Condition

_log = logging.getLogger("ebooklet.local")
_COARSE_NS: Final = 4_000_000_000  # file systems that round times round to at most 2 s


@dataclass(frozen=True, slots=True)
class Creation:
    """How to make a file that is not there."""

    uuid: UUID | None  # None: Booklet makes one up
    value_serializer: str | None  # None: a class of the user's own
    n_buckets: int


class Session:
    """One open local file. Not for several threads at once."""

    def __init__(self, location: Path, *, clock: Clock, buffer_size: int) -> None:
        self.location = location
        self.sidecar = Sidecar(location)
        self.gate = Gate(self.sidecar.folder, location, clock)
        self.handle: Handle | None = None
        self.uuid: UUID | None = None
        self.serializer: str | None = None
        self.soiled = False  # written to since the last mark
        self.generation = 0  # grows when another process was found to have changed the file
        self.rebuilds = 0  # grows when blocks move
        self.forked = False
        self._carried: Carried = None
        self._clock = clock
        self._buffer_size = buffer_size
        self._signature: Signature | None = None
        self.noticed = False  # another process was found to have changed file, slots or logs
        self._state: frozenset[tuple[str, int, int, int]] | None = None  # of slots and logs

    # Opening and closing.

    def open_writer(
        self, waiting: Waiting, creation: Creation | None = None, *, replace: bool = False
    ) -> Condition:
        """Become the writer and open the file, whatever state it is in.

        Raises:
            FileNotFoundError: there is no file, and no `creation`; or no folder for it.
            LocalFileError: the file is not usable; it is untouched.
            LockTimeout: another process or handle has it.
        """
        if creation is None:
            require(self.location)
        if not self.sidecar.folder.exists():
            refuse_unfit(self.location, replace=creation is not None and replace)
        self.sidecar.ensure()
        self.gate.shut(waiting)
        try:
            self.sidecar.sweep()
            if creation is not None and (replace or not is_there(self.location)):
                self._create(creation, waiting)
                return "new"
            require(self.location)
            finding = self._take(waiting)
        except BaseException:
            self.finish()
            raise
        return finding.condition

    def lease(self, waiting: Waiting) -> Condition:
        """Open the file for reading, for a while. Other readers may be there, but no writer."""
        self.release()
        while True:
            with self.gate.passing(waiting):
                found = self._signature_now()
                finding = None
                if found is None or found != self._signature:
                    finding = self._looked_at(waiting)
                    found = finding.signature
                if finding is None or (finding.sound and not finding.foreign):
                    handle = self._opened("r", waiting)
                    if signature(os.fstat(handle.fd)) != found:
                        handle.close()
                        continue
                    self.handle = handle
                    if finding is not None:
                        self._note(finding)
                    self._note_state()
                    return self._carried or "clean"
            # Sound reading needs a writer's work first, whose finding stays for the next writer.
            self.borrow(waiting)
            try:
                self.soil()
            finally:
                self.finish()

    def release(self) -> None:
        """Close the handle and keep everything else."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            handle.close()

    def borrow(self, waiting: Waiting) -> None:
        """Write for a moment as a reader, until `finish`.

        What the next writer should know stays marked.
        """
        self.release()
        self.open_writer(waiting)
        self._note_state()

    @contextlib.contextmanager
    def borrowed_sidecar(self, waiting: Waiting) -> Iterator[None]:
        """Write slots and logs for a moment as a reader; the file itself is not touched."""
        self.sidecar.ensure()
        self.gate.shut(waiting)
        try:
            self._note_state()
            yield
            self.sidecar.sync_logs()
        finally:
            self.sidecar.close()
            self._state = self.sidecar.state()
            self.gate.open()

    def finish(self) -> None:
        """Write and mark what is open, and give it back; idempotent, nothing in a forked child."""
        if self.forked:
            return
        try:
            if self.handle is not None and self.gate.is_shut:
                if self.soiled:
                    self.seal(self._carried)
                self.sidecar.sync_logs()
                self._state = self.sidecar.state()
        finally:
            try:
                self.release()
            finally:
                self.sidecar.close()
                self.gate.close()

    def abandon_in_child(self) -> None:
        """After a fork, in the child: let go without a trace."""
        self.forked = True
        self.handle = None
        with contextlib.suppress(OSError):
            self.gate.forget()
            self.sidecar.close()

    # Writing.

    def soil(self) -> None:
        """Note on disk that the file changes from here on."""
        if not self.soiled:
            self.sidecar.begin()
            self.soiled = True

    def settle(self, *, told: bool) -> None:
        """Make everything durable and mark the file as in order.

        Args:
            told: whether what was found at the open is dealt with; otherwise it stays for the
                next open.
        """
        carried = None if told else self._carried
        if self.soiled or self._carried != carried or self.sidecar.mark() is None:
            self.seal(carried)
        else:
            self.sidecar.sync_logs()

    def seal(self, carried: Carried) -> None:
        """Make everything durable and leave the mark."""
        handle = self.handle
        if handle is None or self.uuid is None:
            return
        handle.file.sync()
        os.fsync(handle.fd)
        self.sidecar.sync_logs()
        # The system's own times may repeat within a tick of 4 ms, so that an edit just after this
        # would not show; this one is never given by the system.
        wanted = self._clock.now_us() * 1000 + int.from_bytes(self._clock.token_bytes(2)) % 1000
        os.utime(handle.fd, ns=(wanted, wanted))
        found = os.fstat(handle.fd)
        if found.st_mtime_ns != wanted:
            os.utime(handle.fd, ns=(wanted, wanted - _COARSE_NS))
            found = os.fstat(handle.fd)
        self.sidecar.finish(Mark(found.st_size, found.st_mtime_ns, self.uuid, carried))
        self._carried = carried
        self._signature = signature(found)
        self.soiled = False

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
        old.file.sync()
        header = self.header()
        buckets = n_buckets or header.n_buckets
        raw = edited_header(header.raw, n_buckets=buckets, uuid=uuid)
        self.soil()
        left_out = 0
        with Replacement(self.sidecar.folder, raw, buckets, self._buffer_size) as new:
            if not clear:
                left_out = new.copy(old.fd, live_blocks(old.fd, header), skip)
            new.copy_reserved(old)
            self.handle = new.publish(self.location)
        self.rebuilds += 1
        old.close()
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

    def header(self) -> Header:
        """The header as it is in the open file."""
        if self.handle is None:
            raise LocalFileError(f"{self.location} is not open", op="read")
        return parse_header(os.pread(self.handle.fd, HEADER_BYTES, 0), str(self.location))

    # How a file is found.

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
                self.handle = new.publish(self.location)
        self._identify(self.header())

    def _take(self, waiting: Waiting) -> Finding:
        """Open the file for writing, repaired where needed."""
        while True:
            with self._locked(fcntl.LOCK_EX, waiting) as fd:
                finding = examine(fd, self.location, self.sidecar)
                self._carried = _carried(finding)
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
        if header.n_keys > header.n_buckets and header.n_buckets < MAX_BUCKETS:
            self.rebuild(n_buckets=buckets_for(header.n_keys))  # Booklet would, in place
        return finding

    def _looked_at(self, waiting: Waiting) -> Finding:
        require(self.location)
        with self._locked(fcntl.LOCK_SH, waiting) as fd:
            return examine(fd, self.location, self.sidecar)

    def _salvage(self, fd: int, header: Header) -> None:
        size = os.fstat(fd).st_size
        search = Salvage(fd, header, size)
        live = sum(block[0] not in RESERVED for block in search.blocks())
        buckets = header.n_buckets if header.is_plausible(size) else 0
        if buckets == 0 or buckets < live * 8 // 7:
            buckets = buckets_for(live)
        self.soil()
        with Replacement(self.sidecar.folder, header.raw, buckets, self._buffer_size) as new:
            new.salvage(fd, search.blocks())
            self.handle = new.publish(self.location)
        _log.warning(
            "%s was not closed properly: kept %d blocks, skipped %d bytes that are none",
            self.location,
            live,
            search.skipped,
        )

    def _note(self, finding: Finding) -> None:
        if self._signature is not None and finding.signature != self._signature:
            self.generation += 1
            self.noticed = True
        self._signature = finding.signature
        self._carried = _carried(finding)
        self._identify(finding.header)

    def _identify(self, header: Header) -> None:
        self.uuid = header.uuid
        number = header.value_serializer
        self.serializer = serializer_name(number) if number else self.sidecar.serializer()

    def _opened(self, flag: Literal["r", "w"], waiting: Waiting) -> Handle:
        while True:
            handle = open_handle(self.location, flag, buffer_size=self._buffer_size)
            if handle is not None:
                return handle
            if not waiting.pause():
                raise self.gate.timeout()

    @contextlib.contextmanager
    def _locked(self, kind: int, waiting: Waiting) -> Iterator[int]:
        """The file, with Booklet's lock on it taken without Booklet."""
        mode = os.O_RDWR if kind == fcntl.LOCK_EX else os.O_RDONLY
        try:
            fd = os.open(self.location, mode | os.O_CLOEXEC)
        except PermissionError:
            deed = "written" if kind == fcntl.LOCK_EX else "read"
            raise ReadOnlyError(
                f"{self.location} may not be {deed} by this user: correct its permissions, or use "
                "a copy of it",
                op="open",
            ) from None
        try:
            while True:
                try:
                    fcntl.flock(fd, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not waiting.pause():
                        raise self.gate.timeout() from None
            yield fd
        finally:
            # A child forked meanwhile has the same open file: closed here, it would stay locked.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _signature_now(self) -> Signature | None:
        try:
            return signature(self.location.stat())
        except OSError:
            return None

    def _note_state(self) -> None:
        state = self.sidecar.state()
        if self._state is not None and state != self._state:
            self.noticed = True
        self._state = state


def _carried(finding: Finding) -> Carried:
    return None if finding.condition == "clean" else finding.condition
