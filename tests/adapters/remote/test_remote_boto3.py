"""The store of S3-compatible servers: its contract, on real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ebooklet.adapters.remote.boto3 import Boto3RemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.remote_store import RemoteStoreContract
from ebooklet.testing.servers import S3Server


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest) -> S3Server:
    """The server that the test's class names."""
    found = request.getfixturevalue(request.cls.server_name)
    assert isinstance(found, S3Server)
    return found


@pytest.fixture(scope="class")
def bucket_store(server: S3Server) -> Iterator[Boto3RemoteStore]:
    """A store on one bucket a class, emptied after each test: a new one takes SeaweedFS 0.3 s."""
    store = _open(server)
    yield store
    store.close()


@pytest.fixture(scope="class")
def neighbour_store(server: S3Server) -> Iterator[Boto3RemoteStore]:
    """Another bucket of the same server."""
    store = _open(server)
    yield store
    store.close()


def _open(server: S3Server) -> Boto3RemoteStore:
    parameters = S3Parameters(
        server.endpoint_url,
        access_key_id=server.access_key_id,
        access_key=server.access_key,
        connections=8,
    )
    return Boto3RemoteStore(server.new_bucket(), parameters, retry=Retry(sleep=lambda _: None))


class S3Contract(RemoteStoreContract):
    """The contract, on the server that the class names."""

    server_name = ""

    @pytest.fixture
    def store(self, bucket_store: Boto3RemoteStore) -> Iterator[RemoteStore]:
        yield bucket_store
        bucket_store.delete([meta.key for meta in bucket_store.list("")])

    @pytest.fixture
    def neighbour(self, neighbour_store: Boto3RemoteStore) -> Iterator[RemoteStore]:
        yield neighbour_store
        neighbour_store.delete([meta.key for meta in neighbour_store.list("")])

    @pytest.fixture
    def secrets(self, server: S3Server) -> tuple[str, ...]:
        return server.access_key_id, server.access_key


class TestOnSeaweedFS(S3Contract):
    server_name = "seaweedfs"
    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_backslash_in_a_name": "SeaweedFS turns a backslash into a slash",
        "test_long_names": "SeaweedFS refuses a component over 255 bytes",
    }


class TestOnMoto(S3Contract):
    server_name = "moto"
    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_control_characters_in_a_name": "moto knows no line ends in a key",
    }


def conditions_ignored(server: str) -> dict[str, str]:
    reason = f"{server} silently ignores conditions, which is why the probe gives it mode lock"
    return dict.fromkeys(
        (
            "test_if_absent_admits_one_writer",
            "test_if_match_refuses_a_stale_version",
            "test_if_match_refuses_a_missing_object",
            "test_raced_creation_has_one_winner",
            "test_raced_replacement_has_one_winner",
        ),
        reason,
    )


def folders(server: str) -> dict[str, str]:
    reason = f"{server} keeps objects in folders, which cannot hold `a` beside `a/b`"
    return dict.fromkeys(("test_neighbours_are_separate", "test_delete_spares_neighbours"), reason)


class BucketForEachTest(S3Contract):
    """For servers in whose listings what they refuse half-way may stay."""

    @pytest.fixture
    def store(self, server: S3Server) -> Iterator[RemoteStore]:
        fresh = _open(server)
        yield fresh
        fresh.close()


class TestOnRclone(BucketForEachTest):
    server_name = "rclone"
    deviations = {  # noqa: RUF012 - the contract's own attribute
        **conditions_ignored("rclone"),
        **folders("rclone"),
        "test_long_names": "rclone answers 500 to a component over 255 bytes",
    }
    unreliable = {  # noqa: RUF012 - the contract's own attribute
        "test_a_reader_never_sees_a_mix": "rclone shows the parts of a body that is being replaced",
    }


class TestOnMinistack(S3Contract):
    server_name = "ministack"


class TestOnJuiceFS(BucketForEachTest):
    server_name = "juicefs"
    deviations = {  # noqa: RUF012 - the contract's own attribute
        **conditions_ignored("JuiceFS"),
        **folders("JuiceFS"),
    }
    unreliable = {  # noqa: RUF012 - the contract's own attribute
        "test_a_reader_never_sees_a_mix": "JuiceFS cuts the new body at the old one's length",
    }
