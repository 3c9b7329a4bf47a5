"""The plugin that runs and tabulates adapters by servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.matrix("contract", "boto3", "moto")
def test_passes(): pass

@pytest.mark.matrix("contract", "boto3", "moto")
@pytest.mark.xfail(reason="known", strict=True)
def test_known(): assert False

@pytest.mark.matrix("contract", "boto3", "rclone", representative=False)
def test_fails(): assert False

@pytest.mark.parametrize(
    "server", [pytest.param("moto", marks=pytest.mark.matrix("life", "minio", "moto"))]
)
def test_life(server): pytest.skip("no such ability")

@pytest.fixture
def broken(): raise RuntimeError

@pytest.mark.matrix("life", "minio", "weed")
def test_error(broken): pass

def test_ordinary(): pass
"""


@pytest.fixture
def run(tmp_path: Path) -> list[str]:
    path = tmp_path / "test_cells.py"
    path.write_text(TESTS)
    return [
        *(sys.executable, "-m", "pytest", "-p", "ebooklet.testing.matrix", "--rootdir"),
        *(str(tmp_path), "-p", "no:cacheprovider", "-q", str(path)),
    ]


def said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


@pytest.mark.parametrize("parallel", [(), ("-n", "2")])
def test_the_whole_matrix(run: list[str], parallel: tuple[str, ...]) -> None:
    """`--servers` runs every cell and nothing else, and prints a table for each name."""
    out = said([*run, "--servers", *parallel])
    tables = out[out.index("= contract =") :]
    assert "|       | moto          | rclone   |" in tables
    assert "| boto3 | 1 ok, 1 known | 1 FAILED |" in tables
    assert "| minio | 1 n/a | 1 ERROR |" in tables
    assert "1 failed, 1 passed, 1 skipped, " in out
    assert "1 xfailed, 1 error" in out


def test_what_stands_for_it(run: list[str]) -> None:
    """Without it, what is not representative stays out, and there is no table."""
    out = said(run)
    assert "2 passed, 1 skipped, 1 deselected, 1 xfailed, 1 error" in out
    assert "|" not in out
