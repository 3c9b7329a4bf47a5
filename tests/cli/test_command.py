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


def test_plugins_lists_everything_installed(tmp_path: Path) -> None:
    """Built-ins, a third party's package and a broken one are listed with where they come from."""
    info = tmp_path / "stranger-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(
        "[ebooklet.serializers]\nfine = stranger:FINE\nbad = stranger:NOT_THERE\njson = stranger:X\n"
    )
    (tmp_path / "stranger.py").write_text("FINE = 1\n")
    done = run("plugins", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["fine", "stranger", "2.5", "ready"] in rows
    assert ["orjson", "ebooklet", ebooklet.__version__, "ready"] in rows
    assert any(row[:4] == ["bad", "stranger", "2.5", "broken:"] for row in rows)
    assert sum(row[:1] == ["json"] and "claimed" in row for row in rows) == 2


def test_an_unknown_command_fails() -> None:
    """A typo is an error with a hint, not silence."""
    done = run("plugin")
    assert done.returncode == 2
    assert "plugin" in done.stderr
