"""Disks that become full and folders that can only be read: by a small tmpfs, and by a limit.

A tmpfs is mounted where that is allowed (root, in a container or not). A limit on the size of files
(`RLIMIT_FSIZE`) needs no rights, and makes the same writes fail at the same bytes.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ROOMY: Final = 256 * 1024 * 1024  # bytes


def _mount(*arguments: str) -> bool:
    program = shutil.which("mount")
    if program is None:
        return False
    return subprocess.run([program, *arguments], capture_output=True, check=False).returncode == 0


class SmallDisk:
    """A file system of its own for a folder; a context manager.

    Args:
        folder: where; made if it is not there.
        mount: whether to try.

    Attributes:
        mounted: whether that was allowed; otherwise the folder is an ordinary one, and nothing
            below does anything.
    """

    def __init__(self, folder: Path, *, mount: bool = True) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        size = f"size={_ROOMY}"
        self.mounted = mount and _mount("-t", "tmpfs", "-o", size, "tmpfs", str(folder))

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *_: object) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=False)

    def squeeze(self, spare: int) -> bool:
        """Leave so many bytes; whether it could be done."""
        used = shutil.disk_usage(self._folder).used
        return self._remount(f"size={used + spare}")

    def relax(self) -> None:
        """Make room, and let it be written to."""
        self._remount(f"size={_ROOMY},rw")

    def freeze(self) -> bool:
        """Let it be read only; whether it could be done: nobody may have a file open to write."""
        return self._remount("ro")

    def _remount(self, options: str) -> bool:
        return self.mounted and _mount("-o", f"remount,{options}", str(self._folder))


@contextmanager
def room_for(path: Path, n_bytes: int) -> Iterator[None]:
    """Let files grow only to so much more than this one has, as a disk that is nearly full does.

    Args:
        path: a file, or a folder whose largest file it is then.
        n_bytes: how much more.
    """
    files = path.rglob("*") if path.is_dir() else (path,)
    largest = max((one.stat().st_size for one in files if one.is_file()), default=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
