"""What a migration refuses, before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

import ebooklet
from tests.migration.conftest import OldDatabases

pytestmark = pytest.mark.xdist_group("migration")


@pytest.fixture
def new(tmp_path: Path) -> str:
    """A place of its own for each test."""
    (tmp_path / "bucket").mkdir()
    return f"file://{tmp_path}/bucket/db"


def test_a_place_in_use(old: OldDatabases, new: str, tmp_path: Path) -> None:
    """An existing database, or file, is not written to."""
    with ebooklet.open(new, flag="c", value_serializer="json") as db:
        db["mine"] = 1
        db.push()
    with pytest.raises(ValueError, match="already"):
        ebooklet.migrate(old.connection("group/json"), new)
    with pytest.raises(ValueError, match="already"):
        ebooklet.migrate(old.connection("group/json"), new, tmp_path / "a.blt")
    assert not (tmp_path / "a.blt").exists()
    (tmp_path / "b.blt").write_bytes(b"mine")
    with pytest.raises(ValueError, match="exists already"):
        ebooklet.migrate(old.connection("group/json"), f"{new}-2", tmp_path / "b.blt")
    assert (tmp_path / "b.blt").read_bytes() == b"mine"


def test_another_migrations_file(old: OldDatabases, new: str, tmp_path: Path) -> None:
    """A file that an earlier migration completed is no unfinished one."""
    file = tmp_path / "a.blt"
    ebooklet.migrate(old.connection("group/json"), new, file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="already"):
        ebooklet.migrate(old.connection("group/json"), f"{new}-2", file)
    assert file.read_bytes() == before
    with ebooklet.open(new, file, "w") as db:
        assert list(db.changes()) == []


def test_a_place_among_the_old_objects(old: OldDatabases) -> None:
    """0.11 would delete it with the old database."""
    with pytest.raises(ValueError, match="among the objects"):
        ebooklet.migrate(old.connection("group/json"), old.connection("group/json/new"))


def test_objects_that_are_none_of_0_11(old: OldDatabases, new: str) -> None:
    """Nothing there, foreign bytes, a value of 0.11, and a database of today are refused."""
    bucket = old.server.new_bucket()
    client = old.server.client()
    client.put_object(Bucket=bucket, Key="foreign", Body=b"x" * 100)
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    with ebooklet.open(f"{new}-today", flag="c", value_serializer="json") as db:
        db.push()
    foreign: list[ebooklet.S3Connection] = [
        old.server.connection(bucket, key) for key in ("foreign", "empty")
    ]
    places: list[ebooklet.S3Connection | str] = [*foreign, f"{new}-today"]
    for place in places:
        with pytest.raises(ebooklet.UnsupportedFormatError):
            ebooklet.migrate(place, new)
    with pytest.raises(ebooklet.UnsupportedFormatError):
        ebooklet.migrate(old.connection("key/json/k1"), new)
    with pytest.raises(ebooklet.RemoteMissingError):
        ebooklet.migrate(old.server.connection(bucket, "nothing"), new)
    with pytest.raises(ebooklet.RemoteMissingError):
        ebooklet.open(new)


def test_files_that_are_none_of_0_11(old: OldDatabases, new: str, tmp_path: Path) -> None:
    """No file, no Booklet, and a local file of today are refused."""
    with pytest.raises(FileNotFoundError):
        ebooklet.migrate(tmp_path / "nothing.blt", new)
    (tmp_path / "foreign.blt").write_bytes(b"x" * 300)
    with pytest.raises(ebooklet.LocalFileError):
        ebooklet.migrate(tmp_path / "foreign.blt", new)
    with ebooklet.open(f"{new}-today", tmp_path / "today.blt", "c", value_serializer="json") as db:
        db["a"] = 1
    with pytest.raises(ebooklet.LocalFileError, match="this version"):
        ebooklet.migrate(tmp_path / "today.blt", new)


def test_a_file_that_is_open_in_booklet(old: OldDatabases, new: str, tmp_path: Path) -> None:
    """A writer is waited for, and then named as the reason."""
    import booklet

    file = old.file("key-full", tmp_path)
    with (
        booklet.open(file, "w"),
        pytest.raises(ebooklet.LockTimeout, match="Booklet"),
    ):
        ebooklet.migrate(file, new, lock_timeout=0.1)


def test_arguments_that_go_with_others(old: OldDatabases, new: str) -> None:
    """They say with which."""
    with pytest.raises(ValueError, match="old_file"):
        ebooklet.migrate(old.connection("group/json"), new, apply_pending=True)
    with pytest.raises(ValueError, match="old_file"):
        ebooklet.migrate("a.blt", new, old_file="b.blt")
