"""What the S3 stores make of failures: of the network, of real servers, and of odd answers."""

from __future__ import annotations

import http.server
import io
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ebooklet.adapters.outgoing import MAX_PUT_BYTES
from ebooklet.adapters.remote.boto3 import Boto3RemoteStore
from ebooklet.adapters.remote.fsspec import S3fsRemoteStore
from ebooklet.adapters.remote.minio import MinioRemoteStore
from ebooklet.adapters.remote.obstore import ObstoreRemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.errors import (
    AccessDenied,
    BucketMissingError,
    EBookletError,
    ObjectNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RemoteIntegrityError,
    RemoteUnavailable,
    StoreError,
    UnsupportedOperation,
)
from ebooklet.ports.remote_store import ByteRange, Condition, IfAbsent, IfMatch, RemoteStore
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.faults import Fault, FaultRule
from ebooklet.testing.servers import S3Server

Opener = Callable[..., RemoteStore]


DRIVERS: dict[str, Opener] = {
    "boto3": Boto3RemoteStore,
    "minio": MinioRemoteStore,
    "obstore": ObstoreRemoteStore,
    "fsspec": S3fsRemoteStore,
}


@pytest.fixture(
    params=[
        # Opening an s3fs takes half a second, and its table of failures is that of boto3.
        pytest.param(
            name,
            marks=pytest.mark.matrix("failures", name, "any", representative=name != "fsspec"),
        )
        for name in DRIVERS
    ]
)
def opener(request: pytest.FixtureRequest) -> Opener:
    """Each client library in turn."""
    return DRIVERS[request.param]


