"""Every example runs, as the script that it is, and says what it should."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from ebooklet.testing.servers import S3Server

pytestmark = pytest.mark.usefixtures("lean_processes")

EXAMPLES = Path(__file__).parents[2] / "examples"


def said(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    """What a script prints; it has to end well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, argv)],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(moto: S3Server) -> dict[str, str]:
    """A bucket with credentials, as the examples take them."""
    return {
        "S3_ENDPOINT_URL": moto.endpoint_url,
        "S3_BUCKET": moto.new_bucket(),
        "S3_ACCESS_KEY_ID": moto.access_key_id,
        "S3_ACCESS_KEY": moto.access_key,
    }


def test_by_url() -> None:
    """A database named by a URL: published, changed, and read as somebody else."""
    out = said(EXAMPLES / "by_url.py")
    assert "32 characters; A is the first letter" in out
    assert "['U+0043', 'U+0044', 'U+0045']" in out


def test_booklet_then_push() -> None:
    """A plain Booklet file becomes a database, and its later edits are its changes."""
    out = said(EXAMPLES / "booklet_then_push.py")
    assert "1000 keys to push: 1000" in out
    assert "[('0007', 'modified'), ('0999', 'deleted')]" in out
    assert "999 {'square': 49, 'prime': True}" in out


def test_s3_with_credentials(environment: dict[str, str]) -> None:
    """Two colleagues on one bucket; the secret is not printed."""
    out = said(EXAMPLES / "s3_credentials.py", env=environment)
    assert "commit 2: 1 key" in out
    assert "takurua" in out
    assert environment["S3_ACCESS_KEY"] not in out


def test_groups(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A catalogue names its members, and each opens from its entry; `local_server.py` runs it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    runner = importlib.import_module("local_server")
    monkeypatch.setattr(runner, "start_moto", lambda _: nullcontext(moto))
    assert runner.main([str(EXAMPLES / "groups.py")]) == 0
    assert "summer: Months of summer: 01, 02, 12" in capfd.readouterr().out


@pytest.mark.parametrize(
    "script", ["s3_credentials", "groups", "dask_cluster", "public_reading", "local_server"]
)
def test_without_what_it_needs(script: str) -> None:
    """A line of usage, and exit code 2: no traceback."""
    path = EXAMPLES / f"{script}.py"
    alone = {name: value for name, value in os.environ.items() if not name.startswith("S3_")}
    done = subprocess.run(
        [sys.executable, path], env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert f"python {path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_has_a_command() -> None:
    """The page gives a command for every example, and none for what is not there."""
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^    (.+)$", page, re.MULTILINE))
    named = set(re.findall(r"examples/([\w.-]+)", commands))
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert named == there - {"ucd.py", "__pycache__"}  # the first is data of two others


def test_public_reading(
    environment: dict[str, str], moto: S3Server, publish: Callable[[S3Server, str], str]
) -> None:
    """What one example published, another reads by its URL alone."""
    said(EXAMPLES / "s3_credentials.py", env=environment)
    url = publish(moto, environment["S3_BUCKET"])
    out = said(EXAMPLES / "public_reading.py", f"{url}/examples/seasons")
    assert "4 keys, for example autumn" in out
    assert "offline:" in out
    assert "takurua" in out


def test_embedding(tmp_path: Path) -> None:
    """An application wires the parts by itself, and its stations share what they publish."""
    out = said(EXAMPLES / "embedding", tmp_path)
    assert "known here: ['avon/mon', 'avon/tue', 'bealey/mon']" in out


def test_the_plugin_package(tmp_path: Path) -> None:
    """A package that pip installed adds a serializer and a store by name, and keeps the contracts."""
    package = EXAMPLES / "plugin-package"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    subprocess.run([*pip, "--target", tmp_path / "site", package], check=True, capture_output=True)
    installed = {"PYTHONPATH": str(tmp_path / "site")}
    listed = said("-m", "ebooklet.cli", "plugins", env=installed)
    assert "ebooklet-shelf 0.1" in listed
    here = ("-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-o", "addopts=", "-c", os.devnull)
    alone = {**installed, "PYTEST_ADDOPTS": ""}
    out = said("-m", "pytest", *here, "--rootdir", tmp_path, package / "tests", env=alone)
    assert re.search(r"\b\d\d passed", out)


@pytest.mark.parametrize(("module", "lines"), [("decimals", 30), ("sqlite", 100)])
def test_plugins_are_short(module: str, lines: int) -> None:
    """A serializer takes 30 lines at most, a remote store 100."""
    path = EXAMPLES / "plugin-package" / "src" / "ebooklet_shelf" / f"{module}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= lines
