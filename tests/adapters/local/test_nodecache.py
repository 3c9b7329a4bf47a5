"""The cache of nodes forgets, survives damage, and is shared."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ebooklet.adapters.localfiles.nodecache import NodeCache
from ebooklet.testing.children import in_child

NODES = {bytes([i]) * 24: bytes([i]) * 2000 for i in range(100)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nodes"


def test_shared_and_lasting(path: Path) -> None:
    """Two caches of one file see each other's nodes, a later one sees both's."""
    one, two = NodeCache(path), NodeCache(path)
    one.put(dict(list(NODES.items())[:50]))
    two.put(dict(list(NODES.items())[50:]))
    assert one.get(list(NODES)) == two.get(list(NODES)) == NODES
    one.close()
    two.close()
    later = NodeCache(path)
    assert later.get([*NODES, b"unknown"]) == NODES
    later.close()


def test_reading_makes_no_file(path: Path) -> None:
    """A cache that nothing was put into is no file."""
    cache = NodeCache(path)
    assert cache.get(list(NODES)) == {}
    cache.close()
    assert not path.exists()


@pytest.mark.parametrize("damage", ["garbage", "another table", "a folder", "cut"])
def test_damage(path: Path, damage: str) -> None:
    """A damaged file is replaced by an empty one, or done without."""
    if damage == "garbage":
        path.write_bytes(b"garbage" * 1000)
    elif damage == "another table":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE nodes (something INTEGER)")
        connection.close()
    elif damage == "a folder":
        path.mkdir()
    else:
        cache = NodeCache(path)
        cache.put(NODES)
        cache.close()
        path.write_bytes(path.read_bytes()[:5000])
    for _ in range(2):
        cache = NodeCache(path)
        assert cache.get(list(NODES)).items() <= NODES.items()
        cache.put(NODES)
        assert cache.get(list(NODES)).items() <= NODES.items()
        cache.close()
    if damage in ("garbage", "cut"):
        cache = NodeCache(path)
        assert cache.get(list(NODES)) == NODES
        cache.close()


def test_bounded(path: Path) -> None:
    """The file stays near its bound; the newest nodes stay."""
    cache = NodeCache(path, max_bytes=400_000)
    for number in range(40):
        cache.put({b"%d-%d" % (number, i): bytes(2000) for i in range(20)})
    found = cache.get([b"%d-%d" % (n, i) for n in range(40) for i in range(20)])
    assert path.stat().st_size < 700_000
    assert 50 < len(found) < 300
    assert b"39-19" in found
    cache.close()


def test_forgotten_in_a_child(path: Path) -> None:
    """A forked child leaves the parent's connection alone."""
    cache = NodeCache(path)
    cache.put(NODES)

    def child() -> None:
        cache.abandon()
        assert cache.get(list(NODES)) == {}
        cache.put(NODES)

    assert in_child(child) == 0
    assert cache.get(list(NODES)) == NODES
    cache.close()
