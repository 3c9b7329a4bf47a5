"""`update` with many items: written in pieces, and nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import booklet
import pytest

from ebooklet.bootstrap import open as open_database


def test_many_items_are_what_single_sets_would_have_made(tmp_path: Path) -> None:
    """Beyond the index's room, twice the same key, a bad item: all before it, the last of each."""
    path = tmp_path / "local.blt"
    pairs: list[Any] = [(f"k{n % 4500}", b"%d" % n) for n in range(5000)]
    with open_database("memory://bulk", path, "c", value_serializer="bytes", n_buckets=50) as db:
        db["k7"] = b"old"
        with pytest.raises(TypeError):
            db.update([*pairs, (7, b"no key"), ("after", b"")])
        assert len(db) == 4500
        assert dict(db.items()) == dict(pairs)
        assert sum(1 for _ in db.changes().iter_changes()) == 4500
    with booklet.open(path) as file:
        assert len(file) == 4500


def test_an_iterator_sees_what_it_has_given(tmp_path: Path) -> None:
    """Each item of an iterator is there when the next one is asked for, as in a dict."""
    with open_database("memory://bulk", tmp_path / "c.blt", "c", value_serializer="json") as db:

        def counted() -> Iterator[tuple[str, int]]:
            for word in ["a", "b", "a"] * 100:
                yield word, db.get(word, 0) + 1

        db.update(counted())
        assert dict(db.items()) == {"a": 200, "b": 100}
