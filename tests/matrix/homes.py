"""Where a database of the matrix lives: every adapter on whatever it can speak to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import fsspec
import pytest

import ebooklet
from ebooklet.adapters.remote.memory import open_store
from ebooklet.connection import RemoteAddress, S3Connection
from ebooklet.database import EBooklet
from ebooklet.services.request import Flag
from ebooklet.testing.servers import REGION, S3Server

Remote: TypeAlias = str | S3Connection
Mode: TypeAlias = Literal["cas", "lock"]

DRIVERS: Final = ("boto3", "minio", "obstore", "fsspec")
_URLS: Final = {
    "boto3": "s3://{bucket}/{key}?endpoint_url={endpoint}&region={region}",
    "minio": "minio://{host}/{bucket}/{key}?secure=false&region={region}",
    "obstore": "obstore+s3://{bucket}/{key}?endpoint_url={endpoint}&region={region}",
    "fsspec": "fsspec+s3://{bucket}/{key}?endpoint_url={endpoint}&region={region}",
}
_OWN_FOLDER: Final = ".ebooklet"  # where the filesystem adapter keeps what is no object


@dataclass(frozen=True)
class Home:
    """Two buckets, or folders, that no other test uses, reached through one adapter.

    Attributes:
        mode: how heads are moved there: "cas" if both the adapter can send conditions and the
            server keeps them.
        place: the first of the two.
        other: the second.
        connect: the `remote_conn` of a key in one of the two.
        url: the same, as a URL with the credentials in the environment.
        objects: the names of all objects in one of the two, as others than the adapter see them.
    """

    mode: Mode
    place: str
    other: str
    connect: Callable[[str, str], Remote]
    url: Callable[[str, str], str]
    objects: Callable[[str], set[str]]

    def open(
        self, file: Path | None, flag: Flag = "w", key: str = "db", **options: Any
    ) -> EBooklet[Any]:
        """`ebooklet.open` of a key in the first place."""
        return ebooklet.open(self.connect(self.place, key), file, flag, **options)


def on_server(driver: str, server: S3Server) -> Home:
    """Buckets of an S3 server, through one of the drivers."""

    def url(bucket: str, key: str) -> str:
        return _URLS[driver].format(
            bucket=bucket,
            key=quote(key),
            endpoint=quote(server.endpoint_url),
            host=urlsplit(server.endpoint_url).netloc,
            region=REGION,
        )

    return Home(
        mode=server.mode_expected,
        place=server.new_bucket(),
        other=server.new_bucket(),
        connect=lambda bucket, key: server.connection(bucket, key, driver=driver),
        url=url,
        objects=lambda bucket: bucket_objects(server, bucket),
    )


def bucket_objects(server: S3Server, bucket: str) -> set[str]:
    """What boto3 lists; what ends in a slash is a folder that a server has not cleared away."""
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    names = (entry["Key"] for page in pages for entry in page.get("Contents", ()))
    return {name for name in names if not name.endswith("/")}


def in_folders(scheme: str, mode: Mode, root: Path) -> Home:
    """Folders of this machine."""
    return _in_places(mode, lambda place, key: f"{scheme}://{place}/{key}", root)


def over_sftp(request: pytest.FixtureRequest) -> Home:
    """Folders of a file server."""
    server = request.getfixturevalue("sftp")
    root: Path = server.folder / uuid4().hex
    root.mkdir()

    def url(place: str, key: str) -> str:
        return f"fsspec+sftp://{server.url(str(Path(place).relative_to(server.folder)), key)}"

    return _in_places("lock", url, root)


def _in_places(mode: Mode, url: Callable[[str, str], str], root: Path) -> Home:
    places = [root / "place", root / "other"]
    for each in places:
        each.mkdir()
    return Home(mode, str(places[0]), str(places[1]), url, url, _files)


def _files(place: str) -> set[str]:
    return {
        unquote(Path(folder, file).relative_to(place).as_posix())
        for folder, _, files in os.walk(place)
        for file in files
        if _OWN_FOLDER not in Path(folder).parts
    }


def in_memory() -> Home:
    """The memory of this process."""

    def url(place: str, key: str) -> str:
        return f"memory://{place}/{key}"

    def objects(place: str) -> set[str]:
        store, _ = open_store(RemoteAddress.parse(url(place, "db")))
        return {meta.key for meta in store.list("")}

    name = f"life-{uuid4().hex}"
    return Home("cas", name, f"{name}-other", url, url, objects)


def in_memory_of_fsspec() -> Home:
    """The memory of this process, as fsspec's file system."""

    def url(place: str, key: str) -> str:
        return f"fsspec+memory://{place}/{key}"

    def objects(place: str) -> set[str]:
        found = fsspec.filesystem("memory").find(place)
        return {name.removeprefix(f"/{place}/") for name in found}

    name = f"life-{uuid4().hex}"
    return Home("lock", name, f"{name}-other", url, url, objects)