def store_at(opener: Opener, server: S3Server, bucket: str, **changes: object) -> RemoteStore:
    parameters = S3Parameters.of(server.connection(bucket, "db", threads=8))
    parameters = replace(parameters, **changes)  # type: ignore[arg-type] # of the tests' choosing
    return opener(bucket, parameters, retry=Retry(2, sleep=lambda _: None))


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[CountingProxy]:
    with CountingProxy(moto.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def direct(opener: Opener, moto: S3Server) -> Iterator[RemoteStore]:
    store = store_at(opener, moto, moto.new_bucket())
    yield store
    store.close()


@pytest.fixture
def store(
    opener: Opener, proxy: CountingProxy, moto: S3Server, direct: RemoteStore
) -> Iterator[RemoteStore]:
    """A store on the way through the proxy; `direct` sees the same bucket."""
    store = store_at(opener, moto.at(proxy.url), direct.location.rpartition("/")[2])
    yield store
    store.close()


# The network.


@pytest.mark.parametrize(
    ("fault", "error", "landed"),
    [
        (Fault.LOSE_ANSWER, OutcomeUnknown, True),
        (Fault.CUT_BEFORE, OutcomeUnknown, False),
        (Fault.UNAVAILABLE, RemoteUnavailable, False),
    ],
)
def test_a_conditional_put_is_sent_once(
    proxy: CountingProxy,
    store: RemoteStore,
    direct: RemoteStore,
    fault: Fault,
    error: type[EBookletError],
    landed: bool,
) -> None:
    """Promise 3: whatever happens to it, the request is never repeated by the library."""
    etag = direct.put("k", b"old").etag
    rule = proxy.inject(FaultRule(fault, kind="CAS", times=10))
    conditions: list[Condition] = [IfMatch(etag), IfAbsent()]
    for sent, condition in enumerate(conditions):
        with pytest.raises(error):
            store.put("k" if isinstance(condition, IfMatch) else "new", b"x", condition=condition)
        assert rule.hits == sent + 1
    assert direct.get("k").body == (b"x" if landed else b"old")
    assert [meta.key for meta in direct.list("new")] == (["new"] if landed else [])


@pytest.mark.parametrize(
    "fault", [Fault.LOSE_ANSWER, Fault.CUT_BEFORE, Fault.UNAVAILABLE, Fault.HALF_ANSWER]
)
def test_reads_are_repeated(
    proxy: CountingProxy, store: RemoteStore, direct: RemoteStore, fault: Fault
) -> None:
    """Promise 4: two bad moments are not seen by the reader, not even in the middle of a body."""
    body = bytes(range(256)) * 4000
    direct.put("k", body)
    for read in (
        lambda: store.get("k").body == body,
        lambda: store.get("k", start=5, stop=500_000).body == body[5:500_000],
        lambda: list(store.get_ranges([ByteRange("k", 3, 9)])) == [body[3:9]],
        lambda: [meta.key for meta in store.list("")] == ["k"],
    ):
        proxy.inject(FaultRule(fault, method="GET", times=2))
        assert read()
        proxy.clear_faults()


def test_unconditional_writes_are_repeated(
    proxy: CountingProxy, store: RemoteStore, direct: RemoteStore
) -> None:
    """Promise 4: a put, a deletion and a bulk deletion survive a lost answer."""
    proxy.inject(FaultRule(Fault.LOSE_ANSWER, method="PUT"))
    proxy.inject(FaultRule(Fault.LOSE_ANSWER, method="DELETE"))
    proxy.inject(FaultRule(Fault.CUT_BEFORE, method="POST"))
    for key in "abc":
        store.put(key, key.encode())
    assert [meta.key for meta in direct.list("")] == ["a", "b", "c"]
    store.delete(["a"])
    store.delete(["b", "c"])
    assert list(direct.list("")) == []


def test_a_write_never_answered_is_unknown(
    opener: Opener, proxy: CountingProxy, store: RemoteStore, direct: RemoteStore
) -> None:
    """Promise 3: when no attempt is answered, or the last is refused, the first may have landed."""
    known(opener, {"fsspec": "aiohttp sends an unconditional put again, and tells nobody"})
    proxy.inject(FaultRule(Fault.LOSE_ANSWER, method="PUT", times=3))
    with pytest.raises(OutcomeUnknown):
        store.put("k", b"body")
    assert direct.get("k").body == b"body"
    proxy.clear_faults()
    proxy.inject(FaultRule(Fault.LOSE_ANSWER, method="PUT", times=1))
    proxy.inject(FaultRule(Fault.UNAVAILABLE, method="PUT", times=2))
    with pytest.raises(OutcomeUnknown):
        store.put("k", b"other")
    assert direct.get("k").body == b"other"


def test_a_write_only_refused_was_not_written(
    proxy: CountingProxy, store: RemoteStore, direct: RemoteStore
) -> None:
    """Promise 3: an overloaded store that says so has written nothing."""
    proxy.inject(FaultRule(Fault.UNAVAILABLE, method="PUT", times=3))
    with pytest.raises(RemoteUnavailable):
        store.put("k", b"body")
    assert list(direct.list("")) == []


def test_nobody_listens(opener: Opener) -> None:
    """A refused connection is an outage, for reads and for both kinds of writes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        store = opener(
            "bucket",
            S3Parameters(f"http://127.0.0.1:{taken.getsockname()[1]}", "us-east-1", "id", "secret"),
            retry=Retry(2, sleep=lambda _: None),
        )
        for call in (
            lambda: store.get("k"),
            lambda: list(store.list("")),
            lambda: store.put("k", b"body"),
            lambda: store.put("k", b"body", condition=IfAbsent()),
            lambda: store.delete(["k"]),
        ):
            with pytest.raises(RemoteUnavailable, match="cannot be reached"):
                call()
        store.close()


# Real servers.


def test_wrong_credentials(opener: Opener, seaweedfs: S3Server) -> None:
    """Promise 5, 8: a wrong secret is `AccessDenied` that names the bucket and not the secret."""
    bucket = seaweedfs.new_bucket()
    store = store_at(opener, seaweedfs, bucket, access_key="wrongsecretwrongsecret")
    for call in (
        lambda: store.get("k"),
        lambda: store.head("k"),
        lambda: store.put("k", b"body"),
        lambda: store.put("k", b"body", condition=IfAbsent()),
        lambda: store.delete(["k"]),
        lambda: list(store.list("")),
    ):
        with pytest.raises(AccessDenied, match=bucket) as caught:
            call()
        assert "wrongsecret" not in f"{caught.value!r} {caught.value.__cause__!r} {store!r}"
    store.close()


def test_missing_bucket(opener: Opener, s3_server: S3Server) -> None:
    """A bucket that does not exist is not created, and said to be missing."""
    store = store_at(opener, s3_server, "never-made")
    for call in (
        lambda: store.get("k"),
        lambda: store.put("k", b"body"),
        lambda: store.put("k", b"body", condition=IfAbsent()),
        lambda: list(store.list("")),
    ):
        with pytest.raises(BucketMissingError, match="never-made"):
            call()
    store.close()


def test_a_large_file_goes_in_parts(opener: Opener, seaweedfs: S3Server, tmp_path: Path) -> None:
    """What exceeds one put is sent in parts, from its position on, and comes back whole."""
    path = tmp_path / "large"
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        for _ in range(MAX_PUT_BYTES // len(block) + 2):
            file.write(block)
    store = store_at(opener, seaweedfs, seaweedfs.new_bucket())
    with path.open("rb") as file:
        file.seek(5)
        meta = store.put("k", file)
        file.seek(0)
        with pytest.raises(UnsupportedOperation):
            store.put("k", file, condition=IfAbsent())
    assert meta == store.head("k")
    assert meta.size == path.stat().st_size - 5
    assert store.get("k", stop=10).body == block[5:15]
    assert store.get("k", start=meta.size - 10).body == block[-10:]
    middle = 64 << 20
    assert store.get("k", start=middle, stop=middle + 600).body == (block[5:] + block)[:600]
    store.close()


def test_a_failed_upload_leaves_no_parts(
    proxy: CountingProxy, store: RemoteStore, direct: RemoteStore, moto: S3Server
) -> None:
    """When a part cannot be sent, those before it are dropped, and the object is not there."""
    proxy.inject(FaultRule(Fault.UNAVAILABLE, kind="PART", skip=2, times=100))
    with pytest.raises(RemoteUnavailable):
        store.put("k", io.BytesIO(bytes(MAX_PUT_BYTES + 1)))
    proxy.clear_faults()
    bucket = direct.location.rpartition("/")[2]
    client: object = moto.client()
    uploads = client.list_multipart_uploads(Bucket=bucket)  # type: ignore[attr-defined]  # botocore has no types
    assert "Uploads" not in uploads
    assert list(direct.list("")) == []


def test_more_than_a_page(opener: Opener, seaweedfs: S3Server) -> None:
    """A list goes on after 1000 objects, and a deletion takes more than one request's worth."""
    store = store_at(opener, seaweedfs, seaweedfs.new_bucket())
    keys = [f"d/{i:04d}" for i in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), [*keys, "e"]))
    assert sorted(meta.key for meta in store.list("d/")) == keys
    assert sorted(meta.key for meta in store.list("d/", after="d/0998")) == keys[999:]
    store.delete(iter(keys))
    assert [meta.key for meta in store.list("")] == ["e"]
    store.close()


