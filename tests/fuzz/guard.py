"""What must not happen while bytes of strangers are decoded, written down by the interpreter itself.

An audit hook (PEP 578) sees every file that is opened, every module that is looked for, every class
that a pickle names and every process that is started, whoever asks for it, C code included.
"""

from __future__ import annotations

import os
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_NEVER: Final = frozenset(
    (
        "ctypes.dlopen",
        "import",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pickle.find_class",
        "socket.connect",
        "subprocess.Popen",
    )
)
_ON_PATHS: Final = frozenset(
    (
        "open",
        "os.chmod",
        "os.link",
        "os.listdir",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.scandir",
        "os.symlink",
        "os.truncate",
        "shutil.rmtree",
        "sqlite3.connect",
    )
)


_OF_THE_SYSTEM: Final = "/proc/sys/kernel/random/boot_id"
"""What the library itself opens, whatever the bytes say: whether the system was started anew."""


class _Watch:
    """What is seen while `folders` is set."""

    def __init__(self) -> None:
        self.folders: tuple[str, ...] | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        folders = self.folders
        if folders is None:
            return
        if event in _NEVER:
            self.seen.append(f"{event} {args[0] if args else ''!r}")
        elif event in _ON_PATHS:
            for path in args[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                if not isinstance(path, int) and not _is_inside(path, (*folders, _OF_THE_SYSTEM)):
                    self.seen.append(f"{event} {path!r}")


_watch: Final = _Watch()
_hooked: Final[list[bool]] = []  # a hook stays for as long as the process lives


def _is_inside(path: Any, folders: tuple[str, ...]) -> bool:
    whole = os.path.realpath(os.fsdecode(path))
    return any(whole == folder or whole.startswith(folder + os.sep) for folder in folders)


@contextmanager
def watched(*folders: Path) -> Iterator[list[str]]:
    """Yield a list of what happens in the block and must not: imports, pickles, foreign files, ….

    Args:
        folders: where files may be opened.
    """
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_watch)
    _watch.seen = []
    _watch.folders = tuple(os.path.realpath(folder) for folder in folders)
    try:
        yield _watch.seen
    finally:
        _watch.folders = None


class Peak:
    """Bytes that Python held at most within `measured`, beyond those at its beginning."""

    used: int = 0


@contextmanager
def measured() -> Iterator[Peak]:
    """Measure a block's memory, as far as it is Python's (numpy's included, Arrow's not)."""
    peak = Peak()
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield peak
    finally:
        peak.used = tracemalloc.get_traced_memory()[1] - before
        if started:
            tracemalloc.stop()


SCRATCH: Final = Path(tempfile.gettempdir()).resolve()
"""Where temporary files of the library itself may be."""
