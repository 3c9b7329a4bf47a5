"""What it takes to begin: milliseconds over those of a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measurements import Measurements

ROUNDS: Final = 7
BARE: Final = "python"
IMPORT: Final = "import ebooklet"
HELP: Final = "ebooklet --help"
COMMANDS: Final[dict[str, Sequence[str]]] = {
    BARE: (sys.executable, "-c", "pass"),
    IMPORT: (sys.executable, "-c", "import ebooklet"),
    HELP: (str(Path(sys.executable).with_name("ebooklet")), "--help"),
}


def measure(results: Measurements) -> None:
    """Add samples of each command, in turn; the first of each compiles, and does not count."""
    for number in range(ROUNDS + 1):
        for title, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number:
                results.startup.setdefault(title, []).append(time.perf_counter() - began)