# Answers that no server at hand gives.


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers as the test's script says and keeps the requests."""

    protocol_version = "HTTP/1.1"
    script: list[tuple[int, dict[str, str], bytes]]
    seen: list[str]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(f"{self.command} {self.path}".removesuffix("="))
        status, headers, body = self.script[min(len(self.seen), len(self.script)) - 1]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "ETag": '"e"', **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815 - as the base class finds them

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class Script:
    """A server with a script, and a store that talks to it."""

    def __init__(self, opener: Opener, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.seen: list[str] = []
        handler = type("Handler", (Scripted,), {"script": list(answers), "seen": self.seen})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        parameters = S3Parameters(url, "us-east-1", "id", "secret")
        self.store = opener("bucket", parameters, retry=Retry(1, sleep=lambda _: None))

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def known(opener: Opener, reasons: dict[str, str]) -> None:
    """Stop here, as an expected failure, where the driver is known not to keep the promise."""
    for driver, reason in reasons.items():
        if opener is DRIVERS[driver]:
            pytest.xfail(f"{driver}: {reason}")


def refusal(status: int, code: str = "") -> tuple[int, dict[str, str], bytes]:
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    return status, {"Content-Type": "application/xml"}, body


@pytest.mark.parametrize(
    ("status", "code", "error", "sent"),
    [
        (412, "PreconditionFailed", PreconditionFailed, 1),
        (412, "", PreconditionFailed, 1),
        (404, "NoSuchKey", PreconditionFailed, 1),
        (404, "NoSuchBucket", BucketMissingError, 1),
        (409, "ConditionalRequestConflict", RemoteUnavailable, 5),
        (409, "OperationAborted", RemoteUnavailable, 5),
        (409, "InvalidBucketState", StoreError, 1),
        (501, "NotImplemented", UnsupportedOperation, 1),
        (501, "", UnsupportedOperation, 1),
        (403, "AccessDenied", AccessDenied, 1),
        (401, "", AccessDenied, 1),
        (400, "ExpiredToken", AccessDenied, 1),
        (400, "RequestTimeout", RemoteUnavailable, 1),
        (429, "TooManyRequests", RemoteUnavailable, 1),
        (429, "", RemoteUnavailable, 1),
        (503, "SlowDown", RemoteUnavailable, 1),
        (503, "", OutcomeUnknown, 1),
        (500, "InternalError", OutcomeUnknown, 1),
        (502, "", OutcomeUnknown, 1),
        (504, "", OutcomeUnknown, 1),
        (301, "PermanentRedirect", StoreError, 1),
        (400, "InvalidArgument", StoreError, 1),
        (400, "<script>", StoreError, 1),
    ],
)
def test_refused_conditional_puts(
    opener: Opener, status: int, code: str, error: type[StoreError], sent: int
) -> None:
    """Promise 3: by its status and code each answer means written not, refused, or unknown."""
    with Script(opener, refusal(status, code)) as script:
        with pytest.raises(error) as caught:
            script.store.put("k", b"body", condition=IfMatch('"e"'))
        assert len([line for line in script.seen if line.startswith("PUT")]) == sent or code == (
            "PermanentRedirect"  # each a new request to where botocore takes the bucket to be
        )
        assert (caught.value.op, caught.value.key) == ("put", "k")
        assert isinstance(caught.value, OutcomeUnknown) == (error is OutcomeUnknown)
        assert caught.value.__cause__ is not None
        assert "script" not in str(caught.value)


def test_a_conflict_is_asked_again(opener: Opener) -> None:
    """A 409 decides nothing; the next answer does."""
    with Script(opener, refusal(409, "ConditionalRequestConflict"), (200, {}, b"")) as script:
        assert script.store.put("k", b"body", condition=IfAbsent()).etag == '"e"'
    script = Script(opener, refusal(409, "OperationAborted"), refusal(412))
    with script, pytest.raises(PreconditionFailed):
        script.store.put("k", b"body", condition=IfAbsent())


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Range": "bytes 2-5/10"}, b"2345"),
        ({"Content-Range": "bytes 2-5/10", "status": "200"}, b"2345"),
        ({"status": "200"}, b"0123456789"),
    ],
)
def test_ways_to_answer_a_range(opener: Opener, headers: dict[str, str], body: bytes) -> None:
    """206, 200 with a place, and 200 with the whole object give the same part."""
    if headers.get("status") == "200" and "Content-Range" in headers:
        known(opener, {"obstore": "takes no part with status 200, and asks for the whole anew"})
    headers = dict(headers)
    status = int(headers.pop("status", "206"))
    with Script(opener, (status, headers, body)) as script:
        found = script.store.get("k", start=2, stop=6)
        assert (found.body, found.meta.size) == (b"2345", 10)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (206, {"Content-Range": "bytes 2-4/10"}, b"234"),
        (206, {"Content-Range": "bytes 0-3/10"}, b"0123"),
        (206, {"Content-Range": "bytes 2-6/10"}, b"23456"),
        (206, {"Content-Range": "bytes 2-5/10"}, b"234"),
        (206, {"Content-Range": "bytes 2-5/10"}, b"23456"),
        (206, {"Content-Range": "bytes 2-5/*"}, b"2345"),
        (206, {"Content-Range": "bytes 2-3/4"}, b"2345"),
        (206, {"Content-Range": f"bytes 2-5/{'9' * 30}"}, b"2345"),
        (206, {"Content-Range": "bytes -2-5/10"}, b"2345"),
        (206, {}, b"2345"),
        (200, {"Content-Range": "bytes 1-4/10"}, b"1234"),
    ],
)
def test_wrong_parts(opener: Opener, status: int, headers: dict[str, str], body: bytes) -> None:
    """Promise 7: a part that is not the one asked for is never returned."""
    if status == 200:
        known(opener, {"obstore": "takes no part with status 200, and asks for the whole anew"})
    with Script(opener, (status, headers, body)) as script, pytest.raises(RemoteIntegrityError):
        script.store.get("k", start=2, stop=6)


