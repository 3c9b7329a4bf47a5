"""Reading by a plain URL: every kind of server, nothing of a stranger's trusted (CONTRACT §2, §12)."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.remote.http import HttpRemoteStore
from ebooklet.connection import S3Connection
from ebooklet.core.head import MAX_HEAD_BYTES
from ebooklet.database import EBooklet
from ebooklet.errors import (
    AccessDenied,
    OfflineError,
    ReadOnlyError,
    RemoteIntegrityError,
    RemoteMissingError,
    RemoteRewound,
    RemoteUnavailable,
    SerializationError,
    UnsupportedFormatError,
)
from ebooklet.services.request import Flag
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server, start_http_server
from tests.odd_servers import playing, saying, showing

VALUES = {f"k{n:03}": f"{n:03}" * 3_000 for n in range(300)}  # 2.7 MB
METADATA = {"title": "Rain", "about": "m" * 100_000}


@dataclass
class Site:
    """Where a database is published.

    Attributes:
        owner: how its author opens it.
        url: where everybody reads it.
    """

    owner: S3Connection | str
    url: str

    def write(self, path: Path | None = None, flag: Flag = "c", **options: Any) -> EBooklet[Any]:
        if flag == "c":
            options.setdefault("value_serializer", "json")
        return ebooklet.open(self.owner, path, flag, **options)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL at which Python's `http.server` shows it."""
    folder = tmp_path_factory.mktemp("static")
    with start_http_server(folder, tmp_path_factory.mktemp("log") / "log") as url:
        yield folder, url


SERVERS = ("seaweedfs", "moto", "rclone")
PLAYED = {"without lengths": {"sized": False}, "redirecting": {"moved": True}}


@pytest.fixture(params=[*SERVERS, "http.server", *PLAYED])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A public place on each kind of server in turn."""
    with ExitStack() as stack:
        if request.param in SERVERS:
            server: S3Server = request.getfixturevalue(request.param)
            bucket = server.new_bucket()
            url = request.getfixturevalue("publish")(server, bucket)
            yield Site(server.connection(bucket, "open/my db"), f"{url}/open/my%20db")
            return
        if request.param == "http.server":
            root, url = request.getfixturevalue("static")
            folder = root / tmp_path.name
            url += f"/{tmp_path.name}"
        else:
            folder = tmp_path / "site"
            url = stack.enter_context(playing(showing(folder, **PLAYED[request.param]))).url
        folder.mkdir()
        yield Site(f"file://{folder}/my db", f"{url}/my%20db")


@pytest.fixture
def plain(static: tuple[Path, str], tmp_path: Path) -> Site:
    """A public place where only what is read matters, not the server."""
    root, url = static
    (root / tmp_path.name).mkdir()
    return Site(f"file://{root}/{tmp_path.name}/db", f"{url}/{tmp_path.name}/db")


def test_a_reader_by_url(site: Site, tmp_path: Path) -> None:
    """All that a reader does, works by URL: lookups, scans, metadata, refreshing, and offline after."""
    with site.write(tmp_path / "author.blt") as db:
        db.update(VALUES)
        db.set_metadata(METADATA)
        assert db.push()
    path = tmp_path / "reader.blt"
    with ebooklet.open(site.url, path) as db:
        assert db["k123"] == VALUES["k123"]
        assert ("k299" in db, "k300" in db, len(db)) == (True, False, 300)
        assert list(db.keys("k01")) == [f"k{n:03}" for n in range(10, 20)]
        assert db.get_metadata() == METADATA
        assert dict(db.get_items(["k001", "k002"])) == {k: VALUES[k] for k in ("k001", "k002")}
        assert db.load_items() == {}
        assert dict(db.items()) == VALUES
        assert not db.writable
        with pytest.raises(ReadOnlyError):
            db["k001"] = "mine"

        with site.write(tmp_path / "author.blt", "w") as author:
            author["k001"] = "new"
            del author["k002"]
            assert author.push()
        assert db["k001"] == VALUES["k001"]
        assert db.pull().updated
        assert db["k001"] == "new"
        assert "k002" not in db
    with ebooklet.open(site.url, path, offline=True) as db:
        assert (db["k001"], db["k003"], len(db)) == ("new", VALUES["k003"], 299)
    with ebooklet.open(S3Connection(db_url=site.url), None) as db:  # the same, as a connection
        assert db["k001"] == "new"
    with ebooklet.open({"db_url": site.url}, None) as db:  # and as the entry of a group
        assert db["k001"] == "new"


@pytest.mark.parametrize("flag", ["w", "c", "n"])
def test_a_url_is_for_reading(plain: Site, tmp_path: Path, flag: Flag) -> None:
    """Any other flag is a `ValueError`, before anything is made or asked."""
    with playing(saying(500)) as server:
        for there in (server.url + "/db", S3Connection(db_url=server.url + "/db")):
            with pytest.raises(ValueError, match="only be read"):
                ebooklet.open(there, tmp_path / "a.blt", flag)
        assert (server.asked, list(tmp_path.iterdir())) == ([], [])


def test_a_group_by_url(plain: Site, tmp_path: Path) -> None:
    """A group's URL opens as a group, and its entries as databases."""
    with plain.write() as db:
        db["a"] = 1
        assert db.push()
    catalogue = Site(str(plain.owner) + " of all", f"{plain.url}%20of%20all")
    with ebooklet.open_rcg(catalogue.owner, None, "c") as group:
        group.add(S3Connection(db_url=plain.url), "it")
        assert group.changes().push()
    with ebooklet.open(catalogue.url, tmp_path / "g.blt") as group:
        assert isinstance(group, ebooklet.RemoteConnGroup)
        with ebooklet.open(group["it"], None) as db:
            assert db["a"] == 1


