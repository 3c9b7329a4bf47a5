"""The proxy changes nothing it was not told to change, and counts to the byte."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from ebooklet.testing.counting_proxy import CountingProxy, Fault, FaultRule
from ebooklet.testing.servers import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[CountingProxy]:
    """A proxy before each server."""
    with CountingProxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def moto_proxy(moto: S3Server) -> Iterator[CountingProxy]:
    """A proxy before moto."""
    with CountingProxy(moto.endpoint_url) as proxy:
        yield proxy


def connect(server: S3Server, proxy: CountingProxy) -> S3Client:
    """A client without retries through the proxy, for exact counts."""
    return boto3.client(
        "s3",
        endpoint_url=proxy.url,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.access_key,
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=32,
        ),
    )


def test_signed_requests_pass_and_are_counted(
    s3_server: S3Server, bucket: str, proxy: CountingProxy
) -> None:
    """Bodies cross unchanged in both directions and their bytes are counted exactly."""
    client = connect(s3_server, proxy)
    body = bytes(range(256)) * 12_000
    client.put_object(Bucket=bucket, Key="big", Body=body)
    assert client.get_object(Bucket=bucket, Key="big")["Body"].read() == body
    part = client.get_object(Bucket=bucket, Key="big", Range="bytes=10-19")["Body"].read()
    assert part == body[10:20]
    client.head_object(Bucket=bucket, Key="big")
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"] for item in listed] == ["big"]
    counts = proxy.counts()
    assert counts.requests == 5
    assert counts.body_up == len(body)
    assert counts.body_down == len(body) + 10 + proxy.log[-1].down
    assert counts.by_kind == {"PUT": 1, "GET": 1, "RANGE": 1, "HEAD": 1, "LIST": 1}
    assert counts.by_method == {"PUT": 1, "GET": 3, "HEAD": 1}
    # Moto's server closes each connection after one answer.
    assert counts.connections == (5 if s3_server.name == "moto" else 1)
    assert proxy.log[0][:4] == ("PUT", f"/{bucket}/big", 200, len(body))


def test_refused_answers_pass_through(
    s3_server: S3Server, bucket: str, proxy: CountingProxy
) -> None:
    """Errors keep their status, and the connection serves on."""
    client = connect(s3_server, proxy)
    for _ in range(3):
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket=bucket, Key="none")
    client.put_object(Bucket=bucket, Key="k", Body=b"v")
    assert [exchange.status for exchange in proxy.log] == [404, 404, 404, 200]


def test_many_threads_share_the_proxy(
    s3_server: S3Server, bucket: str, proxy: CountingProxy
) -> None:
    """Sixteen clients at once each get their own object back."""
    client = connect(s3_server, proxy)

    def round_trip(number: int) -> bool:
        body = str(number).encode() * 1000
        client.put_object(Bucket=bucket, Key=f"k{number}", Body=body)
        answer: bytes = client.get_object(Bucket=bucket, Key=f"k{number}")["Body"].read()
        return answer == body

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(round_trip, range(64)))
    assert proxy.counts().requests == 128
    assert proxy.depth() < 128


def test_depth_counts_round_trips_in_a_row(moto: S3Server, moto_proxy: CountingProxy) -> None:
    """Requests one after another are that many rounds; at once they are fewer."""
    bucket = moto.new_bucket()
    client = connect(moto, moto_proxy)
    for _ in range(3):
        client.list_objects_v2(Bucket=bucket)
    assert moto_proxy.depth() == 3
    moto_proxy.reset()
    moto_proxy.latency_s = 0.2
    barrier = threading.Barrier(4)

    def one(_: int) -> None:
        barrier.wait()
        client.list_objects_v2(Bucket=bucket)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert moto_proxy.depth() == 1


def test_cut_before_sends_nothing(moto: S3Server, moto_proxy: CountingProxy) -> None:
    """The client sees a broken connection and the server has no object."""
    bucket = moto.new_bucket()
    client = connect(moto, moto_proxy)
    rule = moto_proxy.inject(FaultRule(Fault.CUT_BEFORE, method="PUT", path_contains="/k"))
    with pytest.raises(HTTPClientError):
        client.put_object(Bucket=bucket, Key="k", Body=b"v")
    assert rule.hits == 1
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_lost_answer_happened(s3_server: S3Server, bucket: str, proxy: CountingProxy) -> None:
    """The client sees a broken connection, yet the write was done."""
    client = connect(s3_server, proxy)
    proxy.inject(FaultRule(Fault.LOSE_ANSWER, method="PUT", skip=1))
    client.put_object(Bucket=bucket, Key="first", Body=b"1")
    with pytest.raises(HTTPClientError):
        client.put_object(Bucket=bucket, Key="k", Body=b"v")
    assert proxy.log[-1][:3] == ("PUT", f"/{bucket}/k", 200)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"v"


def test_half_an_answer_is_noticed(moto: S3Server, moto_proxy: CountingProxy) -> None:
    """The body breaks off in the middle; the client gets an error, not a short body."""
    bucket = moto.new_bucket()
    client = connect(moto, moto_proxy)
    client.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
    moto_proxy.inject(FaultRule(Fault.HALF_ANSWER, kind="GET"))
    with pytest.raises((HTTPClientError, IncompleteReadError)):
        client.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert moto_proxy.log[-1].down == 50_000


def test_half_a_request_is_never_answered(moto: S3Server, moto_proxy: CountingProxy) -> None:
    """The connection breaks off in the middle of what the client sends; the next request gets through."""
    bucket = moto.new_bucket()
    client = connect(moto, moto_proxy)
    rule = moto_proxy.inject(FaultRule(Fault.HALF_REQUEST, method="PUT"))
    with pytest.raises(HTTPClientError):
        client.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
    assert (rule.hits, moto_proxy.log) == (1, [])
    client.put_object(Bucket=bucket, Key="k", Body=b"v")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"v"


def test_unavailable_answers_503(moto: S3Server, moto_proxy: CountingProxy) -> None:
    """The client reads S3's SlowDown, twice as told, and then is served."""
    bucket = moto.new_bucket()
    client = connect(moto, moto_proxy)
    moto_proxy.inject(FaultRule(Fault.UNAVAILABLE, times=2))
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            client.put_object(Bucket=bucket, Key="k", Body=b"v")
    client.put_object(Bucket=bucket, Key="k", Body=b"v")
    assert [exchange.status for exchange in moto_proxy.log] == [503, 503, 200]


def test_held_request_arrives_later(s3_server: S3Server, bucket: str, proxy: CountingProxy) -> None:
    """A write the client gave up overwrites a later one when it is released."""
    client = connect(s3_server, proxy)
    rule = proxy.inject(FaultRule(Fault.HOLD, method="PUT"))
    with pytest.raises(HTTPClientError):
        client.put_object(Bucket=bucket, Key="k", Body=b"old")
    client.put_object(Bucket=bucket, Key="k", Body=b"new")
    rule.release()
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"


def test_only_http_is_forwarded() -> None:
    """A TLS endpoint is refused at once, as nothing could be counted there."""
    with pytest.raises(ValueError, match="http://host:port only"):
        CountingProxy("https://127.0.0.1:1")
