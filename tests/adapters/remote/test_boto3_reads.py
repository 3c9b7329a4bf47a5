"""Reads of the boto3 store that go by the client's own pieces: the same request, the same answer."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ebooklet.adapters.remote.boto3 import Boto3RemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.errors import ObjectNotFound
from ebooklet.ports.remote_store import ByteRange
from ebooklet.testing.servers import S3Server

BODY = b"0123456789"
NAMES = ["a/b.c/ä ü/日本~'()!*;:@$,", """%2F +&?#=/<"|>[]{}^`"""]
# Of the client's library, and of the moment: the rest has to be equal.
PASSING = ("amz-sdk-invocation-id", "amz-sdk-request", "x-amz-date")


class Request(NamedTuple):
    """One that was seen."""

    target: str
    headers: dict[str, str]

    @property
    def by_client(self) -> bool:
        return "amz-sdk-invocation-id" in self.headers

    def lasting(self) -> tuple[str, dict[str, str]]:
        """It, but for what differs from one moment to the next."""
        headers = {n: v for n, v in self.headers.items() if n not in PASSING}
        headers["authorization"] = headers.get("authorization", "").partition("Signature=")[0]
        return self.target, headers


class Recorder(http.server.ThreadingHTTPServer):
    """Gives ten bytes, and keeps what was asked; a proxy as well as a server."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.statuses: list[int] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Request(self.path, headers))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        body, part = BODY, self.headers.get("Range")
        if status == 200 and part:
            status, body = 206, BODY[2:6]
            assert part == "bytes=2-5"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        if status == 206:
            self.send_header("Content-Range", "bytes 2-5/10")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def store_of(url: str | None, **changes: bool) -> Boto3RemoteStore:
    keys = {} if changes else {"access_key_id": "id", "access_key": "secret"}
    parameters = S3Parameters(url, "us-east-1", **keys, **changes)  # type: ignore[arg-type] # of the tests' choosing
    return Boto3RemoteStore("bucket", parameters, retry=Retry(0))


@pytest.mark.parametrize("how", ["path", "unsigned", "virtual"])
def test_the_same_request(recorder: Recorder, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the key, target and headers are what the client sent for it the time before."""
    store = store_of(recorder.url) if how == "path" else store_of(recorder.url, unsigned=True)
    if how == "virtual":  # by the name of the bucket, which only the proxy can find
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.somewhere")
        monkeypatch.setenv("http_proxy", recorder.url)
        store = store_of(None)
    for name in NAMES:
        for _ in range(2):
            assert store.get(name).body == BODY
            assert store.get(name, start=2, stop=6).body == BODY[2:6]
        store.close()  # and the next client makes its first read itself
        whole, part, *later = recorder.seen[-4:]
        assert [seen.by_client for seen in (whole, part, *later)] == [True, False, False, False]
        assert whole.lasting() == later[0].lasting()


def test_credentials_of_the_moment(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is about to expire is asked for again, token and all, for every request."""
    count = tmp_path / "count"
    program = tmp_path / "keys.py"
    program.write_text(
        "import datetime, json, pathlib\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "number = len(count.read_text()) if count.exists() else 0\n"
        "count.write_text('x' * (number + 1))\n"
        "soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'id{number}', 'SecretAccessKey': 's',\n"
        "    'SessionToken': f'token{number}', 'Expiration': soon.isoformat()}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    parameters = S3Parameters(recorder.url, "us-east-1")
    store = Boto3RemoteStore("bucket", parameters, retry=Retry(0))
    for _ in range(3):
        assert store.get("k").body == BODY
    store.close()
    numbers = [seen.headers["x-amz-security-token"].removeprefix("token") for seen in recorder.seen]
    assert [seen.by_client for seen in recorder.seen] == [True, False, False]
    assert len(set(numbers)) == 3
    for number, seen in zip(numbers, recorder.seen, strict=True):
        assert f"Credential=id{number}/" in seen.headers["authorization"]


def test_what_goes_wrong_is_the_clients(recorder: Recorder) -> None:
    """It is asked at once where an answer is odd, and from the third such answer on for all."""
    store = store_of(recorder.url)
    assert store.get("k").body == BODY
    for _ in range(3):
        recorder.statuses += [403]
        assert store.get("k").body == BODY
    assert store.get("k").body == BODY
    ways = [seen.by_client for seen in recorder.seen]
    assert ways == [True, *[False, True] * 3, True]
    store.close()


def test_what_is_certain_is_asked_once(recorder: Recorder) -> None:
    """No such object, and a part beyond the end: the client would make nothing else of it."""
    store = store_of(recorder.url)
    assert store.get("k").body == BODY
    recorder.statuses += [404]
    with pytest.raises(ObjectNotFound):
        store.get("other")
    assert store.get("k").body == BODY
    assert [seen.by_client for seen in recorder.seen] == [True, False, False]
    store.close()


@pytest.mark.parametrize("name", ["seaweedfs", "moto"])
def test_on_real_servers(name: str, request: pytest.FixtureRequest) -> None:
    """Signed requests for keys of every kind are accepted, and say of the object what heads say."""
    server: S3Server = request.getfixturevalue(name)
    bucket = server.new_bucket()
    parameters = S3Parameters.of(server.connection(bucket, "db", threads=4))
    store = Boto3RemoteStore(bucket, parameters, retry=Retry(0))
    for key in NAMES:
        store.put(key, key.encode() * 3)
    for key in NAMES:
        body = key.encode() * 3
        assert store.get(key).body == body
        assert store.get(key).meta == store.head(key)
        assert list(store.get_ranges([ByteRange(key, i, i + 3) for i in range(4)])) == [
            body[i : i + 3] for i in range(4)
        ]
    store.close()
