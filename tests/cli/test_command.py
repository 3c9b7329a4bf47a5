"""The `ebooklet` command, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ebooklet


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = Path(sys.executable).parent / "ebooklet"
    return subprocess.run(
        [command, *arguments],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version() -> None:
    """`--version` prints the name and the version, and nothing else."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"ebooklet {ebooklet.__version__}\n")


def test_module_and_console_script_are_one() -> None:
    """`python -m ebooklet.cli` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "ebooklet.cli", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"ebooklet {ebooklet.__version__}\n"


def test_an_unknown_command_fails() -> None:
    """A typo is an error with a hint, not silence."""
    done = run("plugin")
    assert done.returncode == 2
    assert "plugin" in done.stderr