def test_bodies_that_break_off(opener: Opener) -> None:
    """Promise 7: a body shorter than announced is an error after the last attempt."""
    with Script(opener, (200, {"Content-Length": "10", "Connection": "close"}, b"0123")) as script:
        with pytest.raises(RemoteUnavailable):
            script.store.get("k")
        with pytest.raises(RemoteUnavailable):
            script.store.get("k", start=2, stop=6)


def test_a_416_of_a_shrunken_object(opener: Opener) -> None:
    """416 means the end was passed; where the object says otherwise, it changed meanwhile."""
    with Script(
        opener, refusal(416, "InvalidRange"), (200, {"Content-Length": "2"}, b"")
    ) as script:
        assert script.store.get("k", start=2, stop=6).body == b""
    script = Script(opener, refusal(416, "InvalidRange"), (200, {"Content-Length": "9"}, b""))
    with script, pytest.raises(RemoteUnavailable, match="changed"):
        script.store.get("k", start=2, stop=6)


@pytest.mark.parametrize(
    "page",
    [
        b"not xml at all",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        (
            b"<ListBucketResult><IsTruncated>true</IsTruncated>"
            b"<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
        ),
    ],
)
def test_lists_that_lead_nowhere(opener: Opener, page: bytes) -> None:
    """A list that cannot be read or never ends is an error, not an endless loop."""
    if b"IsTruncated" in page:
        known(opener, {"obstore": "its pages turn inside the library, where nobody can look"})
    with Script(opener, (200, {"Content-Type": "application/xml"}, page)) as script:
        with pytest.raises(StoreError):
            list(script.store.list(""))
        assert len(script.seen) <= 3


