"""Each S3 adapter beside the client library it wraps, on one server, interleaved in one run.

    python -m benchmarks.transport [--server NAME] [--rounds N] [--drivers boto3,minio,...] [--write]

Three kinds of work: many small ranges of one segment, one large body up, one large body down. A
library's own program is written as its documentation would have it, with as many threads as the
adapter uses; chunks of work alternate between the two, so that what else the machine does falls
on both alike. Each chunk is compared with the one beside it; the median of these ratios counts,
not seconds. Then the life of a database through the drivers, in turn (`benchmarks.drivers`).

`--write` puts the figures into RESULTS-transport.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import drivers
from benchmarks.figures import Figures
from ebooklet.plugins.registry import Registry
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.testing.servers import (
    REGION,
    S3Server,
    start_moto,
    start_rclone,
    start_seaweedfs,
)

THREADS = 16
KEY = "bench.d/segment"
SMALL_BYTES = 1024
SMALL_RANGES = 160  # a chunk
LARGE_BYTES = 32 << 20
SEGMENT_BYTES = 8 << 20
TARGET = 0.8
SERVERS = {"seaweedfs": start_seaweedfs, "moto": start_moto, "rclone": start_rclone}
RESULTS = Path(__file__).with_name("RESULTS-transport.md")


@dataclass(frozen=True)
class Bare:
    """What a client library does by itself."""

    ranges: Callable[[Sequence[tuple[int, int]]], list[bytes]]
    up: Callable[[bytes], object]
    down: Callable[[], bytes]


def bare_boto3(server: S3Server, bucket: str) -> Bare:
    """boto3's client, with the settings without which it fails on some servers."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name=REGION,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.access_key,
        config=Config(
            max_pool_connections=THREADS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )
    pool = ThreadPoolExecutor(THREADS)

    def read(span: tuple[int, int]) -> bytes:
        answer = client.get_object(Bucket=bucket, Key=KEY, Range=f"bytes={span[0]}-{span[1] - 1}")
        return answer["Body"].read()

    return Bare(
        ranges=lambda spans: list(pool.map(read, spans)),
        up=lambda body: client.put_object(Bucket=bucket, Key=f"{KEY}.up", Body=body),
        down=lambda: client.get_object(Bucket=bucket, Key=f"{KEY}.large")["Body"].read(),
    )


