"""The local file while it is open: found in which condition, marked, locked, released.

Holds everything that must be given back (the handle, the gate, logs) and knows nothing of the
store that uses it, so that it can finish the work of a store that was simply dropped. What is
peculiar to a kind of file is left to the sessions of that kind.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Generic, Literal, Protocol, TypeVar
from uuid import UUID

from ebooklet.adapters.localfiles.diskfailures import explained
from ebooklet.adapters.localfiles.finding import Finding, Signature, is_there, require, signature
from ebooklet.adapters.localfiles.flushed import Flushed
from ebooklet.adapters.localfiles.gate import Gate, Waiting
from ebooklet.adapters.localfiles.sidecar import Carried, Mark, Sidecar
from ebooklet.errors import ReadOnlyError
from ebooklet.ports.clock import Clock
from ebooklet.ports.local_store import Condition

_log = logging.getLogger("ebooklet.local")
_COARSE_NS: Final = 4_000_000_000  # file systems that round times round to at most 2 s


class OpenFile(Protocol):
    """A file opened by the library of its kind, which other programs are kept from by a lock."""

    @property
    def fd(self) -> int:
        """A descriptor of it."""
        ...

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        ...

    def close(self) -> None:
        """Flush, close and unlock it; idempotent."""
        ...


H = TypeVar("H", bound=OpenFile)
C = TypeVar("C")
D = TypeVar("D")


class FileSession(ABC, Generic[H, C, D]):
    """One open local file. Not for several threads at once.

    Type parameters: the file as it is open, how to make one, and what its beginning says of it.
    """

    def __init__(self, location: Path, *, clock: Clock) -> None:
        self.location = location
        self.sidecar = Sidecar(location)
        self.gate = Gate(self.sidecar.folder, location, clock)
        self.handle: H | None = None
        self.uuid: UUID | None = None
        self.serializer: str | None = None
        self.soiled = False  # written to since the last mark
        self.unlogged = False  # a log or slot could not be written since the last sync
        self.generation = 0  # grows when another process was found to have changed the file
        self.forked = False
        self.noticed = False  # another process was found to have changed file, slots or logs
        self._carried: Carried = None
        self._clock = clock
        self._signature: Signature | None = None
        self._state: frozenset[tuple[str, int, int, int]] | None = None  # of slots and logs

    # What is peculiar to a kind of file.

    @abstractmethod
    def _refuse_unfit(self, *, replace: bool) -> None:
        """Refuse a file that cannot be used, or replaced, before anything is put beside it."""

    @abstractmethod
    def _create(self, creation: C, waiting: Waiting) -> None:
        """Make the file, in one step, and open it for writing; the gate is shut."""

    @abstractmethod
    def _take(self, waiting: Waiting) -> Finding[D]:
        """Open the file for writing, repaired where needed; the gate is shut."""

    @abstractmethod
    def _examine(self, fd: int) -> Finding[D]:
        """Look at the file, to which nobody writes."""

    @abstractmethod
    def _open_handle(self, flag: Literal["r", "w"]) -> H | None:
        """Open the file; None when another program holds it."""

    @abstractmethod
    def _identify(self, header: D) -> None:
        """Learn whose file it is: `uuid` and `serializer`."""

    def _flushed(self, found: os.stat_result) -> Flushed | None:
        """What a power cut leaves of the file, which is flushed now; None if whole transactions."""
        del found
        return None

    # Opening and closing.

    def open_writer(
        self, waiting: Waiting, creation: C | None = None, *, replace: bool = False
    ) -> Condition:
        """Become the writer and open the file, whatever state it is in.

        Raises:
            FileNotFoundError: there is no file, and no `creation`; or no folder for it.
            LocalFileError: the file is not usable; it is untouched.
            LockTimeout: another process or handle has it.
        """
        with explained(self.location, was_open=False):
            return self._become_writer(waiting, creation, replace=replace)

    def _become_writer(self, waiting: Waiting, creation: C | None, *, replace: bool) -> Condition:
        if creation is None:
            require(self.location)
        if not self.sidecar.folder.exists():
            self._refuse_unfit(replace=creation is not None and replace)
        self.sidecar.ensure()
        self.gate.shut(waiting)
        self.unlogged = False
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
        self.sidecar.refuse_link()
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
        try:
            with explained(self.location):
                self.sidecar.ensure()
                self.gate.shut(waiting)
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
        with explained(self.location):
            try:
                if self.handle is not None and self.gate.is_shut:
                    # What was not logged must be looked for, as after a crash.
                    if self.soiled and not self.unlogged:
                        self.seal(self._carried)
                    self.sidecar.sync_logs()
                    self._state = self.sidecar.state()
            finally:
                try:
                    self.release()
                finally:
                    self.sidecar.close()
                    self.gate.close()

    def finish_unasked(self) -> None:
        """`finish` a file that nobody closed, where nobody could catch what it raises."""
        try:
            self.finish()
        except Exception as exc:  # noqa: BLE001  # whatever it is, Python would only print it, at length
            _log.warning(
                "%s was never closed, and what was set since the last sync() may be lost: %s",
                self.location,
                exc,
            )

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
            with explained(self.location):
                self.sidecar.begin()
            self.soiled = True

    def settle(self, *, told: bool) -> None:
        """Make everything durable and mark the file as in order.

        Args:
            told: whether what was found at the open is dealt with; otherwise it stays for the
                next open.
        """
        self.unlogged = False
        carried = None if told else self._carried
        with explained(self.location):
            if self.soiled or self._carried != carried or self.sidecar.mark() is None:
                self.seal(carried)
            else:
                self.sidecar.sync_logs()

    def seal(self, carried: Carried) -> None:
        """Make everything durable and leave the mark."""
        handle = self.handle
        if handle is None or self.uuid is None:
            return
        handle.flush()
        # The system's own times may repeat within a tick of 4 ms, so that an edit just after this
        # would not show; this one is never given by the system.
        wanted = self._clock.now_us() * 1000 + int.from_bytes(self._clock.token_bytes(2)) % 1000
        os.utime(handle.fd, ns=(wanted, wanted))
        found = os.fstat(handle.fd)
        if found.st_mtime_ns != wanted:
            os.utime(handle.fd, ns=(wanted, wanted - _COARSE_NS))
            found = os.fstat(handle.fd)
        os.fsync(handle.fd)  # the time too, or it would fit no mark after a power cut
        self.sidecar.sync_logs()
        flushed = self._flushed(found)
        self.sidecar.finish(Mark(found.st_size, found.st_mtime_ns, self.uuid, carried, flushed))
        self._carried = carried
        self._signature = signature(found)
        self.soiled = False

    # How a file is found.

    def _looked_at(self, waiting: Waiting) -> Finding[D]:
        require(self.location)
        with self._locked(fcntl.LOCK_SH, waiting) as fd:
            return self._examine(fd)

    def _note(self, finding: Finding[D]) -> None:
        if self._signature is not None and finding.signature != self._signature:
            self.generation += 1
            self.noticed = True
        self._signature = finding.signature
        self._carried = carried_by(finding)
        self._identify(finding.header)

    def _opened(self, flag: Literal["r", "w"], waiting: Waiting) -> H:
        while True:
            handle = self._open_handle(flag)
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


def carried_by(finding: Finding[D]) -> Carried:
    """What of a finding stays for the next open, unless `sync` is called."""
    return None if finding.condition == "clean" else finding.condition
