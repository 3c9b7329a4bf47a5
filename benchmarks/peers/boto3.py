"""boto3, one object for each key, 32 threads; also one object of all values, and whole files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.peers import peer

THREADS = 32


def client(place: peer.Place) -> Any:
    """A client as its documentation makes one."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=place.endpoint_url,
        region_name=place.region,
        aws_access_key_id=place.access_key_id,
        aws_secret_access_key=place.access_key,
        config=Config(max_pool_connections=THREADS, s3={"addressing_style": "path"}),
    )


class Reader(peer.Reader):
    """A client, and a pool of threads."""

    def __init__(self, place: peer.Place) -> None:
        self._place = place
        self._client = client(place)
        self._pool = ThreadPoolExecutor(THREADS)

    def _one(self, key: str) -> bytes:
        place = self._place
        answer = self._client.get_object(Bucket=place.bucket, Key=f"{place.prefix}/{key}")
        body: bytes = answer["Body"].read()
        return body

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return dict(zip(keys, self._pool.map(self._one, keys), strict=True))

    def keys(self) -> Collection[str]:
        prefix = f"{self._place.prefix}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._place.bucket, Prefix=prefix
        )
        return [found["Key"].removeprefix(prefix) for page in pages for found in page["Contents"]]

    def all(self) -> Mapping[str, bytes]:
        return self.get(list(self.keys()))

    def close(self) -> None:
        self._pool.shutdown()
        self._client.close()


class Remote(peer.Remote):
    """One object for each key."""

    def __init__(self, place: peer.Place) -> None:
        super().__init__(place)
        self._client = client(place)
        self._pool = ThreadPoolExecutor(THREADS)

    def prepare(self) -> None:
        self._client.put_object(Bucket=self.place.bucket, Key=f"{self.place.prefix}.x", Body=b"")

    def _one(self, item: tuple[str, bytes]) -> None:
        key = f"{self.place.prefix}/{item[0]}"
        self._client.put_object(Bucket=self.place.bucket, Key=key, Body=item[1])

    def write_all(self, values: Mapping[str, bytes]) -> None:
        for _ in self._pool.map(self._one, values.items()):
            pass

    def change(self, values: Mapping[str, bytes]) -> None:
        self.write_all(values)

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place)

    def close(self) -> None:
        self._pool.shutdown()
