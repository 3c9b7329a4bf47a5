"""Names in URLs, connections and messages; and messages that name what they are about."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

import ebooklet
from ebooklet.adapters.retry import NotAccepted, Retry, RivalRequest
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.errors import (
    ConflictError,
    EBookletError,
    InvalidURLError,
    LockTimeout,
    RemoteMissingError,
    RemoteUnavailable,
)
from ebooklet.testing.servers import start_http_server
from tests.services.test_neighbouring_names import NAMES


@pytest.mark.parametrize("name", [*NAMES, "a\nb", "a'(b)!~*", "a:b", "a,b;c@d$e", "ab ", "a\\b"])
def test_a_name_is_the_same_however_it_is_passed(name: str) -> None:
    """By an escaped URL, back from an address, in a connection, and in what that stores."""
    address = RemoteAddress.parse(f"s3://bucket/{quote(name)}?region=eu")
    assert address.path == name
    assert RemoteAddress.parse(str(address)).path == name
    connection = S3Connection("AKID", "secret", name, "bucket")
    assert connection.address().path == name
    assert connection.to_dict()["db_key"] == name
    assert repr(name) in repr(connection)


def test_a_slash_is_a_slash_escaped_or_not() -> None:
    """Keys know no difference; the name `a%2Fb` itself is written `a%252Fb`."""
    assert RemoteAddress.parse("s3://bucket/a%2Fb").path == "a/b"
    assert RemoteAddress.parse("s3://bucket/a%252Fb").path == "a%2Fb"
    assert RemoteAddress.parse("s3://bucket/a+b").path == "a+b"


@pytest.mark.parametrize("url", ["s3://bucket/a#b", "s3://bucket/a\nb", "s3://bucket/%FF"])
def test_what_a_url_would_lose_is_refused(url: str) -> None:
    """Part of the name would be dropped or replaced, and another database opened."""
    with pytest.raises(InvalidURLError, match="quote"):
        ebooklet.open(url)


def test_names_through_a_public_url(tmp_path: Path) -> None:
    """Each is read through its escaped URL, as a folder served by HTTP shows it."""
    names = [name for name in NAMES if "/" not in name]
    (tmp_path / "bucket").mkdir()
    for name in names:
        url = f"file://{quote(str(tmp_path))}/bucket/{quote(name)}"
        with ebooklet.open(url, flag="c", value_serializer="json") as db:
            db["name"] = name
            assert db.push()
    with start_http_server(tmp_path / "bucket", tmp_path / "log") as base:
        for name in names:
            on_disk = name.replace("%", "%25")  # how a folder spells it
            with ebooklet.open(f"{base}/{quote(on_disk)}") as db:
                assert dict(db.items()) == {"name": name}


def test_a_group_says_which_database_is_missing() -> None:
    """And an entry that cannot be opened as it is says why, and what to add."""
    missing = S3Connection(db_url="http://127.0.0.1:9/data/gone", retries=0)
    with (
        ebooklet.open_rcg(f"memory://{uuid4().hex}", flag="c") as group,
        pytest.raises(EBookletError, match=r"127\.0\.0\.1:9"),
    ):
        group.add(missing)
    entry = {"remote_conn": {"db_key": "data/db", "bucket": "bucket", "db_url": None}}
    with pytest.raises(ValueError, match=r"'data/db' has no db_url.*access_key"):
        ebooklet.open(entry)


def test_a_group_names_a_place_without_a_database(tmp_path: Path) -> None:
    """The place is in the message, and the key beside it."""
    with (
        start_http_server(tmp_path, tmp_path / "log") as base,
        ebooklet.open_rcg(f"memory://{uuid4().hex}", flag="c") as group,
    ):
        with pytest.raises(RemoteMissingError, match="gone") as caught:
            group.add(S3Connection(db_url=f"{base}/gone"))
        assert caught.value.key == "gone"


@pytest.mark.filterwarnings("ignore:.*changed both here:UserWarning")
def test_a_conflict_names_both_ways_out() -> None:
    """Either side can be taken by a word."""
    url = f"memory://{uuid4().hex}"
    with ebooklet.open(url, None, "c", "json") as db:
        db["a"] = 1
        assert db.push()
    with (
        ebooklet.open(url, None, "w", lock="optimistic") as db,
        ebooklet.open(url, None, "w", lock="optimistic") as other,
    ):
        db["a"], other["a"] = 2, 3
        assert other.push()
        with pytest.raises(ConflictError, match=r"conflict='ours'.*conflict='theirs'"):
            db.push()


def test_a_writer_in_this_process_is_named_so(tmp_path: Path) -> None:
    """Not by a process id that is one's own."""
    with ebooklet.open(None, tmp_path / "a.blt", "c", value_serializer="json") as db:
        db["a"] = 1
        with pytest.raises(LockTimeout, match="another handle in this process"):
            ebooklet.open(None, tmp_path / "a.blt", "w", lock_timeout=0)


def test_migrating_onto_itself_is_refused_by_name() -> None:
    """Before the old database is taken for something that is in the way."""
    url = f"memory://{uuid4().hex}/old"
    with pytest.raises(ValueError, match="old and new are both"):
        ebooklet.migrate(url, url)


@pytest.mark.parametrize("kind", [NotAccepted, RivalRequest])
def test_callers_see_public_errors_only(kind: type[RemoteUnavailable]) -> None:
    """What tells retries apart is no class that shows in a traceback."""

    def attempt() -> None:
        raise kind("no answer", op="get", key="k")

    for run in (Retry(0, lambda _: None).run, Retry(0, lambda _: None).once):
        with pytest.raises(RemoteUnavailable) as caught:
            run(attempt)
        assert type(caught.value) is RemoteUnavailable
        assert caught.value.op == "get"
        assert caught.value.__suppress_context__
