"""What was begun and what was acknowledged: lines in a file, written before and after each call.

The oracle believes nothing else. A line is one `write` to a file opened for appending, which a
SIGKILL of the process, before or after, leaves alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

Note = dict[str, Any]  # "at" (s, the machine's monotonic clock), "who", "what", and facts by name

LIFE: Final = "life"  # a process began
BEGIN: Final = "begin"  # a call
END: Final = "end"  # it returned
ERROR: Final = "error"  # it raised one of ours, or one of the system's
FOREIGN: Final = "foreign"  # it raised anything else
FOUND: Final = "found"  # what stands in the local half at the beginning of a life
MENDED: Final = "mended"  # what damage may have made of others' values was given up
SEEN: Final = "seen"  # what a reader read
HISTORY: Final = "history"  # the commits there are


class Ledger:
    """Append notes of one process."""

    def __init__(self, folder: Path, who: str) -> None:
        self.path = folder / f"{who}.ledger"
        self._who = who
        flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
        self._fd = os.open(self.path, flags, 0o600)

    def note(self, what: str, **facts: object) -> None:
        """Write a line, which is in the file when this returns."""
        line = {"at": time.monotonic(), "who": self._who, "what": what, **facts}
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def read(path: Path) -> list[Note]:
    """All notes of one process."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]  # after the last line end: nothing, or torn


def read_all(folder: Path, names: Iterable[str]) -> list[Note]:
    """The notes of all, in the order in which they were made."""
    notes = [note for name in names for note in read(folder / f"{name}.ledger")]
    return sorted(notes, key=lambda note: note["at"])
