"""Fixtures for tests of adapters: real servers, each started when a test first asks for it.

Asked for in the `conftest.py` at the top of the tests, or on pytest's command line:

    pytest_plugins = ["ebooklet.testing.fixtures"]      # or: pytest -p ebooklet.testing.fixtures

`seaweedfs`, `moto`, `ministack`, `juicefs` and `rclone` are an `S3Server` each, one a session.
`server.new_bucket()` makes a bucket that no other test has used, `server.connection(bucket, key)`
the parameters of a database in it. What starts them comes with the extra `servers`; one that is
not installed is an error that names its package, never a skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.servers import (
    S3Server,
    start_juicefs,
    start_ministack,
    start_moto,
    start_rclone,
    start_seaweedfs,
)

__all__ = ["juicefs", "ministack", "moto", "proxied", "rclone", "seaweedfs"]


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A full server with atomic conditional writes."""
    with start_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An emulator with AWS-like answers."""
    with start_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A second emulator, which takes every key."""
    with start_ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def juicefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """MinIO's old code on a file system; it silently ignores conditions on writes."""
    with start_juicefs(tmp_path_factory.mktemp("juicefs")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that silently ignores conditions on writes."""
    with start_rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def proxied() -> Iterator[Callable[[S3Server], tuple[S3Server, CountingProxy]]]:
    """Puts a proxy that counts, and fails as told, before a server; it ends with the test."""
    with ExitStack() as stack:

        def through(server: S3Server) -> tuple[S3Server, CountingProxy]:
            proxy = stack.enter_context(CountingProxy(server.endpoint_url))
            return server.at(proxy.url), proxy

        yield through
