"""Locks of the operating system on a file (FORMAT §7): for `file://` remotes and local files.

The file stays when the lock is released, as it carries the last token and the holder's name. The
system frees the lock of a dead process at once; that of a suspended one only `force` can take, by
putting a new file in the place of the locked one, which the former holder notices.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import fasteners

from ebooklet.adapters.holding import host_name, lock_timeout
from ebooklet.adapters.keypaths import HIDDEN_FOLDER
from ebooklet.errors import LocalFileError, LockLostError
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockInfo
from ebooklet.ports.remote_store import RemoteStore

__all__ = ["FileLockService", "open_service"]

_RECORD_BYTES: Final = 1024  # written in one go over the last one, so never torn by a crash
_MAX_NAME_BYTES: Final = 200
_MAX_TOKEN: Final = (1 << 63) - 1
_POLL_FIRST_S: Final = 0.005
_POLL_MAX_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Record:
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


class _LockedFile:
    """A lock file that this process has locked, and reads and writes through one descriptor.

    POSIX frees a process's lock when any of its descriptors of the file is closed, so this one
    stays open for as long as the lock is held.
    """

    def __init__(self, path: Path, lock: fasteners.InterProcessLock) -> None:
        self.path = path
        self.pid = os.getpid()
        self.record: _Record | None = None  # what `write` wrote last
        self._lock = lock
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        found = os.fstat(self._descriptor)
        self.inode = (found.st_dev, found.st_ino)

    @classmethod
    def open(cls, path: Path) -> _LockedFile | None:
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
            if locked.inode == (opened.st_dev, opened.st_ino) == _inode(path):
                return locked
            locked.close()  # it was replaced between the opening and the locking

    def read(self) -> _Record | None:
        """The record of the last holder."""
        return _parse(os.pread(self._descriptor, _RECORD_BYTES, 0))

    def write(self, record: _Record) -> None:
        """Write over the record, in one call and one length."""
        data = json.dumps(asdict(record)).encode()
        os.pwrite(self._descriptor, data.ljust(_RECORD_BYTES - 1) + b"\n", 0)
        self.record = record

    def close(self) -> None:
        """Free the lock."""
        self._lock.release()
        os.close(self._descriptor)


class FileLockService:
    """Locks as files in a folder, held through the operating system.

    Args:
        folder: where the files are; made when first needed.
        clock: this machine's.
    """

    kind: Final = "file"
    takeover_s: Final = 0.0

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._owners: set[str] = set()

    def acquire(
        self,
        name: str,
        *,
        timeout: float,
        purpose: str = "write",
        fence: int = 0,
        force: bool = False,
    ) -> Lease:
        """See `LockService.acquire`.

        Raises:
            LocalFileError: the folder cannot be written to.
        """
        path = self._path(name)
        began = self._clock.monotonic()
        record = _Record(
            token=fence,
            owner=self._clock.token_bytes(16).hex(),
            host=host_name(),
            pid=os.getpid(),
            purpose=purpose[:100],
            state="held",
            since_s=began,
        )
        poll_s = _POLL_FIRST_S
        looks = 0
        while True:
            looks += 1
            with _failures(path):
                lease = _take(path, record, fence, self._clock, force=force)
            if lease is not None:
                lease.waited = force or looks > 1
                self._owners.add(record.owner)
                return lease
            waited = self._clock.monotonic() - began
            if waited >= timeout:
                raise lock_timeout(name, self.inspect(name), waited)
            self._clock.sleep(min(poll_s, timeout - waited))
            poll_s = min(1.5 * poll_s, _POLL_MAX_S)

    def inspect(self, name: str) -> LockInfo | None:
        """See `LockService.inspect`.

        A holder that died left `held` in the file; whether it lives shows in trying to lock.
        """
        path = self._path(name)
        with _failures(path), _in_process:
            held = _held_here(path)
            # Opening a file that is held here would free it.
            record = _read(path) if held is None else held.record
            if record is None:
                return None
            if held is None and record.state == "held" and not _locked_by_another(path):
                record = replace(record, state="free")
            return self._info(record)

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """See `LockService.break_lock`."""
        info = self.inspect(name)
        if info is None or info.state == "free" or info.owner in self._owners:
            return []
        if older_than_s > 0 and (info.age_s is None or info.age_s < older_than_s):
            return []
        purpose = f"breaking {info.purpose}"[:100]
        self.acquire(name, timeout=0, purpose=purpose, fence=info.token, force=True).release()
        return [info]

    def _path(self, name: str) -> Path:
        spelt = quote(name, safe="")
        if len(spelt) > _MAX_NAME_BYTES:
            spelt = blake2b(name.encode(), digest_size=16).hexdigest()
        return Path(os.path.realpath(self._folder)) / f"{spelt}.lock"

    def _info(self, record: _Record) -> LockInfo:
        """The holder; its age is told where the clock is the one it was acquired by.

        The monotonic one, which no administrator sets: it starts anew with the machine, but so
        does every process that could hold a lock.
        """
        if record.state == "held" and record.host == host_name():
            return _info(record, max(0.0, self._clock.monotonic() - record.since_s))
        return _info(record, None)


class _FileLease:
    """A held file; dropping the handle releases it."""

    def __init__(self, file: _LockedFile, record: _Record, clock: Clock) -> None:
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
        return _info(self.record, max(0.0, self._clock.monotonic() - self._since))

    @property
    def lost(self) -> bool:
        """Whether the file was replaced by another holder's; looks at the file's name only."""
        if self._lost_because is None:
            if os.getpid() != self._pid:
                self._lost_because = "it belongs to the process this one was forked from"
            elif not self._finalizer.alive:
                self._lost_because = "it was released"
            elif _inode(self._path) != self._inode:
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
_in_process = threading.RLock()
_held: dict[Path, _LockedFile] = {}


def _held_here(path: Path) -> _LockedFile | None:
    """The file of this process that stands at the path; one replaced by force does not."""
    file = _held.get(path)
    if file is None or file.pid != os.getpid() or file.inode != _inode(path):
        return None
    return file


def _take(
    path: Path, record: _Record, fence: int, clock: Clock, *, force: bool
) -> _FileLease | None:
    """Lock the file if it is free, or put a new one in its place; None while another holds it."""
    with _in_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = _held_here(path)
        if mine is None and (file := _LockedFile.open(path)) is not None:
            return _hold(path, file, _numbered(record, file.read(), fence), clock)
        if not force:
            return None
        # Two at once could hand out one token twice.
        guard = _LockedFile.open(path.with_suffix(".force"))
        if guard is None:
            return None
        try:
            last = mine.record if mine is not None else _read(path)
            fresh = path.with_suffix(f".{record.owner}")
            fresh.touch()
            file = _LockedFile.open(fresh)
            if file is None:
                return None
            numbered = _numbered(record, last, fence)
            file.write(numbered)
            fresh.replace(path)
            return _hold(path, file, numbered, clock)
        finally:
            guard.close()


def _hold(path: Path, file: _LockedFile, record: _Record, clock: Clock) -> _FileLease:
    file.path = path
    file.write(record)
    _held[path] = file
    return _FileLease(file, record, clock)


def _let_go(file: _LockedFile, record: _Record) -> None:
    if record.pid != os.getpid():
        return  # a child's copy: the lock is its parent's
    with _in_process:
        with suppress(OSError):  # a full disk must not keep the lock
            file.write(replace(record, state="free"))
        if _held.get(file.path) is file:
            del _held[file.path]
        file.close()


def _locked_by_another(path: Path) -> bool:
    file = _LockedFile.open(path)
    if file is not None:
        file.close()
    return file is None


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _numbered(record: _Record, last: _Record | None, fence: int) -> _Record:
    return replace(record, token=max(fence, 0 if last is None else last.token) + 1)


def _read(path: Path) -> _Record | None:
    """The record of a file that this process does not hold."""
    try:
        with path.open("rb") as file:
            return _parse(file.read(_RECORD_BYTES))
    except FileNotFoundError:
        return None


def _parse(data: bytes) -> _Record | None:
    """Read a record; None where there is none that makes sense."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.keys() != _FIELDS.keys():
        return None
    if any(type(fields[name]) is not kind for name, kind in _FIELDS.items()):
        return None
    record = _Record(**fields)
    return record if 0 <= record.token < _MAX_TOKEN else None


def _info(record: _Record, age_s: float | None) -> LockInfo:
    return LockInfo(
        owner=record.owner,
        host=record.host,
        pid=record.pid,
        purpose=record.purpose,
        token=record.token,
        state="held" if record.state == "held" else "free",
        age_s=age_s,
    )


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise LocalFileError(
            f"the lock file cannot be used ({exc.strerror}): check the folder and its permissions",
            op="lock",
            key=str(path),
        ) from exc


def open_service(
    remote: RemoteStore, clock: Clock, *, folder: Path | None = None
) -> FileLockService:
    """Open the service for a remote on this machine's file systems.

    Args:
        remote: tells where its folder is, when `folder` is not given.
        clock: this machine's.
        folder: where to keep the lock files.

    Raises:
        ValueError: no `folder`, and the remote is not a folder.
    """
    if folder is None:
        place = urlsplit(remote.location)
        if place.scheme != "file":
            raise ValueError(
                f"lock files for {remote.location} need a folder; use the lease or ticket service "
                "to lock out other machines"
            )
        folder = Path(unquote(place.path)) / HIDDEN_FOLDER / "locks"
    return FileLockService(folder, clock)
