"""The read-only store of plain URLs: against public buckets of real servers, and odd ones."""

from __future__ import annotations

import gzip
import socket
import ssl
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import ebooklet
from ebooklet.adapters.remote.http import HttpRemoteStore, open_store
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.core.names import mint_sid, segment_key, sid_text
from ebooklet.errors import (
    AccessDenied,
    ObjectNotFound,
    ReadOnlyError,
    RemoteIntegrityError,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.services.request import FLAGS
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import S3Server, start_rclone_http
from tests.odd_servers import Answer, playing, saying, self_signed

BODY = bytes(range(256)) * 8
SID = mint_sid(1, bytes(10))


def patient(url: str, **options: Any) -> HttpRemoteStore:
    """A store that does not wait between attempts."""
    return HttpRemoteStore(url, sleep=lambda _: None, **options)


# Public buckets of real servers.


def published(server: S3Server) -> str:
    """The URL of a new bucket whose objects everyone may read."""
    return server.publish(server.new_bucket())


Putter = Callable[[str, bytes], object]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            name,
            marks=pytest.mark.matrix(
                "contract",
                "http",
                name.partition(" ")[0],
                representative=name not in ("ministack", "juicefs"),
            ),
        )
        for name in ("seaweedfs", "moto", "rclone http", "ministack", "juicefs")
    ],
)
def public(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Putter]]:
    """A public folder's URL, and how objects get into it."""
    if request.param == "rclone http":
        folder = tmp_path_factory.mktemp("rclone-http")
        with start_rclone_http(folder) as base:

            def write(key: str, body: bytes) -> None:
                path = folder / "data" / "bucket" / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)

            yield f"{base}/bucket", write
        return
    server = request.getfixturevalue(request.param)
    url = published(server)
    bucket = url.rpartition("/")[2]

    def put(key: str, body: bytes) -> None:
        server.client().put_object(Bucket=bucket, Key=key, Body=body)

    yield url, put


def test_public_objects_are_read(public: tuple[str, Putter]) -> None:
    """Whole, in parts, many parts at once, beyond the end and not at all (promises 4, 5 and 7)."""
    url, put = public
    put("data/db", BODY)
    put("data/empty", b"")
    store = patient(f"{url}/data/db")
    found = store.get("db")
    assert found.body == BODY
    assert found.meta.size == store.head("db").size == len(BODY)
    assert found.meta.modified_ms > 0
    part = store.get("db", start=10, stop=20)
    assert (part.body, part.meta.size) == (BODY[10:20], len(BODY))
    assert store.get("db", start=2000, stop=9999).body == BODY[2000:]
    assert store.get("db", start=2000).body == BODY[2000:]
    beyond = store.get("db", start=len(BODY), stop=9999)
    assert (beyond.body, beyond.meta.size) == (b"", len(BODY))
    assert store.get("db", start=5, stop=5).meta.size == len(BODY)
    for span in ({}, {"stop": 9}, {"start": 3}):
        assert store.get("empty", **span).body == b""
    assert store.head("empty").size == 0
    ranges = [ByteRange("db", n, n + 3) for n in range(0, 100, 7)]
    assert list(store.get_ranges(ranges)) == [BODY[n : n + 3] for n in range(0, 100, 7)]
    [failed] = store.get_ranges([ByteRange("db", 2000, 9999)])
    assert isinstance(failed, RemoteIntegrityError)
    for read in (store.get, store.head):
        with pytest.raises(ObjectNotFound):
            read("absent")
    assert store.server_time_ms()
    store.close()
    store.close()
    assert store.get("db").body == BODY


def test_a_part_costs_its_own_bytes(public: tuple[str, Putter]) -> None:
    """`ranges` tells the truth: a part of a large object moves little of it."""
    url, put = public
    body = bytes(range(256)) * (4 << 10)
    put("data/large", body)
    server, _, folder = url.rpartition("/")
    with CountingProxy(server) as proxy:
        store = patient(f"{proxy.url}/{folder}/data/db")
        assert store.capabilities.ranges
        assert store.get("large", start=1000, stop=1100).body == body[1000:1100]
        assert list(store.get_ranges([ByteRange("large", 7, 11)])) == [body[7:11]]
        assert proxy.counts().bytes_down < len(body) // 4
        store.close()


