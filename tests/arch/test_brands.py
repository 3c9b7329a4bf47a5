"""What a server can do is found out by asking it, never looked up by its name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "ebooklet"
LIBRARY = sorted(path for path in PACKAGE.rglob("*.py") if PACKAGE / "testing" not in path.parents)
# Not MinIO, whose client is one of the drivers.
BRANDS = re.compile(
    "seaweed|moto[-_ ]?server|ministack|juicefs|rclone|ceph|garage|wasabi|backblaze|cloudflare|"
    "tigris|versitygw|localstack|digitalocean|hetzner",
    re.IGNORECASE,
)


def said_by_code(tree: ast.AST) -> Iterator[str]:
    """Names and texts that code can act on: all but comments and docstrings."""
    bodies = (getattr(node, "body", None) for node in ast.walk(tree))
    first = (body[0] for body in bodies if isinstance(body, list) and body)
    docstrings = {id(node.value) for node in first if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            if id(node) not in docstrings:
                yield str(node.value)
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_no_server_is_known_by_name() -> None:
    """Outside the servers that tests start, no code names one, so none can decide by it."""
    named = {
        str(path.relative_to(PACKAGE)): text
        for path in LIBRARY
        for text in said_by_code(ast.parse(path.read_bytes()))
        if BRANDS.search(text)
    }
    assert named == {}


def test_a_name_would_be_found() -> None:
    """In a comparison it is seen, in a docstring it may stand."""
    code = '"""As rclone does."""\nif server == "rclone":\n    pass\n'
    assert [text for text in said_by_code(ast.parse(code)) if BRANDS.search(text)] == ["rclone"]
