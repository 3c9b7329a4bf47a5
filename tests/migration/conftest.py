"""Databases that EBooklet 0.11 itself wrote, once a session, on a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.remote.boto3 import open_store
from ebooklet.connection import S3Connection
from ebooklet.plugins.registry import Registry
from ebooklet.ports.serializer import Serializer
from ebooklet.serializers.raw import BYTES
from ebooklet.testing.faulty import FaultyRemoteStore, StoreRule
from ebooklet.testing.peer import peer_python
from ebooklet.testing.servers import S3Server

REPOSITORY = Path(__file__).parents[2]
WRITER = Path(__file__).with_name("write_old.py")


class RawRegistry(Registry):
    """Gives every database's values as the bytes that are stored."""

    def serializer(self, name: str | None) -> Serializer:
        return BYTES


class Reversed:
    """The serializer of the database with a class of its own."""

    @staticmethod
    def dumps(value: str) -> bytes:
        return value.encode()[::-1]

    @staticmethod
    def loads(data: bytes) -> str:
        return data[::-1].decode()


@dataclass(frozen=True)
class Content:
    """What a database holds: raw values with their timestamps, and metadata with theirs."""

    items: dict[str, tuple[int, bytes]]
    metadata: tuple[Any, int] | None

    def without(self, *keys: str) -> Content:
        """The same but for some keys."""
        left = {key: value for key, value in self.items.items() if key not in keys}
        return Content(left, self.metadata)


@dataclass(frozen=True)
class OldDatabases:
    """A bucket and a folder that 0.11 filled; both are shared, so tests leave them as they are."""

    server: S3Server
    bucket: str
    folder: Path
    python: Path
    expected: dict[str, Any]

    def connection(self, name: str) -> S3Connection:
        """Where a database lies."""
        return self.server.connection(self.bucket, name)

    def file(self, name: str, into: Path) -> Path:
        """A local file, copied with what lies beside it, so that no test meets another."""
        for part in self.folder.glob(f"{name}.blt*"):
            shutil.copy(part, into / part.name)
        return into / f"{name}.blt"

    def content(self, name: str) -> Content:
        """What 0.11 itself reads there."""
        found = self.expected[name]
        items = {key: (when, bytes.fromhex(raw)) for key, (when, raw) in found["items"].items()}
        metadata = found["metadata"]
        return Content(items, None if metadata is None else (metadata[0], metadata[1]))

    def uuid(self, name: str) -> str:
        """Its identity, in hexadecimal."""
        uuid: str = self.expected[name]["uuid"]
        return uuid

    def push_later(self) -> OldDatabases:
        """Let 0.11 change, delete and add a key of the database "db", and push."""
        run_writer(self.server, self.bucket, self.folder, self.python, "later:group")
        expected = json.loads((self.folder / "expected.json").read_text())
        return replace(self, expected=expected)

    def store(self, *rules: StoreRule) -> FaultyRemoteStore:
        """The bucket behind a network that follows rules; a store's database is the one at "db"."""
        store, _ = open_store(self.connection("db").address())
        faulty = FaultyRemoteStore(store)
        for rule in rules:
            faulty.add(rule)
        return faulty

    def objects(self, prefix: str = "") -> dict[str, str]:
        """The objects that begin with this, with their ETags."""
        pages = self.server.client().get_paginator("list_objects_v2")
        return {
            found["Key"]: found["ETag"]
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix)
            for found in page.get("Contents", ())
        }


def run_writer(server: S3Server, bucket: str, folder: Path, python: Path, *cases: str) -> None:
    """Let 0.11 write cases of `write_old.py`, all of them by default."""
    command = [
        *(python, WRITER, server.endpoint_url, server.access_key_id, server.access_key),
        *(bucket, folder, *cases),
    ]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="session")
def old_python() -> Path:
    """An interpreter with EBooklet 0.11; `make test` has made it already."""
    return peer_python(REPOSITORY / ".venv-0.11")


@pytest.fixture(scope="session")
def old(
    seaweedfs: S3Server, old_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> OldDatabases:
    """Every case of `write_old.py`."""
    folder = tmp_path_factory.mktemp("old")
    bucket = seaweedfs.new_bucket()
    run_writer(seaweedfs, bucket, folder, old_python)
    expected = json.loads((folder / "expected.json").read_text())
    return OldDatabases(seaweedfs, bucket, folder, old_python, expected)


def _written_alone(
    server: S3Server, python: Path, folder: Path, case: str = "lone:group"
) -> OldDatabases:
    bucket = server.new_bucket()
    run_writer(server, bucket, folder, python, case)
    expected = json.loads((folder / "expected.json").read_text())
    return OldDatabases(server, bucket, folder, python, expected)


@pytest.fixture(scope="session")
def lone(
    seaweedfs: S3Server, old_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> OldDatabases:
    """A packed database at the key "db" of a bucket of its own."""
    return _written_alone(seaweedfs, old_python, tmp_path_factory.mktemp("lone"))


@pytest.fixture(scope="session")
def tiny(
    moto: S3Server, old_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> OldDatabases:
    """The same with four keys in one group, for damage at many places."""
    return _written_alone(moto, old_python, tmp_path_factory.mktemp("tiny"), "tiny:group")


@pytest.fixture
def fresh(
    seaweedfs: S3Server, old_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> OldDatabases:
    """The same for one test, which may change it."""
    return _written_alone(seaweedfs, old_python, tmp_path_factory.mktemp("fresh"))


def read(new: Any, **options: Any) -> Content:
    """What a new database holds, read by a cold reader."""
    options.setdefault("registry", RawRegistry())
    with ebooklet.open(new, **options) as db:
        assert db.load_items() == {}
        items = {key: (when, value) for key, when, value in db.timestamps(include_value=True)}
        metadata = db.get_metadata(include_timestamp=True)
    return Content(items, metadata)