def bare_minio(server: S3Server, bucket: str) -> Bare:
    """minio-py's client, with a connection pool of its size."""
    import io

    import urllib3
    from minio import Minio

    client = Minio(
        server.endpoint_url.partition("://")[2],
        access_key=server.access_key_id,
        secret_key=server.access_key,
        region=REGION,
        secure=False,
        http_client=urllib3.PoolManager(maxsize=THREADS),
    )
    pool = ThreadPoolExecutor(THREADS)

    def body_of(answer: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return answer.read()
        finally:
            answer.release_conn()

    def read(span: tuple[int, int]) -> bytes:
        return body_of(client.get_object(bucket, KEY, offset=span[0], length=span[1] - span[0]))

    return Bare(
        ranges=lambda spans: list(pool.map(read, spans)),
        up=lambda body: client.put_object(
            bucket, f"{KEY}.up", io.BytesIO(body), len(body), part_size=LARGE_BYTES
        ),
        down=lambda: body_of(client.get_object(bucket, f"{KEY}.large")),
    )


def bare_obstore(server: S3Server, bucket: str) -> Bare:
    """obstore's S3Store; small ranges one request each, as the others make them."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        bucket,
        endpoint=server.endpoint_url,
        region=REGION,
        access_key_id=server.access_key_id,
        secret_access_key=server.access_key,
        client_options={"allow_http": True},
    )

    async def read(spans: Sequence[tuple[int, int]]) -> list[bytes]:
        gate = asyncio.Semaphore(THREADS)

        async def one(span: tuple[int, int]) -> bytes:
            async with gate:
                return bytes(await obstore.get_range_async(store, KEY, start=span[0], end=span[1]))

        return await asyncio.gather(*map(one, spans))

    return Bare(
        ranges=lambda spans: asyncio.run(read(spans)),
        up=lambda body: obstore.put(store, f"{KEY}.up", body, use_multipart=False),
        down=lambda: bytes(obstore.get(store, f"{KEY}.large").bytes()),
    )


def bare_fsspec(server: S3Server, bucket: str) -> Bare:
    """s3fs through fsspec's own bulk calls."""
    import fsspec

    files = fsspec.filesystem(
        "s3",
        key=server.access_key_id,
        secret=server.access_key,
        endpoint_url=server.endpoint_url,
        client_kwargs={"region_name": REGION},
        config_kwargs={
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "max_pool_connections": THREADS,
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )

    def ranges(spans: Sequence[tuple[int, int]]) -> list[bytes]:
        starts, stops = zip(*spans, strict=True)
        path = f"{bucket}/{KEY}"
        found: list[bytes] = files.cat_ranges(
            [path] * len(spans), list(starts), list(stops), max_gap=None
        )
        return found

    return Bare(
        ranges=ranges,
        up=lambda body: files.pipe_file(f"{bucket}/{KEY}.up", body, chunksize=2 * LARGE_BYTES),
        down=lambda: files.cat_file(f"{bucket}/{KEY}.large"),
    )


BARE = {
    "boto3": bare_boto3,
    "minio": bare_minio,
    "obstore": bare_obstore,
    "fsspec": bare_fsspec,
}


def adapter(driver: str, server: S3Server, bucket: str) -> RemoteStore:
    """The adapter that `S3Connection(driver=...)` opens."""
    address = server.connection(bucket, "bench", driver=driver, threads=THREADS).address()
    store, _ = Registry().remote_store(address.scheme)(address)
    return store


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def scattered(number: int) -> list[tuple[int, int]]:
    """Spans of one round; every round reads others, so that no cache decides."""
    step = SEGMENT_BYTES // SMALL_RANGES
    shift = (number * SMALL_BYTES) % (step - SMALL_BYTES)
    return [(n * step + shift, n * step + shift + SMALL_BYTES) for n in range(SMALL_RANGES)]


def ranges_of(store: RemoteStore, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """The same spans through an adapter; a failed one stops the benchmark."""
    bodies = []
    for body in store.get_ranges([ByteRange(KEY, start, stop) for start, stop in spans]):
        if not isinstance(body, bytes):
            raise body
        bodies.append(body)
    return bodies


@dataclass(frozen=True)
class Pair:
    """One kind of work by a library alone and by its adapter: seconds of each chunk."""

    bare: Sequence[float]
    ours: Sequence[float]

    @property
    def ratio(self) -> float:
        """How fast the adapter is, the library being 1: of neighbours, the median."""
        return median(bare / ours for bare, ours in zip(self.bare, self.ours, strict=True))


def measure(driver: str, server: S3Server, rounds: int) -> dict[str, Pair]:
    """Seconds of bare library and adapter for each kind of work."""
    bucket = server.new_bucket()
    bare, ours = BARE[driver](server, bucket), adapter(driver, server, bucket)
    segment, large = os.urandom(SEGMENT_BYTES), os.urandom(LARGE_BYTES)
    ours.put(KEY, segment)
    ours.put(f"{KEY}.large", large)
    if ranges_of(ours, scattered(0)) != bare.ranges(scattered(0)):
        raise AssertionError("adapter and library read different bytes")
    if ours.get(f"{KEY}.large").body != large or bare.down() != large:
        raise AssertionError("the large body came back changed")
    works: dict[str, tuple[Callable[[int], object], Callable[[int], object]]] = {
        "small ranges": (
            lambda n: bare.ranges(scattered(n)),
            lambda n: ranges_of(ours, scattered(n)),
        ),
        "large up": (lambda _: bare.up(large), lambda _: ours.put(f"{KEY}.up", large)),
        "large down": (lambda _: bare.down(), lambda _: ours.get(f"{KEY}.large")),
    }
    measured = {}
    for name, sides in works.items():
        spent: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds):
            # Who goes first changes from round to round.
            for side in (0, 1) if number % 2 else (1, 0):
                spent[side].append(timed(partial(sides[side], number)))
        measured[name] = Pair(*spent)
    ours.close()
    return measured


def row(driver: str, work: str, pair: Pair) -> list[str]:
    """The figures of one line."""
    amount, unit = (SMALL_RANGES, "/s") if work == "small ranges" else (LARGE_BYTES / 1e6, "MB/s")
    rates = [f"{amount / median(seconds):,.0f} {unit}" for seconds in (pair.bare, pair.ours)]
    return [driver, work, *rates, f"{pair.ratio:.2f}" + " (below 0.8)" * (pair.ratio < TARGET)]


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=SERVERS, default="seaweedfs")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--drivers", default=",".join(BARE))
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--write", action="store_true")
    options, _ = parser.parse_known_args()
    chosen = options.drivers.split(",")
    adapters = Figures(
        f"{options.server}: {THREADS} threads, {options.rounds} rounds of {SMALL_RANGES} ranges of "
        f"{SMALL_BYTES} B, or of {LARGE_BYTES >> 20} MiB",
        ("driver", "work", "library alone", "adapter", "ratio"),
    )
    databases = drivers.figures(chosen, options.keys, options.server)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        SERVERS[options.server](Path(folder)) as server,
    ):
        for driver in chosen:
            for work, pair in measure(driver, server, options.rounds).items():
                adapters.rows.append(row(driver, work, pair))
        drivers.measure(databases, chosen, server, options.keys)
    for table in (adapters, databases):
        table.show()
    if options.write:
        today = time.strftime("%Y-%m-%d", time.gmtime())
        RESULTS.write_text(
            f"# The speed of transport\n\nWritten by `python -m benchmarks.transport --write`, "
            f"{today}.\n\n{adapters.markdown()}\n{databases.markdown()}",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
