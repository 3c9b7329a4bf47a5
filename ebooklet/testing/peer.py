"""Libraries in environments of their own; the existing EBooklet is the one that tests move away from.

python -m ebooklet.testing.peer FOLDER    makes the environment of EBooklet 0.11.1, or finds it there
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["PEER", "PEER_REQUIREMENTS", "environment_python", "peer_python"]

PEER: Final = "ebooklet==0.11.1"
# What it stores with, as installed when its format was learned, and its serializers' packages.
PEER_REQUIREMENTS: Final = (
    PEER,
    "booklet==0.12.10",
    "s3func==0.9.6",
    "msgpack==1.2.4",
    "zstandard==0.25.0",
)


def environment_python(folder: Path, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages, made if it is not there.

    Args:
        folder: of the environment; whatever else is in it is removed.
        requirements: as pip takes them; pinned, as the environment stays as long as they are equal.

    Raises:
        subprocess.CalledProcessError: pip could not install them; what pip said is on the screen.
    """
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    wanted = "\n".join(requirements)
    if not ready.exists() or ready.read_text() != wanted:
        # Our own pip installs into it: to give it one would take longer than most packages.
        venv.create(folder, clear=True, with_pip=False)
        quietly = ["--quiet", "--no-compile", "--disable-pip-version-check"]
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *quietly]
        subprocess.run([*pip, *requirements], check=True)  # noqa: S603 - our own requirements
        ready.write_text(wanted)
    return python


def peer_python(folder: Path) -> Path:
    """The interpreter of an environment with the existing EBooklet; as `environment_python`."""
    return environment_python(folder, PEER_REQUIREMENTS)


if __name__ == "__main__":
    peer_python(Path(sys.argv[1]))
