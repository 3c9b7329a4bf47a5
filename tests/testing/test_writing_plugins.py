"""The adapters of docs/writing-plugins.md keep the contracts that the page subclasses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.test_docs import REPOSITORY, python_blocks

PAGE = REPOSITORY / "docs" / "writing-plugins.md"


def test_what_the_page_writes_passes(tmp_path: Path) -> None:
    """Its code in one module, run by pytest as its reader would: all passes but the deviation."""
    module = tmp_path / "test_tables.py"
    module.write_text("\n\n".join(block.code for block in python_blocks(PAGE)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", module],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert ", 1 xfailed" in done.stdout
    shown = [
        part for part in PAGE.read_text(encoding="utf-8").split("```text\n") if part[:3] == "==="
    ]
    for line in shown[0].partition("```")[0].splitlines()[1:]:
        assert line in done.stdout