@pytest.mark.parametrize("name", ["my db", "50%", "a%20b", "plus+and&=", "é🙂", "semi;colon,"])
def test_names_that_urls_escape(public: tuple[str, Putter], name: str) -> None:
    """A name that must be escaped is found, with all that belongs to it (promise 6)."""
    from urllib.parse import quote

    url, put = public
    put(f"data/{name}", b"head")
    put(segment_key(f"data/{name}", SID), b"segment")
    store, key = open_store(RemoteAddress.parse(f"{url}/data/{quote(name)}"))
    assert key == name
    assert store.get(key).body == b"head"
    assert store.get(segment_key(key, SID)).body == b"segment"
    store.close()


@pytest.mark.parametrize("name", ["moto", "rclone http"])
def test_a_database_is_read_through_its_url(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What a writer pushed, anyone reads by the database's URL (CONTRACT §14, program 2)."""
    values = {f"key {n}": {"n": n} for n in range(300)}
    with ExitStack() as stack:
        target: str | S3Connection
        if name == "moto":
            server = request.getfixturevalue("moto")
            url = published(server) + "/data/db"
            target = server.connection(url.split("/")[-3], "data/db")
        else:
            url = stack.enter_context(start_rclone_http(tmp_path)) + "/bucket/db"
            target = (tmp_path / "data" / "bucket" / "db").as_uri()
            (tmp_path / "data" / "bucket").mkdir()
        with ebooklet.open(target, tmp_path / "writer.blt", "c", "json") as db:
            db.update(values)
            assert db.push().updated
        with ebooklet.open(url, tmp_path / "reader.blt") as db:
            assert db["key 7"] == {"n": 7}
            assert dict(db.items()) == values
        for flag in FLAGS[1:]:
            with pytest.raises(ReadOnlyError, match="flag 'r'"):
                ebooklet.open(url, tmp_path / "other.blt", flag)
    assert not (tmp_path / "other.blt").exists()


def test_connections_are_kept(seaweedfs: S3Server) -> None:
    """Requests in a row share one connection, refusals and HEADs included."""
    url = published(seaweedfs)
    bucket = url.rpartition("/")[2]
    seaweedfs.client().put_object(Bucket=bucket, Key="db", Body=BODY)
    with CountingProxy(seaweedfs.endpoint_url) as proxy:
        store = patient(f"{proxy.url}/{bucket}/db")
        for _ in range(3):
            store.head("db")
            store.get("db")
            store.get("db", start=1, stop=3)
            store.get("db", start=9999, stop=99999)
            with pytest.raises(ObjectNotFound):
                store.get("absent")
        counts = proxy.counts()
        store.close()
    assert counts.connections == 1


# Servers that differ.

RIGHT: dict[str, Answer] = {
    "206": saying(206, BODY[4:9], Content_Range=f"bytes 4-8/{len(BODY)}"),
    "206 without a length": saying(
        206, BODY[4:9], length=None, Content_Range=f"bytes 4-8/{len(BODY)}"
    ),
    "200 that is a part": saying(200, BODY[4:9], Content_Range=f"bytes 4-8/{len(BODY)}"),
    "200 that is the whole": saying(200, BODY),
    "200 without a length": saying(200, BODY, length=None),
    "200 whose tail never comes": saying(200, BODY[:9], length=len(BODY)),
}
WRONG: dict[str, Answer] = {
    "another part": saying(206, BODY[5:10], Content_Range=f"bytes 5-9/{len(BODY)}"),
    "a shorter part": saying(206, BODY[4:8], Content_Range=f"bytes 4-7/{len(BODY)}"),
    "a longer part": saying(206, BODY[4:99], Content_Range=f"bytes 4-98/{len(BODY)}"),
    "more than announced": saying(206, BODY[4:99], Content_Range=f"bytes 4-8/{len(BODY)}"),
    "more, and no length": saying(
        206, BODY[4:99], length=None, Content_Range=f"bytes 4-8/{len(BODY)}"
    ),
    "less, and no length": saying(
        206, BODY[4:8], length=None, Content_Range=f"bytes 4-8/{len(BODY)}"
    ),
    "a part from nowhere": saying(206, BODY[4:9]),
    "an unreadable place": saying(206, BODY[4:9], Content_Range="bytes 4-8/*"),
    "a huge place": saying(206, BODY[4:9], Content_Range=f"bytes 4-8/{'9' * 40}"),
    "gzip": saying(200, gzip.compress(BODY), Content_Encoding="gzip"),
    "gzip part": saying(
        206, BODY[4:9], Content_Encoding="gzip", Content_Range=f"bytes 4-8/{len(BODY)}"
    ),
}


@pytest.mark.parametrize("answer", RIGHT.values(), ids=RIGHT)
def test_forms_of_a_part(answer: Answer) -> None:
    """Every way in which servers answer a range gives the same bytes and size."""
    with playing(answer) as server:
        found = patient(f"{server.url}/db").get("db", start=4, stop=9)
        assert (found.body, found.meta.size) == (BODY[4:9], len(BODY))
        assert server.asked[0][2]["Accept-Encoding"] == "identity"
        assert server.asked[0][2]["Range"] == "bytes=4-8"


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_wrong_parts_are_refused(answer: Answer) -> None:
    """Other bytes than those asked for never come back (promise 7)."""
    with playing(answer) as server, pytest.raises(RemoteIntegrityError):
        patient(f"{server.url}/db").get("db", start=4, stop=9)


def test_a_body_that_breaks_off_is_asked_for_again() -> None:
    """A cut connection is repeated, then reported as what it is."""
    with playing(saying(200, BODY[:9], length=len(BODY))) as server:
        with pytest.raises(RemoteUnavailable):
            patient(f"{server.url}/db", retries=2).get("db")
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_overload_is_waited_for(status: int) -> None:
    """A server that recovers is no error (promise 4)."""
    answers = [saying(status, b"slow down")] * 2 + [saying(200, BODY)]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        answers.pop(0)(handler)

    waits: list[float] = []
    with playing(answer) as server:
        store = HttpRemoteStore(f"{server.url}/db", sleep=waits.append)
        assert store.get("db").body == BODY
    assert len(waits) == 2
    assert all(0 <= wait <= 0.2 for wait in waits)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (404, ObjectNotFound),
        (410, ObjectNotFound),
        (400, StoreError),
        (418, StoreError),
        (204, StoreError),
        (503, RemoteUnavailable),
    ],
)
def test_refusals_have_kinds(status: int, kind: type[StoreError]) -> None:
    """Each status is the error a caller can act on, with what was tried (promise 5)."""
    with playing(saying(status)) as server:
        store = patient(f"{server.url}/db", retries=1)
        for op, read in (("get", store.get), ("head", store.head)):
            with pytest.raises(StoreError) as caught:
                read("db")
            assert type(caught.value) is kind
            assert caught.value.key == "db"
            assert caught.value.op in (op, "get")


