"""The lock between processes and between handles of one process: one writer, or readers.

flock belongs to the open file, not to the process: two handles of one process exclude each other,
and closing one of them frees nothing of the other's. POSIX record locks (fasteners) do neither.
Booklet's own lock on the file itself is of the same kind, so nothing is lost in reach.

A reader passes the gate only while it opens the file; a writer keeps it shut. So readers that come
again and again cannot keep a writer waiting for longer than their current lease of the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ebooklet.adapters.localfiles.files import read_file
from ebooklet.errors import LockTimeout, ReadOnlyError
from ebooklet.ports.clock import Clock

_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.02
_FLAGS: Final = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Waiting:
    """Pauses between attempts, ever longer, until the time is up."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        self._clock = clock
        self._until = clock.monotonic() + timeout
        self._pause = _FIRST_PAUSE_S

    @property
    def left(self) -> float:
        """Seconds left; 0 when the time is up."""
        return max(0.0, self._until - self._clock.monotonic())

    def pause(self) -> bool:
        """Sleep before another attempt; False when the time is up."""
        left = self.left
        if left <= 0:
            return False
        self._clock.sleep(min(self._pause, left))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)
        return True


class Gate:
    """The file `lock` of a sidecar folder; one per handle. Not for several threads at once."""

    def __init__(self, folder: Path, location: Path, clock: Clock) -> None:
        self._path = folder / "lock"
        self._location = location
        self._clock = clock
        self._fd: int | None = None
        self._writable = False  # how the descriptor was opened
        self._shut = False

    @property
    def is_shut(self) -> bool:
        """Whether this handle is the writer."""
        return self._shut

    def shut(self, waiting: Waiting) -> None:
        """Become the writer. Raises `LockTimeout` naming the one that is."""
        self._lock(fcntl.LOCK_EX, waiting)
        self._shut = True
        note = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since_us": self._clock.now_us(),
        }
        self._write(json.dumps(note).encode())

    def open(self) -> None:
        """Cease to be the writer; idempotent."""
        if self._shut:
            self._shut = False
            self._write(b"")
            self._unlock()

    @contextlib.contextmanager
    def passing(self, waiting: Waiting) -> Iterator[None]:
        """Keep writers out while a reader opens the file."""
        locked = True
        try:
            self._lock(fcntl.LOCK_SH, waiting)
        except (FileNotFoundError, PermissionError, ReadOnlyError):
            locked = False  # no folder, or one that may not be written: no writer of ours is there
        try:
            yield
        finally:
            if locked:
                self._unlock()

    def close(self) -> None:
        """Release everything; idempotent."""
        self.open()
        self.forget()

    def forget(self) -> None:
        """Close the descriptor alone: what a forked child does with its parent's lock."""
        self._shut = False
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def holder(self) -> str:
        """Who is the writer, for messages."""
        try:
            note = json.loads(read_file(self._path, 1000) or b"")
            pid, host = int(note["pid"]), str(note["host"])[:100]
            held = max(0, self._clock.now_us() - int(note["since_us"])) // 1_000_000
        except (ValueError, KeyError, TypeError, OSError, OverflowError, RecursionError):
            return "another program"
        here = pid == os.getpid() and host == socket.gethostname()
        process = f"process {pid} on {host}"
        if here:
            process += ", by another handle in this process"
        return f"{process}, which has written to it for {held} s"

    def timeout(self) -> LockTimeout:
        """The error for a wait in vain."""
        # Behind its own gate a writer waits for the file itself.
        holder = "a program that reads it or has it open in Booklet"
        return LockTimeout(
            f"{self._location} is in use by {holder if self._shut else self.holder()}: "
            "close it there, or wait longer",
            op="open",
        )

    def _lock(self, kind: int, waiting: Waiting) -> None:
        while True:
            fd = self._descriptor(kind)
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                    raise
                if not waiting.pause():
                    raise self.timeout() from None
                continue
            if self._is_current(fd):
                return
            self.forget()  # the folder was removed and made anew meanwhile

    def _descriptor(self, kind: int) -> int:
        if self._fd is not None and (self._writable or kind == fcntl.LOCK_SH):
            return self._fd
        self.forget()
        try:
            self._fd = os.open(self._path, os.O_RDWR | _FLAGS, 0o666)
            self._writable = True
        except OSError as exc:
            if exc.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            if kind == fcntl.LOCK_EX:
                raise self._read_only() from None
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._writable = False
        return self._fd

    def _read_only(self) -> ReadOnlyError:
        return ReadOnlyError(
            f"{self._path.parent} may not be written: correct its permissions, or open with 'r'",
            op="open",
        )

    def _is_current(self, fd: int) -> bool:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(fd)
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def _unlock(self) -> None:
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):  # a full disk; the note is only for messages
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, data, 0)
