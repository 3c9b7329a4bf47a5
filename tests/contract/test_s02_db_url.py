"""A connection with credentials and a `db_url`: values from there, all else by key (CONTRACT §2)."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import ebooklet
from ebooklet.connection import S3Connection
from ebooklet.core.head import MAX_HEAD_BYTES
from ebooklet.database import EBooklet
from ebooklet.errors import RemoteIntegrityError, UUIDMismatchError
from ebooklet.services.request import Flag
from ebooklet.testing.counting_proxy import CountingProxy, Exchange
from ebooklet.testing.servers import S3Server, start_http_server
from tests.odd_servers import playing, saying

VALUES = {f"k{n:03}": f"{n:03}" * 7_000 for n in range(200)}  # 4.2 MB
HEAD = "data/db"


@contextmanager
def behind(url: str) -> Iterator[tuple[CountingProxy, str]]:
    """A proxy in front of a URL's server, and the URL through it."""
    parts = urlsplit(url)
    with CountingProxy(f"http://{parts.netloc}") as proxy:
        yield proxy, proxy.url + parts.path


def segments(log: list[Exchange]) -> list[Exchange]:
    return [one for one in log if ".d/" in one.path]


def test_values_come_from_db_url_and_the_head_by_key(
    s3_server: S3Server, bucket: str, public_url: str, tmp_path: Path
) -> None:
    """Counted on both ways: the endpoint gives heads and takes locks and writes, db_url gives values."""
    with (
        behind(s3_server.endpoint_url) as (keyed, endpoint_url),
        behind(f"{public_url}/{HEAD}") as (public, db_url),
    ):
        connection = s3_server.at(endpoint_url).connection(bucket, HEAD, db_url=db_url)
        with ebooklet.open(connection, tmp_path / "a.blt", "c", value_serializer="json") as db:
            db.update(VALUES)
            db.set_metadata({"about": "m" * 100_000})
            assert db.push()
        assert {one.method for one in public.log} == {"GET"}
        assert [one.down for one in public.log if one.status == 200] == []  # nothing there yet

        keyed.reset()
        public.reset()
        with ebooklet.open(connection, tmp_path / "b.blt") as db:
            assert dict(db.items()) == VALUES
            assert db.get_metadata() == {"about": "m" * 100_000}
        assert segments(keyed.log) == []
        assert keyed.counts().body_down < 40_000
        assert segments(public.log) == public.log
        assert public.counts().body_down > 4_200_000

        keyed.reset()
        public.reset()
        with ebooklet.open(connection, None, "w") as db:  # a writer looks at both heads
            assert db["k123"] == VALUES["k123"]
            db["k123"] = "changed"
            assert db.push()
        assert {one.method for one in segments(keyed.log)} == {"PUT"}
        assert [one.path for one in public.log if ".d/" not in one.path] == [urlsplit(db_url).path]
        assert {one.method for one in public.log} == {"GET"}
        assert 120_000 < public.counts().body_down < 130_000  # one value, and the metadata


# The rest on one server, with a folder that a static server shows as the mirror.


class Site:
    """A database on a server, and a folder that a static server shows at `url`."""

    def __init__(self, server: S3Server, bucket: str, folder: Path, url: str) -> None:
        self.server = server
        self.bucket = bucket
        self.folder = folder
        self.url = url

    def connection(self, db_url: str | None = None, **options: Any) -> S3Connection:
        url = f"{self.url}/public/other name" if db_url is None else db_url
        return self.server.connection(self.bucket, HEAD, db_url=url, **options)

    def open(self, path: Path | None, flag: Flag = "r", **options: Any) -> EBooklet[Any]:
        if flag in "cn":
            options.setdefault("value_serializer", "json")
        return ebooklet.open(self.connection(**options.pop("to", {})), path, flag, **options)

    def objects(self) -> dict[str, bytes]:
        client = self.server.client()
        listed = client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {
            one["Key"]: client.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read()
            for one in listed
        }

    def publish(self, *, only: Callable[[str], bool] = lambda _: True) -> None:
        """Copy the database into the folder, under a name of its own there."""
        for key, body in self.objects().items():
            if key.startswith(HEAD) and ".lock" not in key and only(key):
                path = self.folder / ("public/other name" + key.removeprefix(HEAD))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)

    def published(self) -> list[Path]:
        return sorted((self.folder / "public" / "other name.d").iterdir())


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("static")
    with start_http_server(folder, tmp_path_factory.mktemp("log") / "log") as url:
        yield folder, url


@pytest.fixture
def site(moto: S3Server, static: tuple[Path, str]) -> Iterator[Site]:
    folder, url = static
    yield Site(moto, moto.new_bucket(), folder, url)
    shutil.rmtree(folder / "public", ignore_errors=True)


@pytest.fixture
def filled(site: Site) -> Site:
    """A site whose database is written and published."""
    with site.open(None, "c") as db:
        db.update(VALUES)
        assert db.push()
    site.publish()
    return site