# What it costs where ranges are ignored.


def test_each_segment_comes_once_where_ranges_are_ignored(plain: Site, tmp_path: Path) -> None:
    """Counted: every value, one by one and all at once, for the bytes of the objects and no more."""
    with plain.write() as db:
        db.update(VALUES)
        assert db.push()
    folder = Path(str(plain.owner).removeprefix("file://")).parent
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with CountingProxy(plain.url.rpartition("/")[0].rpartition("/")[0]) as proxy:
        url = proxy.url + "/" + "/".join(plain.url.split("/")[-2:])
        with ebooklet.open(url, None) as db:
            for key in VALUES:
                assert db[key] == VALUES[key]
            assert dict(db.items()) == VALUES
        with ebooklet.open(url, tmp_path / "a.blt") as db:
            assert db.load_items() == {}
        objects = [one.path for one in proxy.log]
        assert len(objects) == 2 * len(set(objects))
        assert proxy.counts().body_down <= 2 * stored


# The kernel's high-water mark of the program itself: `ru_maxrss` would start at its parent's size.
READ_ALL = """
import random, re, sys, ebooklet
with ebooklet.open(sys.argv[1], sys.argv[2]) as db:
    for n in random.Random(1).sample(range(400), 5):
        assert db[f"k{n:03}"] == bytes([n % 256]) * (n * 997 % 999_983)
    assert db.load_items() == {}
    assert len(db) == 400
with ebooklet.open(sys.argv[1], sys.argv[2], offline=True) as db:
    assert all(db[f"k{n:03}"] == bytes([n % 256]) * (n * 997 % 999_983) for n in range(400))
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def test_large_segments_where_ranges_are_ignored(plain: Site, tmp_path: Path) -> None:
    """Two hundred megabytes in segments of many are read in less than 300 MiB of memory."""
    with plain.write(tmp_path / "author.blt", value_serializer="bytes") as db:
        db.update((f"k{n:03}", bytes([n % 256]) * (n * 997 % 999_983)) for n in range(400))
        assert db.push()
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, plain.url, str(tmp_path / "reader.blt")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 300 << 20


def test_a_huge_object_in_the_heads_place(plain: Site, tmp_path: Path) -> None:
    """A hostile head costs no more than the largest there may be, also where ranges are ignored."""
    Path(str(plain.owner).removeprefix("file://")).write_bytes(b"EBKHEAD1" + bytes(200 << 20))
    with pytest.raises(UnsupportedFormatError):
        ebooklet.open(plain.url, tmp_path / "a.blt")
    assert list(tmp_path.iterdir()) == []
    with playing(saying(200, b"EBKHEAD1", length=1 << 50)) as server:
        with pytest.raises(RemoteUnavailable):
            ebooklet.open(S3Connection(db_url=f"{server.url}/db", retries=0), None)
        assert server.asked[0][2]["Range"] == f"bytes=0-{MAX_HEAD_BYTES}"


# Pickles of strangers.


@pytest.fixture(params=["pickle", "pickle_zstd"])
def pickled(request: pytest.FixtureRequest, plain: Site) -> Site:
    """A stranger's database of pickles."""
    with plain.write(value_serializer=request.param) as db:
        db["a"] = {1, 2}
        assert db.push()
    return plain


