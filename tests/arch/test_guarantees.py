"""`docs/guarantees.md` and `SECURITY.md`: each promise names tests, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/guarantees.md", "SECURITY.md")
TEST = re.compile(r"`([\w/]+\.py)::([\w:]+)(?:\[([^\]]+)\])?`")


@cache
def _tests_of(module: str) -> frozenset[str]:
    """The tests of a module below `tests/`; those of a class as `Class::test`."""
    tree = ast.parse((ROOT / "tests" / module).read_text("utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{each.name}" for each in node.body if hasattr(each, "name")}
    return frozenset(names)


@cache
def _texts_beside(module: str) -> str:
    """A module and those beside it, where its tables of cases are."""
    folder = (ROOT / "tests" / module).parent
    return "".join(path.read_text("utf-8") for path in sorted(folder.glob("*.py")))


def _rows(page: str) -> list[str]:
    """The rows of its tables that promise something, without headings."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    tables = [line for line in lines if line.startswith("|")]
    headings = {n for n, line in enumerate(tables) if line.startswith("|---")}
    return [line for n, line in enumerate(tables) if not headings & {n, n + 1}]


@pytest.mark.parametrize("page", PAGES)
def test_every_promise_names_tests_that_exist(page: str) -> None:
    """A row without a test, or with one that was renamed or removed, promises nothing."""
    promises = _rows(page)
    assert len(promises) > 10
    assert [row for row in promises if not TEST.search(row)] == []
    missing = [
        f"{module}::{name}"
        for row in promises
        for module, name, case in TEST.findall(row)
        if not (ROOT / "tests" / module).exists()
        or name not in _tests_of(module)
        or (case and f'"{case}"' not in _texts_beside(module))
    ]
    assert missing == []
