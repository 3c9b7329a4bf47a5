"""The existing EBooklet in an environment of its own: the peer that is measured and moved away from.

python -m ebooklet.testing.peer FOLDER    makes the environment, or finds it there
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

__all__ = ["PEER", "peer_python"]

PEER: Final = "ebooklet==0.11.1"
# What it stores with, as installed when its format was learned, and its serializers' packages.
_WITH: Final = ("booklet==0.12.10", "s3func==0.9.6", "msgpack==1.2.4", "zstandard==0.25.0")


def peer_python(folder: Path) -> Path:
    """The interpreter of an environment with the existing EBooklet, made if it is not there.

    Args:
        folder: of the environment; whatever else is in it is removed.

    Raises:
        subprocess.CalledProcessError: pip could not install it; what pip said is on the screen.
    """
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    wanted = "\n".join((PEER, *_WITH))
    if not ready.exists() or ready.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        quietly = ["--quiet", "--no-compile", "--disable-pip-version-check"]
        pip = [str(python), "-m", "pip", "install", *quietly]
        subprocess.run([*pip, PEER, *_WITH], check=True)  # noqa: S603 - fixed requirements
        ready.write_text(wanted)
    return python


if __name__ == "__main__":
    peer_python(Path(sys.argv[1]))
