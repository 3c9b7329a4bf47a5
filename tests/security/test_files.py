"""What is written on this machine: where, with which rights, and nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

import ebooklet
from ebooklet.adapters.probecache import ProbeCache
from ebooklet.adapters.remote.filesystem import FilesystemRemoteStore
from ebooklet.core.names import check_db_key
from ebooklet.testing.clock import ManualClock

NAMES: Final = (
    *("../up", "a/../../up", "/absolute", "..", ".", "a//b", "a/./b", "x\0y", "a\\..\\b", "C:\\x"),
    *("nul", "con.txt", "x:stream", " trailing. ", "db.d/x", ".ebooklet/locks", "%2e%2e/up", "é/ü"),
)
"""Of databases and of keys: such as mean something else, or somewhere else, to some file system."""


@pytest.fixture
def masked() -> Iterator[int]:
    """Under a mask that others have no rights by."""
    before = os.umask(0o077)
    yield 0o077
    os.umask(before)


def below(folder: Path) -> dict[Path, int]:
    """The mode of everything in a folder."""
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


@pytest.mark.parametrize("local", ["booklet", "lmdb"])
def test_the_mask_is_kept_to(local: str, tmp_path: Path, masked: int) -> None:
    """Files of the database, of a folder as its remote and of caches are nobody else's, if so asked."""
    (tmp_path / "remote").mkdir()
    url = f"file://{tmp_path}/remote/db"
    with ebooklet.open(url, tmp_path / "a.blt", "c", "json", local=local) as db:
        db.update({"a": 1, "b": "b" * 1000})
        db.push()
        db.prune()
        db["pending"] = 1
    ebooklet.open(url, tmp_path / "a.blt", "r", local=local).close()
    ProbeCache(tmp_path / "cache" / "probes.json").put("e", ManualClock(), "cas", "quoted", "")
    found = below(tmp_path)
    assert len(found) > 12
    assert {path: oct(mode) for path, mode in found.items() if mode & masked} == {}
    assert not [path for path, mode in found.items() if path.is_file() and mode & 0o111]


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_nowhere_else(name: str, tmp_path: Path) -> None:
    """An object of any name lies in its folder, or is refused; a key of any name is a key."""
    root = tmp_path / "inside" / "root"
    root.mkdir(parents=True)
    store = FilesystemRemoteStore(root)
    with suppress(ebooklet.Error, ValueError):
        store.put(name, b"body")
        assert store.get(name).body == b"body"
        assert [meta.key for meta in store.list("")] == [name]
    with suppress(ebooklet.Error, ValueError):  # as the name of a database, in a bucket or a folder
        check_db_key(name)
        assert not {"", ".", ".."} & set(name.split("/"))
    with (
        suppress(ebooklet.Error),
        ebooklet.open(f"memory://{tmp_path.name}", root / "a.blt", "c", "json") as db,
    ):
        db[name] = 1
        db.push()
        assert dict(db) == {name: 1}
    outside = [path for path in tmp_path.rglob("*") if root not in path.parents]
    assert outside == [tmp_path / "inside", root]


@pytest.mark.parametrize("what", ["a.blt", "a.blt.ebk/lock", "a.blt.ebk/mark", "a.blt.ebk/tmp-1"])
def test_a_planted_link_is_not_written_through(what: str, tmp_path: Path) -> None:
    """Somebody else's file behind a link stays as it is, whatever is opened over the link.

    A link in the place of the local file leads to a file that is no database, which is refused.
    """
    precious = tmp_path / "precious"
    precious.write_bytes(b"of somebody else")
    folder = tmp_path / "a.blt.ebk"
    folder.mkdir()
    (tmp_path / what).symlink_to(precious)
    flags: tuple[Any, ...] = ("c", "n", "w", "r")
    for flag in flags:
        with (
            suppress(ebooklet.Error, OSError, ValueError),
            ebooklet.open(f"memory://{tmp_path.name}", tmp_path / "a.blt", flag) as db,
        ):
            db["k"] = b"v"
        assert precious.read_bytes() == b"of somebody else"