@pytest.fixture
def named(request: pytest.FixtureRequest) -> str:
    """The serializer of `pickled`."""
    return str(request.node.callspec.params["pickled"])


def test_pickles_of_strangers_are_refused(pickled: Site, tmp_path: Path) -> None:
    """Whatever names the place; after one request, before a value is asked for or a file is made."""
    base = pickled.url.rpartition("/")[0].rpartition("/")[0]
    with CountingProxy(base) as proxy:
        url = proxy.url + pickled.url.removeprefix(base)
        for there in (
            url,
            S3Connection(db_url=url),
            {"db_url": url},
            {"remote_conn": {"db_url": url, "db_key": "k"}},
            HttpRemoteStore(url),
        ):
            proxy.reset()
            with pytest.raises(SerializationError, match=r"allow_pickle=True.*value_serializer"):
                ebooklet.open(there, tmp_path / "a.blt")
            assert [one.path for one in proxy.log] == ["/" + "/".join(url.split("/")[3:])]
            assert list(tmp_path.iterdir()) == []


def test_pickles_that_the_caller_names(pickled: Site, named: str, tmp_path: Path) -> None:
    """`allow_pickle=True` or the serializer's name allows them, `allow_pickle=False` never."""
    with ebooklet.open(pickled.url, None, allow_pickle=True) as db:
        assert db["a"] == {1, 2}
    with ebooklet.open(pickled.url, tmp_path / "a.blt", value_serializer=named) as db:
        assert db["a"] == {1, 2}
    cautious: list[dict[str, Any]] = [{}, {"allow_pickle": False}, {"offline": True}]
    for options in cautious:
        with pytest.raises(SerializationError):  # what was fetched is a stranger's still
            ebooklet.open(pickled.url, tmp_path / "a.blt", **options)
    with pytest.raises(SerializationError):
        ebooklet.open(pickled.url, None, value_serializer=named, allow_pickle=False)


def test_another_serializer_than_the_strangers(pickled: Site, tmp_path: Path) -> None:
    """Naming a harmless one never leads to pickles being read."""
    trusting: list[dict[str, Any]] = [{}, {"allow_pickle": True}]
    for options in trusting:
        with pytest.raises(ValueError, match="serialised with"):
            ebooklet.open(pickled.url, tmp_path / "a.blt", value_serializer="json", **options)
    with pytest.raises(ValueError):
        ebooklet.open(
            pickled.url, tmp_path / "a.blt", value_serializer="json", remote_conn_group=True
        )
    assert list(tmp_path.iterdir()) == []


def test_unsigned_s3_is_a_strangers(
    moto: S3Server, publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An s3:// address read without a signature is as public as a URL; with credentials it is not."""
    bucket = moto.new_bucket()
    publish(moto, bucket)
    connection = moto.connection(bucket, "db")
    with ebooklet.open(connection, None, "c", value_serializer="pickle") as db:
        db["a"] = {1, 2}
        assert db.push()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint_url)
    with pytest.raises(SerializationError):
        ebooklet.open(f"s3://{bucket}/db?unsigned=true&region=us-east-1", tmp_path / "a.blt")
    assert list(tmp_path.iterdir()) == []
    with ebooklet.open(connection, None) as db:
        assert db["a"] == {1, 2}


def test_pickles_in_a_folder_are_ones_own(tmp_path: Path) -> None:
    """A folder has the permissions of the system, even one that can only be read."""
    (tmp_path / "remote").mkdir()
    url = f"file://{tmp_path}/remote/db"
    with ebooklet.open(url, None, "c", value_serializer="pickle") as db:
        db["a"] = {1, 2}
        assert db.push()
    with ebooklet.open(url, None) as db:
        assert db["a"] == {1, 2}


