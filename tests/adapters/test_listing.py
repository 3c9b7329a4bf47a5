"""Which keys a list of a server is asked for, and which of its answers count."""

from __future__ import annotations

import pytest

from ebooklet.adapters.listing import asked_prefix, is_wanted, start_after


@pytest.mark.parametrize(
    ("prefix", "asked"),
    [
        ("", ""),
        ("a", "a"),
        ("a/", "a/"),
        ("a/b", "a/b"),
        (".", ""),
        ("a/.", "a/"),
        ("a/..", "a/"),
        (".hidden", ".hidden"),
        ("../", None),
        ("./a", None),
        ("a//", None),
        ("/", None),
        ("/a", None),
        ("a/../b", None),
    ],
)
def test_prefixes(prefix: str, asked: str | None) -> None:
    """What no key begins with is not asked for; what may look like it is asked for a folder up."""
    assert asked_prefix(prefix) == asked


@pytest.mark.parametrize(
    ("after", "sent"),
    [
        ("", None),
        ("d/", None),
        ("d/0001", "d/0001"),
        ("d/a-b", None),
        ("d/a/b", None),
        ("c", None),
        ("e", None),
    ],
)
def test_what_a_server_may_skip(after: str, sent: str | None) -> None:
    """A server skips only by letters and digits, which all servers put in one order."""
    assert start_after("d/", after) == sent


def test_what_counts() -> None:
    """Folders shown as objects, names below another prefix and those already seen do not count."""
    listed = ["d", "d/", "d/a", "d/a/", "d/b", "d//c", "e"]
    assert [key for key in listed if is_wanted(key, "d/", "d/a")] == ["d/b"]
