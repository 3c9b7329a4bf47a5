"""A database file that is uploaded and downloaded whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import peer
from benchmarks.peers.boto3 import client


class File(ABC):
    """One file, open."""

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Open it, and make it where there is none."""

    @abstractmethod
    def put(self, values: Mapping[str, bytes]) -> None:
        """In one transaction, durable when it returns."""

    @abstractmethod
    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Values of these keys."""

    @abstractmethod
    def keys(self) -> Collection[str]:
        """All keys."""

    @abstractmethod
    def all(self) -> Mapping[str, bytes]:
        """All values."""

    @abstractmethod
    def close(self) -> None:
        """The file may be copied afterwards."""


class Reader(peer.Reader):
    """A file that has been downloaded."""

    def __init__(self, place: peer.Place, file: type[File]) -> None:
        path = place.new_folder() / "file"
        s3 = client(place)
        path.write_bytes(s3.get_object(Bucket=place.bucket, Key=place.prefix)["Body"].read())
        s3.close()
        self._file = file(path)

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self._file.get(keys)

    def keys(self) -> Collection[str]:
        return self._file.keys()

    def all(self) -> Mapping[str, bytes]:
        return self._file.all()

    def close(self) -> None:
        self._file.close()


class Remote(peer.Remote):
    """A file that is kept here, and uploaded when it has changed."""

    file: type[File]

    def __init__(self, place: peer.Place) -> None:
        super().__init__(place)
        self._client: Any = client(place)
        self._path: Path = place.new_folder() / "file"

    def prepare(self) -> None:
        self._client.put_object(Bucket=self.place.bucket, Key=f"{self.place.prefix}.x", Body=b"")

    def write_all(self, values: Mapping[str, bytes]) -> None:
        file = self.file(self._path)
        file.put(values)
        file.close()
        with self._path.open("rb") as body:
            self._client.put_object(Bucket=self.place.bucket, Key=self.place.prefix, Body=body)

    def change(self, values: Mapping[str, bytes]) -> None:
        self.write_all(values)

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place, self.file)