def test_redirects_are_followed() -> None:
    """A moved object is read where it is now, the range with it, and HEAD stays HEAD."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/old/db":
            saying(302, b"moved", Location="../new/db")(handler)
        else:
            saying(206, BODY[4:9], Content_Range=f"bytes 4-8/{len(BODY)}")(handler)

    with playing(answer) as server:
        store = patient(f"{server.url}/old/db")
        assert store.get("db", start=4, stop=9).body == BODY[4:9]
        assert [path for _, path, _ in server.asked] == ["/old/db", "/new/db"]
        assert server.asked[1][2]["Range"] == "bytes=4-8"


@pytest.mark.parametrize("target", ["/db", "", "ftp://127.0.0.1/db", "file:///etc/passwd", "//["])
def test_redirects_are_bounded(target: str) -> None:
    """A circle ends, and nothing but the web is followed."""
    with playing(saying(307, Location=target)) as server:
        with pytest.raises(StoreError, match="redirects"):
            patient(f"{server.url}/db").get("db")
        assert len(server.asked) <= 6


def test_nobody_there() -> None:
    """A refused connection is `RemoteUnavailable`, and names the place."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with pytest.raises(RemoteUnavailable, match=f"127.0.0.1:{port}"):
        patient(f"http://127.0.0.1:{port}/db").get("db")