def keyed_segments(site: Site, read: Callable[[EBooklet[Any]], object]) -> int:
    """How many bytes of segments a reader fetches by key."""
    with CountingProxy(site.server.endpoint_url) as proxy:
        to = {"endpoint_url": proxy.url}
        with site.open(None, to=to) as db:
            read(db)
        return sum(one.down for one in segments(proxy.log))


def test_the_names_need_not_agree(filled: Site) -> None:
    """Segments lie beside the last component of db_url, whatever the key in the bucket."""
    assert keyed_segments(filled, lambda db: dict(db.items())) == 0


def test_a_mirror_that_lags(filled: Site) -> None:
    """What is not published yet comes by key, what is from db_url; an old head there is no matter."""
    with filled.open(None, "w") as db:
        db.update({"new": "n" * 300_000, "k001": "o" * 300_000})
        assert db.push()
    new = VALUES | {"new": "n" * 300_000, "k001": "o" * 300_000}

    def read(db: EBooklet[Any]) -> None:
        assert dict(db.items()) == new

    with pytest.warns(UserWarning, match="does not give what it is asked for") as said:
        assert 600_000 < keyed_segments(filled, read) < 700_000
    assert len(said) == 1
    with filled.open(None, "w") as db:
        assert db["k002"] == VALUES["k002"]


def test_a_mirror_that_gives_wrong_bytes(filled: Site) -> None:
    """Damage at db_url is no damage to the database: found out, said once, and read by key."""
    for path in filled.published():
        path.write_bytes(bytes(byte ^ 255 for byte in path.read_bytes()))

    def read(db: EBooklet[Any]) -> None:
        assert [db[key] for key in list(VALUES)[::50]] == [
            VALUES[key] for key in list(VALUES)[::50]
        ]
        assert db.load_items() == {}
        assert dict(db.items()) == VALUES

    with pytest.warns(UserWarning, match="gave other bytes .* from here on") as said:
        assert keyed_segments(filled, read) > 4_200_000
    assert len(said) == 1


def test_a_database_damaged_in_both_places(filled: Site) -> None:
    """The same damage at the endpoint is an error, and not blamed on the mirror."""
    for path in filled.published():
        path.write_bytes(body := bytes(byte ^ 255 for byte in path.read_bytes()))
        filled.server.client().put_object(
            Bucket=filled.bucket, Key=f"{HEAD}.d/{path.name}", Body=body
        )
    with filled.open(None) as db, pytest.raises(RemoteIntegrityError):
        db["k001"]


def test_fsck_looks_at_the_bucket(filled: Site) -> None:
    """A sound mirror hides no damage of the bucket, and a damaged one is none of the bucket's."""
    with filled.open(None) as db:
        assert db.fsck(check_objects=True).ok
    for path in filled.published():
        path.write_bytes(bytes(byte ^ 255 for byte in path.read_bytes()))
    with filled.open(None) as db:
        assert db.fsck(check_objects=True).ok
    filled.publish()
    client, key = filled.server.client(), f"{HEAD}.d/{filled.published()[0].name}"
    body = client.get_object(Bucket=filled.bucket, Key=key)["Body"].read()
    client.put_object(Bucket=filled.bucket, Key=key, Body=bytes(byte ^ 255 for byte in body))
    with filled.open(None) as db:
        assert dict(db.items()) == VALUES
        assert not db.fsck(check_objects=True).ok
    assert not ebooklet.fsck(filled.connection(), check_objects=True).ok


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (saying(403), "status 403"),
        (saying(503), "status 503"),
        (saying(200, b"<html>Everything is fine</html>"), "ends at byte"),
        (saying(200, b"x" * 4_000_000, Content_Encoding="gzip"), "compression"),
        (saying(302, Location="/elsewhere"), "redirects"),
    ],
)
def test_a_mirror_that_refuses(filled: Site, answer: Any, says: str) -> None:
    """One warning with the reason, and reading, writing and pushing go on by key."""
    with playing(answer) as server:
        to = {"db_url": f"{server.url}/any/db"}

        def work() -> None:
            with filled.open(None, "w", to=to) as db:
                assert dict(db.items()) == VALUES
                db["k001"] = "changed"
                assert db.push()

        with pytest.warns(UserWarning, match=says) as said:
            work()
        assert len(said) == 1
        with pytest.warns(UserWarning, match=says), filled.open(None, to=to) as db:
            assert db["k002"] == VALUES["k002"]


