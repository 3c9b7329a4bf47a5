"""A lock file: locked through the operating system, with a record of its holder inside."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import fasteners

from ebooklet.ports.lock_service import LockInfo

_RECORD_BYTES: Final = 1024  # written in one go over the last one, so never torn by a crash
_MAX_TOKEN: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Record:
    """What the lock file says."""

    token: int
    owner: str
    host: str
    pid: int
    purpose: str
    state: str
    since_s: float  # that host's monotonic clock: a live holder's has not been reset since


_FIELDS: Final[dict[str, type]] = {
    "token": int,
    "owner": str,
    "host": str,
    "pid": int,
    "purpose": str,
    "state": str,
    "since_s": float,
}


class LockFile:
    """A lock file that this process has locked, and reads and writes through one descriptor.

    POSIX frees a process's lock when any of its descriptors of the file is closed, so this one
    stays open for as long as the lock is held.
    """

    def __init__(self, path: Path, lock: fasteners.InterProcessLock) -> None:
        self.path = path
        self.pid = os.getpid()
        self.record: Record | None = None  # what `write` wrote last
        self._lock = lock
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        found = os.fstat(self._descriptor)
        self.inode = (found.st_dev, found.st_ino)

    @classmethod
    def open(cls, path: Path) -> LockFile | None:
        """Lock a file that nobody in this process holds; None when another process does."""
        while True:
            lock = fasteners.InterProcessLock(path)
            if not lock.acquire(blocking=False):
                lock.lockfile.close()
                return None
            try:
                locked = cls(path, lock)
            except BaseException:
                lock.release()
                raise
            opened = os.fstat(lock.lockfile.fileno())
            if locked.inode == (opened.st_dev, opened.st_ino) == inode_at(path):
                return locked
            locked.close()  # it was replaced between the opening and the locking

    def read(self) -> Record | None:
        """The record of the last holder."""
        return parse_record(os.pread(self._descriptor, _RECORD_BYTES, 0))

    def write(self, record: Record) -> None:
        """Write over the record, in one call and one length."""
        data = json.dumps(asdict(record)).encode()
        os.pwrite(self._descriptor, data.ljust(_RECORD_BYTES - 1) + b"\n", 0)
        self.record = record

    def close(self) -> None:
        """Free the lock."""
        self._lock.release()
        os.close(self._descriptor)


def locked_by_another(path: Path) -> bool:
    """Whether another process has locked a file that this one does not hold."""
    file = LockFile.open(path)
    if file is not None:
        file.close()
    return file is None


def inode_at(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file that now has this name; None without one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def read_record(path: Path) -> Record | None:
    """The record of a file that this process does not hold."""
    try:
        with path.open("rb") as file:
            return parse_record(file.read(_RECORD_BYTES))
    except FileNotFoundError:
        return None


def parse_record(data: bytes) -> Record | None:
    """Read a record; None where there is none that makes sense."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.keys() != _FIELDS.keys():
        return None
    if any(type(fields[name]) is not kind for name, kind in _FIELDS.items()):
        return None
    record = Record(**fields)
    return record if 0 <= record.token < _MAX_TOKEN else None


def info_of(record: Record, age_s: float | None) -> LockInfo:
    """What a record says, and for how many seconds its holder has had the lock."""
    return LockInfo(
        owner=record.owner,
        host=record.host,
        pid=record.pid,
        purpose=record.purpose,
        token=record.token,
        state="held" if record.state == "held" else "free",
        age_s=age_s,
    )