def test_something_else_answers() -> None:
    """What is no HTTP is an error of ours."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"220 mail.example.org ready\r\n")
        handler.close_connection = True

    with playing(answer) as server, pytest.raises(RemoteUnavailable):
        patient(f"{server.url}/db").get("db")


def test_head_by_get() -> None:
    """Where HEAD is refused, one byte is asked for, and HEAD not again."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "HEAD":
            saying(405)(handler)
        else:
            saying(206, BODY[:1], Content_Range=f"bytes 0-0/{len(BODY)}", ETag='"e"')(handler)

    with playing(answer) as server:
        store = patient(f"{server.url}/db")
        assert {store.head("db"), store.head("db")} == {store.head("db")}
        assert (store.head("db").size, store.head("db").etag) == (len(BODY), '"e"')
        assert [method for method, _, _ in server.asked].count("HEAD") == 1


def test_unsatisfiable_without_a_size() -> None:
    """A bare 416 is settled by asking how long the object is."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "HEAD":
            saying(200, BODY)(handler)
        else:
            saying(416)(handler)

    with playing(answer) as server:
        store = patient(f"{server.url}/db", retries=0)
        assert store.get("db", start=4000, stop=4001).meta.size == len(BODY)
        with pytest.raises(RemoteUnavailable, match="changed"):
            store.get("db", start=4, stop=9)


# Servers that send whole objects, whatever was asked for.

WHOLE = {name: bytes([n]) * 50_000 + bytes(range(256)) * 1000 for n, name in enumerate("abc")}


def whole(handler: BaseHTTPRequestHandler, *, length: int | None = -1) -> None:
    saying(200, WHOLE[handler.path[-1]], length=length)(handler)


def sample(keys: str, count: int = 40) -> tuple[list[ByteRange], list[bytes]]:
    """Parts of these objects, and what they hold."""
    parts = [
        ByteRange(f"db.d/{k}", n * 7000, n * 7000 + 99 + n) for k in keys for n in range(count)
    ]
    return parts, [WHOLE[part.key[-1]][part.start : part.stop] for part in parts]


@pytest.mark.parametrize("length", [-1, None], ids=["", "without a length"])
def test_an_object_that_comes_whole_is_fetched_once(length: int | None) -> None:
    """Many threads, many parts, one request an object; later parts of it cost none."""
    parts, expected = sample("abc")
    with playing(partial(whole, length=length)) as server:
        store = patient(f"{server.url}/db", threads=8)
        assert list(store.get_ranges(parts)) == expected
        assert list(store.get_ranges(parts[::-1])) == expected[::-1]
        assert [list(store.get_ranges([part])) for part in parts[:5]] == [[e] for e in expected[:5]]
        assert len(server.asked) == 3
        [beyond] = store.get_ranges([ByteRange("db.d/a", 0, 1 << 20)])
        assert isinstance(beyond, RemoteIntegrityError)
        store.close()
        assert list(store.get_ranges(parts[:1])) == expected[:1]
        assert len(server.asked) == 5


def test_what_is_kept_of_whole_objects_is_bounded() -> None:
    """The one longest unused goes first; one that is too large is never kept."""
    parts, expected = sample("abcab", 3)
    with playing(whole) as server:
        store = patient(f"{server.url}/db", threads=1, kept_bytes=2 * len(WHOLE["a"]))
        assert list(store.get_ranges(parts)) == expected
        assert [path[-1] for _, path, _ in server.asked] == ["a", "b", "c", "a", "b"]
        store = patient(f"{server.url}/db", kept_bytes=len(WHOLE["a"]) - 1)
        server.asked.clear()
        assert list(store.get_ranges(parts)) == expected
        assert len(server.asked) == len(parts)
        store.close()


@pytest.mark.parametrize("length", [200 << 20, None])
def test_a_part_of_a_large_whole_object_takes_little_memory(length: int | None) -> None:
    """What comes before and after the part is passed over as it comes."""
    block = bytes(1 << 20)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        saying(200, b"", length=length)(handler)
        for _ in range(150):
            handler.wfile.write(block)
        handler.wfile.write(b"the part" + block)
        for _ in range(49):
            handler.wfile.write(block)

    with playing(answer) as server:
        store = patient(f"{server.url}/db", kept_bytes=1 << 20)
        tracemalloc.start()
        try:
            start = 150 << 20
            assert list(store.get_ranges([ByteRange("db.d/x", start, start + 8)])) == [b"the part"]
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
        store.close()


def test_a_server_that_turns_to_parts_is_asked_for_them() -> None:
    """A cache that sent an object whole once, and then sends parts, costs no more whole objects."""
    parts, expected = sample("abc", 6)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if len(server.asked) == 1:
            whole(handler)
            return
        start, last = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
        body = WHOLE[handler.path[-1]]
        place = f"bytes {start}-{last}/{len(body)}"
        saying(206, body[start : last + 1], Content_Range=place)(handler)

    with playing(answer) as server:
        store = patient(f"{server.url}/db", threads=1)
        assert list(store.get_ranges(parts)) == expected
        assert len(server.asked) == 1 + 6 + 6
        store.close()


# Addresses and certificates.


def test_unknown_certificates_are_refused(tmp_path: Path) -> None:
    """TLS is verified: a server nobody vouches for is not read, and not asked again."""
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with playing(saying(200, BODY), context) as server:
        with pytest.raises(StoreError, match="certificate") as caught:
            patient(f"{server.url}/db").get("db")
        assert not isinstance(caught.value, RemoteUnavailable)
        assert server.asked == []


def test_trusted_certificates_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SSL_CERT_FILE` vouches for a server; what it redirects to plain http is not followed."""
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/moved":
            saying(301, Location="http://127.0.0.1/db")(handler)
        else:
            saying(200, BODY)(handler)

    with playing(answer, context) as server:
        store = patient(f"{server.url}/db")
        assert store.get("db").body == BODY
        with pytest.raises(StoreError, match="plain http"):
            store.get("moved")


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://H:1/b/db", "/b/db"),
        ("http://h/db", "/db"),
        ("http://h/b/my%20db", "/b/my%20db"),
        ("http://h/b/my db", "/b/my%20db"),
        ("http://h/b/a+b%2Bc(d)%2Fe", "/b/a+b%2Bc(d)%2Fe"),
        ("http://h/b/100%", "/b/100%25"),
        ("http://h/b%C3%A9/é", "/b%C3%A9/%C3%A9"),
    ],
)
def test_the_spelling_of_a_url_stays(url: str, asked: str) -> None:
    """Segments are asked for at the URL itself plus `.d/` and their id, however it is spelled."""
    paths: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        saying(200, b"")(handler)

    with playing(answer) as server:
        path = url.partition("//")[2].partition("/")[2]
        store, key = open_store(RemoteAddress.parse(f"{server.url}/{path}"))
        store.get(key)
        store.get(segment_key(key, SID))
        store.close()
    assert paths == [asked, f"{asked}.d/{sid_text(SID)}"]


