"""The places a contract test runs on: a remote in memory, in a folder, and on real servers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.remote.boto3 import open_store as open_s3
from ebooklet.adapters.remote.filesystem import open_store as open_folder
from ebooklet.adapters.remote.memory import open_store as open_memory
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.database import EBooklet
from ebooklet.plugins.registry import RemoteOpener
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.request import Flag
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server
from tests.contract.metered import Metered

PLACES = (
    "memory",
    "file",
    "seaweedfs",
    pytest.param(
        "moto",
        marks=pytest.mark.matrix("behaviour", "boto3", "moto", representative=False),
    ),
)
_OPENERS: dict[str, RemoteOpener] = {"memory": open_memory, "file": open_folder, "s3": open_s3}
_names = itertools.count()


@dataclass(frozen=True)
class Place:
    """Somewhere databases can be kept, fresh for each test.

    Attributes:
        kind: "memory", "file" or the name of a server.
        folder: for local files.
        connect: the `remote_conn` of a database key.
    """

    kind: str
    folder: Path
    connect: Callable[[str], str | S3Connection]

    def open(
        self, db_key: str = "db", file: str | None = "a", flag: Flag = "c", **options: Any
    ) -> EBooklet[Any]:
        """`ebooklet.open` of this key, in a local file of this name; JSON where it creates."""
        if flag in ("c", "n"):
            options.setdefault("value_serializer", "json")
        return ebooklet.open(self.connect(db_key), self.path(file), flag, **options)

    def path(self, file: str | None) -> Path | None:
        """A local file's path; None for a local half in memory."""
        return None if file is None else self.folder / f"{file}.blt"

    def store(self, db_key: str = "db") -> tuple[RemoteStore, str]:
        """The raw store behind a key, and the key in it: to look at objects and to damage them."""
        connection = self.connect(db_key)
        address = (
            RemoteAddress.parse(connection) if isinstance(connection, str) else connection.address()
        )
        return _OPENERS[address.scheme](address)

    def objects(self, db_key: str = "db") -> dict[str, bytes]:
        """Every object whose name begins with this key, locks included."""
        store, key = self.store(db_key)
        try:
            return {meta.key: store.get(meta.key).body for meta in store.list(key)}
        finally:
            store.close()


def make_place(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    """A place of this kind that no other test uses."""
    if kind == "memory":
        name = f"contract-{next(_names)}"
        return Place(kind, folder, lambda key: f"memory://{name}/{key}")
    if kind == "file":
        root = folder / "bucket"
        root.mkdir()
        return Place(kind, folder, lambda key: f"file://{root}/{key}")
    server: S3Server = request.getfixturevalue(kind)
    bucket = server.new_bucket()
    return Place(kind, folder, lambda key: server.connection(bucket, key))


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of place in turn, one server for all unless `--servers` asks for another.

    rclone, where every lock costs seconds, has tests of its own.
    """
    return make_place(request.param, tmp_path, request)


@pytest.fixture
def locked_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A server that ignores conditional writes, so that commits go under the ticket lock."""
    return make_place("rclone", tmp_path, request)


@pytest.fixture(scope="session")
def counting_proxy(seaweedfs: S3Server) -> Iterator[CountingProxy]:
    """What counts the traffic of a full server; one a session, as what is probed is its address."""
    with CountingProxy(seaweedfs.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def metered(seaweedfs: S3Server, counting_proxy: CountingProxy, tmp_path: Path) -> Metered:
    """Databases in a bucket of their own, whose traffic is counted."""
    return Metered(seaweedfs, counting_proxy, tmp_path)
