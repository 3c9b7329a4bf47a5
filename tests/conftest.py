"""Real servers, each started when the first test of a session asks for it.

Most come from `ebooklet.testing.fixtures`; here are those that the kit has not, or not like this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebooklet.testing.servers import S3Server, start_rclone, start_rclone_http

if TYPE_CHECKING:
    from tests.sftp_server import Sftp

SERVERS = ("seaweedfs", "moto", "rclone")
EVERY_SERVER = (*SERVERS, "ministack", "juicefs")
_STARTED_ONCE = ("moto", "ministack", "juicefs")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process run the tests of a server that is slow to start, rather than start many."""
    for item in items:
        for name in _STARTED_ONCE:
            if name in item.nodeid.lower() and item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests find out about servers away from the user's caches, and the reverse."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def lean_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of this test start faster, as where no package for frames is installed."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "lean"))


@pytest.fixture(scope="session")
def rclone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rclone keeps its buckets."""
    return tmp_path_factory.mktemp("rclone")


@pytest.fixture(scope="session")
def rclone(rclone_folder: Path) -> Iterator[S3Server]:
    """The kit's, over a folder that is known."""
    with start_rclone(rclone_folder) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_http(rclone_folder: Path) -> Iterator[str]:
    """The buckets of `rclone` for everybody: the URL above them."""
    with start_rclone_http(rclone_folder) as url:
        yield url


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sftp]:
    """A file server, which is no S3 server at all."""
    from tests.sftp_server import Sftp  # asyncssh takes a while to import

    folder = tmp_path_factory.mktemp("sftp") / "served"
    folder.mkdir()
    server = Sftp(folder)
    yield server
    server.close()


@pytest.fixture(scope="session", params=SERVERS)
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the servers in turn."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, S3Server)
    return server


@pytest.fixture(params=EVERY_SERVER)
def any_server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the servers in turn, those included that stand for fewer in the field."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, S3Server)
    return server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """A bucket of `s3_server` that no other test has used."""
    return s3_server.new_bucket()


@pytest.fixture
def publish(request: pytest.FixtureRequest) -> Callable[[S3Server, str], str]:
    """Opens a bucket to readers without credentials, and tells the URL above its objects."""

    def open_to_all(server: S3Server, bucket: str) -> str:
        if server.name == "rclone":  # knows no policies: a second server over the same folder
            return f"{request.getfixturevalue('rclone_http')}/{bucket}"
        return server.publish(bucket)

    return open_to_all


@pytest.fixture
def public_url(publish: Callable[[S3Server, str], str], s3_server: S3Server, bucket: str) -> str:
    """`bucket` for readers without credentials: an object is at this URL, a slash, and its key."""
    return publish(s3_server, bucket)