@pytest.mark.parametrize(
    "url",
    [
        "http://h/db?X-Signature=secret",
        "http://h/db?flag",
        "http://h/folder/",
        "http://h",
        "http:///db",
    ],
)
def test_urls_that_name_no_database(url: str) -> None:
    """A URL with a query, or without an object's name, is refused, and its query not repeated."""
    with pytest.raises(ValueError, match="URL") as caught:
        open_store(RemoteAddress.parse(url))
    assert "secret" not in str(caught.value)


def test_limits_come_with_the_connection() -> None:
    """`threads`, `read_timeout` and `retries` of an S3Connection hold for its `db_url` too."""
    with playing(saying(503)) as server:
        connection = S3Connection(db_url=f"{server.url}/db", retries=0)
        store, key = open_store(connection.address())
        with pytest.raises(RemoteUnavailable):
            store.get(key)
        assert len(server.asked) == 1
        store.close()


def test_nothing_is_written() -> None:
    """Every change is refused before a request, and the capabilities say so."""
    with playing(saying(200)) as server:
        store = patient(f"{server.url}/db")
        for write in (
            lambda: store.put("db", b""),
            lambda: store.delete(["db"]),
            lambda: store.copy("db", "other"),
        ):
            with pytest.raises(ReadOnlyError, match="S3Connection"):
                write()
        with pytest.raises(UnsupportedOperation):
            store.list("")
        assert server.asked == []
    assert not store.capabilities.writable
    assert not store.capabilities.conditional_put
    assert isinstance(store, RemoteStore)


@pytest.mark.parametrize("key", ["", "a//b", "../secret", "a/./b", "x" * 1025, "\ud800"])
def test_keys_that_are_refused(key: str) -> None:
    """A key that would lead out of the folder, or mean nothing, is never asked for."""
    with playing(saying(200)) as server:
        with pytest.raises(StoreError):
            patient(f"{server.url}/db").get(key)
        assert server.asked == []