class Upper:
    """A serializer of the caller's own."""

    @staticmethod
    def dumps(value: str) -> bytes:
        return value.upper().encode()

    @staticmethod
    def loads(data: bytes) -> str:
        return data.decode()


def test_a_class_of_ones_own_is_no_strangers(plain: Site, tmp_path: Path) -> None:
    """Who passes the class vouches for it; who does not is told to, and no file is made."""
    with plain.write(value_serializer=Upper) as db:
        db["a"] = "x"
        assert db.push()
    with pytest.raises(ValueError, match="pass that class"):
        ebooklet.open(plain.url, tmp_path / "a.blt")
    assert list(tmp_path.iterdir()) == []
    with ebooklet.open(plain.url, tmp_path / "a.blt", value_serializer=Upper) as db:
        assert db["a"] == "X"


# What goes wrong.


def test_a_stale_head_is_said_aloud(plain: Site, tmp_path: Path) -> None:
    """A cache that falls back behind what this copy has seen is `RemoteRewound`; nothing is lost."""
    head = Path(str(plain.owner).removeprefix("file://"))
    with plain.write(tmp_path / "author.blt") as db:
        db["a"] = 1
        assert db.push()
        old = head.read_bytes()
        db["a"] = 2
        assert db.push()
        new = head.read_bytes()
    with ebooklet.open(plain.url, tmp_path / "a.blt") as db:
        assert db["a"] == 2
        head.write_bytes(old)
        with pytest.raises(RemoteRewound, match="stale"):
            db.pull()
        assert db["a"] == 2
    with pytest.raises(RemoteRewound):
        ebooklet.open(plain.url, tmp_path / "a.blt")
    with ebooklet.open(plain.url, None) as db:  # who has seen nothing yet sees the old state whole
        assert db["a"] == 1
    head.write_bytes(new)
    with ebooklet.open(plain.url, tmp_path / "a.blt") as db:
        assert db["a"] == 2


def test_nothing_there(plain: Site, tmp_path: Path) -> None:
    """No object, a page that says so, a folder's list, a refusal: each its own error, and no file."""
    folder = plain.url.rpartition("/")[0]
    with pytest.raises(RemoteMissingError):
        ebooklet.open(plain.url, tmp_path / "a.blt")
    with pytest.raises(UnsupportedFormatError):
        ebooklet.open(folder, tmp_path / "a.blt")
    for answer, kind in (
        (saying(200, b"<html>nothing here</html>"), UnsupportedFormatError),
        (saying(403), AccessDenied),
        (saying(410), RemoteMissingError),
        (saying(503), RemoteUnavailable),
    ):
        with playing(answer) as server, pytest.raises(kind):
            ebooklet.open(S3Connection(db_url=f"{server.url}/db", retries=0), tmp_path / "a.blt")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_compresses(plain: Site, tmp_path: Path) -> None:
    """Compressed on the way although asked not to: an error that names the setting to change."""
    with plain.write() as db:
        db["a"] = 1
        assert db.push()
    folder = Path(str(plain.owner).removeprefix("file://")).parent
    refused = pytest.raises(RemoteIntegrityError, match="switch off its compression")
    with playing(showing(folder, packed=True)) as server, refused:
        ebooklet.open(f"{server.url}/db", tmp_path / "a.blt")
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_that_is_down(plain: Site, moto: S3Server, tmp_path: Path) -> None:
    """`RemoteUnavailable`, by URL and by key; what was fetched before is there offline."""
    with plain.write() as db:
        db.update({"a": 1, "b": "too large for the head" * 10})
        assert db.push()
    with ebooklet.open(plain.url, tmp_path / "a.blt") as db:
        assert db["a"] == 1
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        down = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    for there in (
        f"{down}/db",
        S3Connection(db_url=f"{down}/db"),
        moto.at(down).connection("bucket", "db"),
        moto.at(down).connection("bucket", "db", db_url=plain.url),
    ):
        with pytest.raises(RemoteUnavailable, match=down):
            ebooklet.open(there, tmp_path / "new.blt")
    assert not (tmp_path / "new.blt").exists()
    with pytest.warns(UserWarning, match="opened offline"):
        db = ebooklet.open(f"{down}/db", tmp_path / "a.blt", offline="auto")
    with db:
        assert db["a"] == 1
        with pytest.raises(OfflineError):
            db["b"]