def test_a_bulk_deletion_that_fails_in_part(opener: Opener) -> None:
    """An error for one key is raised under its name; an absent key is none."""
    known(opener, {"obstore": "asks again, one by one, for what a bulk request did not delete"})
    said = "<DeleteResult><Error><Key>{}</Key><Code>{}</Code></Error></DeleteResult>"
    with Script(opener, (200, {}, said.format("b", "AccessDenied").encode())) as script:
        with pytest.raises(AccessDenied) as caught:
            script.store.delete(["a", "b"])
        assert caught.value.key == "b"
    with Script(opener, (200, {}, said.format("b", "NoSuchKey").encode())) as script:
        script.store.delete(["a", "b"])
        assert script.seen == ["POST /bucket?delete"]


def test_no_bulk_deletion(opener: Opener) -> None:
    """Where the server knows no bulk request, keys are deleted one by one."""
    with Script(opener, refusal(501, "NotImplemented"), (204, {}, b"")) as script:
        script.store.delete(["a", "b"])
        assert sorted(set(script.seen)) == [
            "DELETE /bucket/a",
            "DELETE /bucket/b",
            "POST /bucket?delete",
        ]


def test_etags_that_cannot_be_sent(opener: Opener) -> None:
    """An ETag that would break the request is refused before it."""
    with Script(opener, (200, {}, b"")) as script:
        for etag in ("", "a\r\nX-Evil: 1", "é"):
            with pytest.raises(StoreError):
                script.store.put("k", b"", condition=IfMatch(etag))
        assert script.seen == []


def test_half_an_answer_is_no_object(opener: Opener) -> None:
    """A missing object is a fact also when the server only says 404."""
    with Script(opener, refusal(404)) as script:
        with pytest.raises(ObjectNotFound):
            script.store.get("k")
        with pytest.raises(ObjectNotFound):
            script.store.head("k")
        assert len(script.seen) == 2
