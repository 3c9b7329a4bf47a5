"""The store of fsspec's file systems: its contract, in memory, in a folder, and over SFTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import fsspec
import pytest

import ebooklet
from ebooklet.adapters.remote.fsspec import FsspecRemoteStore, open_store
from ebooklet.connection import RemoteAddress
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    RemoteUnavailable,
    StoreError,
    UnknownNameError,
)
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.remote_store_contract import RemoteStoreContract
from tests.sftp_server import Sftp

FOLDERS = "a folder cannot hold `a` beside `a/b`"
NO_TIME = "files tell when they were written, not what time it is"


def opened(url: str) -> tuple[RemoteStore, str]:
    return open_store(RemoteAddress.parse(url))


@pytest.mark.matrix("contract", "fsspec", "(memory)")
class TestInMemory(RemoteStoreContract):
    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_neighbours_are_separate": FOLDERS,
        "test_delete_spares_neighbours": FOLDERS,
        "test_clock": NO_TIME,
    }

    @pytest.fixture
    def store(self, request: pytest.FixtureRequest) -> Iterator[RemoteStore]:
        store, _ = opened(f"fsspec+memory://test-{id(request.node)}/folder/db")
        yield store
        fsspec.filesystem("memory").store.clear()


@pytest.mark.matrix("contract", "fsspec", "(folder)")
class TestInAFolder(RemoteStoreContract):
    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_neighbours_are_separate": FOLDERS,
        "test_delete_spares_neighbours": FOLDERS,
        "test_clock": NO_TIME,
    }

    @pytest.fixture
    def store(self, tmp_path: Path) -> RemoteStore:
        folder = tmp_path / "bucket"
        folder.mkdir()
        return opened(f"fsspec+file://{folder}/db")[0]


@pytest.mark.matrix("contract", "fsspec", "(sftp)", representative=False)
class TestOverSftp(RemoteStoreContract):
    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_neighbours_are_separate": FOLDERS,
        "test_delete_spares_neighbours": FOLDERS,
        "test_another_body_has_another_etag": "SFTP tells a file's time in seconds, and no more",
        "test_clock": NO_TIME,
    }

    @pytest.fixture
    def store(self, sftp: Sftp, request: pytest.FixtureRequest) -> Iterator[RemoteStore]:
        name = f"test-{id(request.node)}"
        (sftp.folder / name).mkdir()
        store, _ = opened(f"fsspec+sftp://{sftp.url(name)}")
        yield store
        store.close()


def test_a_life_over_sftp(sftp: Sftp, tmp_path: Path) -> None:
    """A database lives on a file server, committed to under a lock, and is read from there."""
    (sftp.folder / "life").mkdir()
    url = f"fsspec+sftp://{sftp.url('life')}"
    with ebooklet.open(url, tmp_path / "a.blt", "c", value_serializer="json") as db:
        db.update({f"k{n}": n for n in range(100)})
        assert db.push()
        db["k1"] = "changed"
        assert db.push()
    with ebooklet.open(url, tmp_path / "b.blt") as db:
        assert (len(db), db["k1"], db["k99"]) == (100, "changed", 99)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """The folder is never made; what is read there is absent."""
    store, _ = opened(f"fsspec+file://{tmp_path}/absent/db")
    with pytest.raises(BucketMissingError, match="absent"):
        store.put("k", b"body")
    assert list(store.list("")) == []
    assert not (tmp_path / "absent").exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """What could not get its name is removed again, and what has the name stays."""
    store, _ = opened(f"fsspec+file://{tmp_path}/db")
    store.put("a/b", b"body")
    with pytest.raises(StoreError):
        store.put("a", b"in the way")
    assert store.get("a/b").body == b"body"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b"]


def test_a_server_that_went_away(tmp_path: Path) -> None:
    """A lost connection is an outage; a new one is made when the server is back."""
    folder = tmp_path / "served"
    (folder / "f").mkdir(parents=True)
    server = Sftp(folder)
    store, _ = opened(f"fsspec+sftp://{server.url('f')}")
    store.put("k", b"body")
    server.close()
    with pytest.raises(RemoteUnavailable):
        store.get("k")
    store.close()


def test_wrong_credentials(sftp: Sftp, tmp_path: Path) -> None:
    """A key that the server does not know is no access."""
    key_file = tmp_path / "wrong"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key_file)
    url = f"fsspec+sftp://127.0.0.1:{sftp.port}/f/db?username=x&key_filename={key_file}"
    store, _ = opened(url)
    with pytest.raises((AccessDenied, RemoteUnavailable)):
        store.get("k")


@pytest.mark.parametrize(
    ("url", "error", "problem"),
    [
        ("fsspec+file:///db", ValueError, "a folder and a name"),
        ("fsspec+sftp://host/f/db?password=x", ValueError, "secrets"),
        ("fsspec+nosuch://host/f/db", UnknownNameError, "nosuch"),
        ("fsspec+s3://bucket", ValueError, "a bucket and a key"),
    ],
)
def test_urls_that_name_no_database(url: str, error: type[Exception], problem: str) -> None:
    """What is wrong with a URL is said before anything is opened."""
    with pytest.raises(error, match=problem):
        opened(url)


def test_the_store_by_hand() -> None:
    """A built file system may be given, as the docstring shows."""
    store = FsspecRemoteStore(
        lambda: fsspec.filesystem("memory"), "/by hand", location="memory://by hand"
    )
    store.put("a/key", b"body")
    assert store.get("a/key", start=1).body == b"ody"
    fsspec.filesystem("memory").store.clear()
