"""Which start of the system this is: writes that were not flushed outlive a process, and no start."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A name of this start of the system; empty where the system has none (it is Linux's)."""
    try:
        return _BOOT_ID.read_text("ascii", "replace").strip()[:100]
    except OSError:
        return ""
