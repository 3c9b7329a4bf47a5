"""The lock service of files in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from ebooklet.adapters.holding import host_name, is_old_enough, lock_timeout
from ebooklet.adapters.keypaths import HIDDEN_FOLDER
from ebooklet.adapters.locks.file.lease import IN_PROCESS, held_here, take
from ebooklet.adapters.locks.file.lockfile import Record, info_of, locked_by_another, read_record
from ebooklet.errors import LocalFileError
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import Lease, LockInfo
from ebooklet.ports.remote_store import RemoteStore

_MAX_NAME_BYTES: Final = 200
_POLL_FIRST_S: Final = 0.005
_POLL_MAX_S: Final = 0.25


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
        record = Record(
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
                lease = take(path, record, fence, self._clock, force=force)
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
        with _failures(path), IN_PROCESS:
            held = held_here(path)
            # Opening a file that is held here would free it.
            record = read_record(path) if held is None else held.record
            if record is None:
                return None
            if held is None and record.state == "held" and not locked_by_another(path):
                record = replace(record, state="free")
            return self._info(record)

    def break_lock(self, name: str, *, older_than_s: float = 0.0) -> list[LockInfo]:
        """See `LockService.break_lock`."""
        info = self.inspect(name)
        if info is None or info.state == "free" or info.owner in self._owners:
            return []
        if not is_old_enough(info.age_s, older_than_s):
            return []
        purpose = f"breaking {info.purpose}"[:100]
        self.acquire(name, timeout=0, purpose=purpose, fence=info.token, force=True).release()
        return [info]

    def _path(self, name: str) -> Path:
        spelt = quote(name, safe="")
        if len(spelt) > _MAX_NAME_BYTES:
            spelt = blake2b(name.encode(), digest_size=16).hexdigest()
        return Path(os.path.realpath(self._folder)) / f"{spelt}.lock"

    def _info(self, record: Record) -> LockInfo:
        """The holder; its age is told where the clock is the one it was acquired by.

        The monotonic one, which no administrator sets: it starts anew with the machine, but so
        does every process that could hold a lock.
        """
        if record.state == "held" and record.host == host_name():
            return info_of(record, max(0.0, self._clock.monotonic() - record.since_s))
        return info_of(record, None)


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