def test_a_mirror_that_is_not_there(filled: Site) -> None:
    """A refused connection is one warning too."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    to = {"db_url": f"http://127.0.0.1:{port}/db"}
    with pytest.warns(UserWarning, match=f"127.0.0.1:{port}.*no answer") as said:
        db = filled.open(None, "w", to=to)
    assert len(said) == 1
    assert dict(db.items()) == VALUES
    db.close()


def test_nothing_at_db_url_yet(site: Site, tmp_path: Path) -> None:
    """Before it is published a database is created, filled and read, without a word at the open."""
    with site.open(tmp_path / "a.blt", "c") as db:
        db["a"] = 1
        assert db.push()
    with site.open(tmp_path / "a.blt", "w") as db:
        db["b"] = 2
        assert db.push()
    site.publish()
    with site.open(tmp_path / "b.blt", "w") as db:
        assert dict(db) == {"a": 1, "b": 2}


def elsewhere(site: Site) -> dict[str, str]:
    """A db_url that shows another database of the same bucket."""
    with ebooklet.open(
        site.server.connection(site.bucket, "data/other"), None, "c", value_serializer="json"
    ) as db:
        db["a"] = "another"
        assert db.push()
    (site.folder / "public").mkdir(exist_ok=True)
    (site.folder / "public" / "stranger").write_bytes(site.objects()["data/other"])
    return {"db_url": f"{site.url}/public/stranger"}


@pytest.mark.parametrize("flag", ["w", "c", "n"])
@pytest.mark.parametrize("local", [False, True])
def test_a_writer_is_refused_a_db_url_of_another_database(
    filled: Site, tmp_path: Path, flag: Flag, local: bool
) -> None:
    """`UUIDMismatchError` names the way out, and nothing was changed here, there, or in the file."""
    path = tmp_path / "a.blt"
    if local:
        filled.open(path, "w").close()
    to = elsewhere(filled)
    before = filled.objects(), {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(UUIDMismatchError, match="leave db_url out"):
        filled.open(path, flag, to=to)
    assert before == (
        filled.objects(),
        {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()},
    )
    with filled.open(path, "w") as db:  # nothing stayed locked
        assert db["k001"] == VALUES["k001"]


@pytest.mark.parametrize("flag", ["c", "n"])
def test_a_new_database_is_refused_a_db_url_that_shows_one(
    site: Site, tmp_path: Path, flag: Flag
) -> None:
    """Where nothing is by key, a database at db_url is another one: nothing is created."""
    to = elsewhere(site)
    before = site.objects()
    with pytest.raises(UUIDMismatchError, match="no database is there yet"):
        site.open(tmp_path / "a.blt", flag, to=to)
    assert (list(tmp_path.iterdir()), site.objects()) == ([], before)


def test_a_local_file_of_what_db_url_still_shows(filled: Site, tmp_path: Path) -> None:
    """Deleted by key, but not at db_url yet: the local half of that database may create it anew."""
    with filled.open(tmp_path / "a.blt", "w") as db:
        db.load_items()
    for key in filled.objects():
        filled.server.client().delete_object(Bucket=filled.bucket, Key=key)
    with pytest.raises(UUIDMismatchError):
        filled.open(tmp_path / "b.blt", "c")
    with pytest.warns(UserWarning, match="is gone"), filled.open(tmp_path / "a.blt", "c") as db:
        assert db["k001"] == VALUES["k001"]


def test_reopening_to_write_looks_too(filled: Site, tmp_path: Path) -> None:
    """A reader with a db_url of another database cannot become a writer, and stays a reader."""
    with filled.open(tmp_path / "a.blt", to=elsewhere(filled)) as db:
        with pytest.raises(UUIDMismatchError):
            db.reopen("w")
        assert not db.writable
        with pytest.warns(UserWarning, match="does not give"):
            assert db["k001"] == VALUES["k001"]


def test_a_huge_object_at_db_url_is_not_fetched(site: Site) -> None:
    """What stands in the head's place at db_url is asked for up to the size of the largest head."""
    body = b"EBKHEAD1" + bytes(20 << 20)
    with playing(saying(200, body)) as server:
        with site.open(None, "c", to={"db_url": f"{server.url}/db"}) as db:
            db["a"] = 1
        assert [asked[2]["Range"] for asked in server.asked] == [f"bytes=0-{MAX_HEAD_BYTES}"]


def test_neither_side_is_asked_when_offline(filled: Site, tmp_path: Path) -> None:
    """`offline=True` makes no request, to either place."""
    with filled.open(tmp_path / "a.blt") as db:
        db.load_items()
    with (
        behind(filled.server.endpoint_url) as (keyed, endpoint_url),
        behind(f"{filled.url}/public/other name") as (public, db_url),
    ):
        to = {"db_url": db_url, "endpoint_url": endpoint_url}
        with filled.open(tmp_path / "a.blt", to=to, offline=True) as db:
            assert dict(db.items()) == VALUES
        assert (keyed.log, public.log) == ([], [])


def test_what_the_mirror_is_opened_with() -> None:
    """No credentials, the limits of the connection, one repetition, and no second warning."""
    with pytest.warns(UserWarning, match="plain http"):
        connection = S3Connection(
            *("id", "secret", "db", "bucket"), db_url="http://example.org/db", threads=3
        )
    address = connection.mirror_address()
    assert address is not None
    public = address.connection
    assert public is not None
    assert (str(address), public.has_credentials) == ("http://example.org/db", False)
    assert (public.access_key, public.threads, public.retries) == (None, 3, 1)
    assert (connection.access_key, connection.retries) == ("secret", 3)
    assert S3Connection(db_url="https://example.org/db").mirror_address() is None
    assert S3Connection("id", "secret", "db", "bucket").mirror_address() is None
