"""What this process holds: its leases, and the lock files behind them."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ebooklet.adapters.locks.file.lockfile import LockFile, Record, info_of, inode_at, read_record
from ebooklet.errors import LockLostError
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import LockInfo


class FileLease:
    """A held file; dropping the handle releases it."""

    def __init__(self, file: LockFile, record: Record, clock: Clock) -> None:
        self.record = record
        self.waited = False  # whether another may have held it since it was asked for
        self._path = file.path
        self._inode = file.inode
        self._clock = clock
        self._since = clock.monotonic()
        self._pid = os.getpid()
        self._lost_because: str | None = None
        self._finalizer = weakref.finalize(self, _let_go, file, record)

    @property
    def token(self) -> int:
        """Fencing token."""
        return self.record.token

    @property
    def info(self) -> LockInfo:
        """Who holds it: this process."""
        return info_of(self.record, max(0.0, self._clock.monotonic() - self._since))

    @property
    def lost(self) -> bool:
        """Whether the file was replaced by another holder's; looks at the file's name only."""
        if self._lost_because is None:
            if os.getpid() != self._pid:
                self._lost_because = "it belongs to the process this one was forked from"
            elif not self._finalizer.alive:
                self._lost_because = "it was released"
            elif inode_at(self._path) != self._inode:
                self._lost_because = "another process broke it by force"
        return self._lost_because is not None

    def check(self) -> None:
        """Raise `LockLostError` if `lost`."""
        if self.lost:
            raise LockLostError(
                f"the lock is lost: {self._lost_because}. Nothing more was committed; changes "
                "stay pending: open the database again and push",
                op="lock",
                key=str(self._path),
            )

    def verify(self) -> None:
        """The same as `check`: the file system is the store."""
        self.check()

    def release(self) -> None:
        """Give the lock back; idempotent."""
        if os.getpid() != self._pid:
            self._finalizer.detach()  # the parent's; closing our copy of the file frees nothing
            return
        self._finalizer()


# POSIX locks belong to the process: they exclude no thread of it, and closing any descriptor of
# the file frees them. So what this process holds is known here, and such a file is not opened.
IN_PROCESS = threading.RLock()
_held: dict[Path, LockFile] = {}


def held_here(path: Path) -> LockFile | None:
    """The file of this process that stands at the path; one replaced by force does not."""
    file = _held.get(path)
    if file is None or file.pid != os.getpid() or file.inode != inode_at(path):
        return None
    return file


def take(path: Path, record: Record, fence: int, clock: Clock, *, force: bool) -> FileLease | None:
    """Lock the file if it is free, or put a new one in its place; None while another holds it."""
    with IN_PROCESS:
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = held_here(path)
        if mine is None and (file := LockFile.open(path)) is not None:
            return _hold(path, file, _numbered(record, file.read(), fence), clock)
        if not force:
            return None
        # Two at once could hand out one token twice.
        guard = LockFile.open(path.with_suffix(".force"))
        if guard is None:
            return None
        try:
            last = mine.record if mine is not None else read_record(path)
            fresh = path.with_suffix(f".{record.owner}")
            fresh.touch()
            file = LockFile.open(fresh)
            if file is None:
                return None
            numbered = _numbered(record, last, fence)
            file.write(numbered)
            fresh.replace(path)
            return _hold(path, file, numbered, clock)
        finally:
            guard.close()


def _hold(path: Path, file: LockFile, record: Record, clock: Clock) -> FileLease:
    file.path = path
    file.write(record)
    _held[path] = file
    return FileLease(file, record, clock)


def _let_go(file: LockFile, record: Record) -> None:
    if record.pid != os.getpid():
        return  # a child's copy: the lock is its parent's
    with IN_PROCESS:
        with suppress(OSError):  # a full disk must not keep the lock
            file.write(replace(record, state="free"))
        if _held.get(file.path) is file:
            del _held[file.path]
        file.close()


def _numbered(record: Record, last: Record | None, fence: int) -> Record:
    return replace(record, token=max(fence, 0 if last is None else last.token) + 1)
