"""One object of all values: what moving so many bytes takes, whatever they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.peers import peer
from benchmarks.peers.boto3 import client


class Reader(peer.Reader):
    """A client."""

    def __init__(self, place: peer.Place) -> None:
        self._place = place
        self._client = client(place)

    def all(self) -> Mapping[str, bytes]:
        place = self._place
        answer = self._client.get_object(Bucket=place.bucket, Key=place.prefix)
        body, size = memoryview(answer["Body"].read()), place.value_bytes
        return {
            f"key-{number:08}": bytes(body[number * size : (number + 1) * size])
            for number in range(place.n_keys)
        }

    def close(self) -> None:
        self._client.close()


class Remote(peer.Remote):
    """One object."""

    def __init__(self, place: peer.Place) -> None:
        super().__init__(place)
        self._client: Any = client(place)

    def prepare(self) -> None:
        self._client.put_object(Bucket=self.place.bucket, Key=f"{self.place.prefix}.x", Body=b"")

    def write_all(self, values: Mapping[str, bytes]) -> None:
        body = b"".join(values.values())
        self._client.put_object(Bucket=self.place.bucket, Key=self.place.prefix, Body=body)

    def push(self, values: Mapping[str, bytes]) -> None:
        """One PUT of so many bytes: a round trip where they are few, and the transfer besides."""
        body = b"".join(values.values())
        self._client.put_object(Bucket=self.place.bucket, Key=f"{self.place.prefix}.x", Body=body)

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place)
