"""The rules that tests name behind "Fails without:", and what removes each of them."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
NUMBERED: Final = re.compile(r"FORMAT 10\.(\d+)")
_LIST: Final = re.compile(r"Fails\s+without:\s+(.+?)\.?\s*(?:\n\s*\n|\Z)", re.DOTALL)


class Edit(NamedTuple):
    """A text that stands once in a file of the library, and what is put in its place."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """The library with one rule less, and the test that guards it."""

    test: str  # "tests/….py::name"
    rule: str  # as the test's docstring calls it
    edits: tuple[Edit, ...]


def mutants() -> list[Mutant]:
    """What `mutants.toml` lists, in its order."""
    table = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text("utf-8"))
    return [
        Mutant(test, rule, tuple(Edit(**edit) for edit in edits))
        for test, rules in table.items()
        for rule, edits in rules.items()
    ]


@cache
def numbered_tests() -> dict[str, str]:
    """The docstrings of test functions that claim a number of FORMAT §10, by "tests/….py::name"."""
    found = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text("utf-8")
        if NUMBERED.search(text) is None:
            continue
        for node in ast.parse(text).body:
            doc = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if isinstance(node, ast.FunctionDef) and doc and NUMBERED.search(doc):
                found[f"{path.relative_to(ROOT)}::{node.name}"] = doc
    return found


def rules_in(docstring: str) -> list[str]:
    """What a test says that it fails without; rules are parted by semicolons."""
    match = _LIST.search(docstring)
    if match is None:
        return []
    return [" ".join(rule.split()) for rule in match[1].split(";")]
