"""The twenty tests that must exist (FORMAT §10): each is there, and says what it was seen to catch."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
CLAIM = re.compile(r"FORMAT 10\.(\d+)")
LISTED = re.compile(r"Fails\s+without:\s+\S")


@cache
def claims() -> dict[str, str]:
    """Docstrings of test functions that claim a number, by name."""
    found = {}
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text("utf-8")
        if path == Path(__file__) or CLAIM.search(text) is None:
            continue
        for node in ast.walk(ast.parse(text)):
            doc = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if doc and CLAIM.search(doc):
                found[f"{path.relative_to(TESTS)}::{node.name}"] = doc  # type: ignore[attr-defined]  # a FunctionDef
    return found


def test_each_of_the_twenty_is_there() -> None:
    """A number that nobody claims is a test that does not exist."""
    claimed = {int(number) for text in claims().values() for number in CLAIM.findall(text)}
    assert claimed == set(range(1, 21))


def test_each_says_what_it_fails_without() -> None:
    """A test of a rule names what it was seen to fail without, after its "Fails without:"."""
    silent = [name for name, text in claims().items() if LISTED.search(text) is None]
    assert silent == []
