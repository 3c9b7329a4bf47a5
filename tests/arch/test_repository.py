"""The repository itself: the layers hold, and nothing of one machine is in it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ebooklet.plugins.extras import EXTRAS

REPOSITORY = Path(__file__).parents[2]
SKIPPED = re.compile(r"(^|/)(\.|__pycache__|build/|dist/|.*\.egg-info)")
# Spelled apart, so that this file does not find itself.
MACHINE = re.compile(
    "|".join(("/" + "root/", "/" + "work/", "/" + "home/[a-z]", "/Us" + "ers/", r"C:\\" + "Users"))
)
REGISTRY = re.compile(
    r"(index|extra-index|find-links)[-_ ]?(url)?\s*=?\s*[\"']?(https?|file):|"
    + "|".join(("pypi" + r"\.org", "pytho" + "nhosted", "npm" + "js", "arti" + "factory"))
)


def tracked_files() -> list[Path]:
    """Every file of the repository: by git where it is there, else what is not hidden or built."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, timeout=60
        ).stdout.decode()
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        every = (path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.rglob("*"))
        names = [name for name in every if not SKIPPED.search(name)]
    return [path for name in names if (path := REPOSITORY / name).is_file()]


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    """`file:line` of every match in the repository's text."""
    return [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").split("\n"), 1)
        if pattern.search(line)
    ]


def test_no_path_of_a_machine() -> None:
    """No file names a folder that exists on one machine only."""
    assert lines_matching(MACHINE) == []


def test_no_registry_host() -> None:
    """Where packages come from is the user's configuration, never ours."""
    assert lines_matching(REGISTRY) == []


def test_constraints_are_plain() -> None:
    """`constraints.txt` has only `name==version` lines: no hosts, no paths, no options."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []


def test_the_layers_hold() -> None:
    """import-linter's contracts in pyproject.toml are kept."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    """The `[project]` table."""
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert isinstance(table, dict)
    return table


def test_every_extra_that_errors_name_exists(project: dict[str, object]) -> None:
    """What a message tells the user to install can be installed."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    assert set(EXTRAS.values()) <= set(extras)


def test_every_extra_is_in_all(project: dict[str, object]) -> None:
    """`ebooklet[all]` brings every extra that users want; the others are for who tests or develops."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    inside = re.fullmatch(r"ebooklet\[(.*)\]", extras["all"][0])
    assert inside is not None
    assert set(inside[1].split(",")) == set(extras) - {"all", "dev", "fuzz", "servers", "testing"}
