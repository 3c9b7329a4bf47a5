"""Slips that people make: each is said in words that help, and nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import booklet
import pytest

import ebooklet
from ebooklet.services.request import Flag
from ebooklet.testing.servers import start_http_server


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_a_flag_where_the_path_belongs(flag: str, tmp_path: Path) -> None:
    """`open(url, "c")` would make a file of that name; it is taken for the slip it is."""
    with pytest.raises(ValueError, match=f"flag='{flag}'"):
        ebooklet.open("memory://careless-flag", flag)
    with ebooklet.open("memory://careless-flag", tmp_path / flag, "c") as db:
        assert len(db) == 0


@pytest.mark.parametrize("flag", ["r", "w", "c"])
def test_a_file_of_the_existing_ebooklet(flag: Flag, tmp_path: Path) -> None:
    """With its index beside it, it may be a cache: refused, named, and left as it was."""
    path = tmp_path / "old.blt"
    with booklet.open(path, "n", "str", "json") as file:
        file["a"] = 1
    (tmp_path / "old.blt.remote_index").write_bytes(b"any")
    before = path.read_bytes()
    with pytest.raises(ebooklet.LocalFileError, match=r"ebooklet\.migrate"):
        ebooklet.open(f"memory://careless-old-{flag}", path, flag)
    assert path.read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        "old.blt",
        "old.blt.remote_index",
    ]


def test_repr_of_changes_counts_what_is_listed() -> None:
    """A key that came and went before any push is no change."""
    with ebooklet.open(None, None, "c", "json") as db:
        db.update({"a": 1, "b": 2})
        del db["b"]
        assert repr(db.changes()) == "<Changes: 1 keys>"
        assert len(db.changes()) == 1


def test_a_message_that_is_none() -> None:
    """A number is refused before anything is pushed."""
    with ebooklet.open("memory://careless-message", flag="c") as db:
        db["a"] = 1
        with pytest.raises(TypeError, match="message is a str, not int"):
            db.push(3)  # type: ignore[arg-type]  # the slip itself
        assert len(db.changes()) == 1


def test_a_public_url_without_a_database(tmp_path: Path) -> None:
    """The remedy is one that a reader has: flag "c" would only be refused."""
    with (
        start_http_server(tmp_path, tmp_path / "log") as url,
        pytest.raises(ebooklet.RemoteMissingError) as caught,
    ):
        ebooklet.open(f"{url}/nothing")
    assert "check the URL" in str(caught.value)
    assert "//nothing" not in str(caught.value)


def test_an_argument_that_there_is_not() -> None:
    """The error names the method as callers know it, whichever class it stands in."""
    with ebooklet.open("memory://careless-arguments", None, "c", "json") as db:
        for method in ("fsck", "log", "keys", "map", "push"):
            with pytest.raises(TypeError, match=rf"EBooklet\.{method}\(\)"):
                getattr(db, method)(no_such=True)
