"""What a process holds: descriptors, threads, temporary files; and what it left to others."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

_PATIENCE_S = 20.0


class Held(NamedTuple):
    """Counted so that what two moments have in common cancels out."""

    descriptors: Counter[str]  # by what they lead to; sockets without their numbers
    threads: frozenset[str]
    temporary: frozenset[str]  # unfinished files


def held(folder: Path) -> Held:
    """Count, after threads that are about to end have ended, and garbage is collected.

    Args:
        folder: where local files are; unfinished ones have `tmp` in their names.
    """
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("ebooklet-"):
            thread.join(_PATIENCE_S)
    found: Counter[str] = Counter()
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208  # of this very process
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")  # noqa: PTH115  # it need not be a path
        except OSError:
            continue  # by which the folder was listed
        found[target.split(":")[0] if target.startswith(("socket:", "pipe:")) else target] += 1
    names = frozenset(thread.name for thread in threading.enumerate())
    return Held(found, names, frozenset(map(str, folder.rglob("*tmp*"))))
