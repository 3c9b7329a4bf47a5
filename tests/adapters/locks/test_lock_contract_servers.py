"""The lock services over real servers: leases where conditions are honoured, tickets elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import pytest

from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.adapters.remote.boto3 import open_store
from ebooklet.connection import S3Connection
from ebooklet.core.names import lock_key
from ebooklet.ports.clock import Clock
from ebooklet.ports.lock_service import LockService
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.counting_proxy import CountingProxy
from ebooklet.testing.lock_service_contract import LockServiceContract, OpenService, Traces
from ebooklet.testing.servers import S3Server

CLOCK = SystemClock()
LEASE = LeaseTiming(poll_first_s=0.02, poll_max_s=0.1)
BRISK_LEASE = LeaseTiming(ttl_s=1.2, poll_first_s=0.05, poll_max_s=0.2)
# This server lists times in milliseconds; one that lists seconds needs a whole one to settle.
TICKET = TicketTiming(settle_s=0.1, poll_max_s=0.1)
BRISK_TICKET = TicketTiming(settle_s=0.1, poll_max_s=0.1, stale_s=1.2, quiet_s=0.2)

WORKER = """
import json
from ebooklet.adapters.clock import SystemClock
from ebooklet.adapters.locks.lease import LeaseLockService, LeaseTiming
from ebooklet.adapters.locks.ticket import TicketLockService, TicketTiming
from ebooklet.adapters.remote.boto3 import open_store
from ebooklet.connection import S3Connection

def open_service(brisk):
    remote, _ = open_store(S3Connection(**json.loads({parameters!r})).address())
    return {service}(remote, SystemClock(), {brisk} if brisk else {patient})
"""


def traces_in(remote: RemoteStore, name: str) -> list[str]:
    """The objects of a lock."""
    return [meta.key for meta in remote.list(lock_key(name))]


def parameters(connection: S3Connection) -> str:
    """What a worker needs to open the same connection."""
    names = ("access_key_id", "access_key", "db_key", "bucket", "endpoint_url", "region")
    return json.dumps({name: getattr(connection, name) for name in names})


def named(server: str, request: pytest.FixtureRequest) -> S3Server:
    """The running server of this name."""
    found = request.getfixturevalue(server)
    assert isinstance(found, S3Server)
    return found


@pytest.fixture
def server(request: pytest.FixtureRequest) -> S3Server:
    """The server named by the test's parameter."""
    return named(request.param, request)


@pytest.fixture(scope="module")
def remotes() -> Iterator[dict[S3Server, tuple[S3Connection, RemoteStore]]]:
    """One bucket and client for each server: the contract never uses a lock's name twice."""
    opened: dict[S3Server, tuple[S3Connection, RemoteStore]] = {}
    yield opened
    for _, remote in opened.values():
        remote.close()


@pytest.fixture
def place(
    server: S3Server, remotes: dict[S3Server, tuple[S3Connection, RemoteStore]]
) -> tuple[S3Connection, RemoteStore]:
    """The bucket of the server at hand."""
    if server not in remotes:
        connection = server.connection(server.new_bucket(), "db")
        remotes[server] = connection, open_store(connection.address())[0]
    return remotes[server]


@pytest.fixture
def connection(place: tuple[S3Connection, RemoteStore]) -> S3Connection:
    """How to reach the bucket."""
    return place[0]


@pytest.fixture
def remote(place: tuple[S3Connection, RemoteStore]) -> RemoteStore:
    """The bucket, open."""
    return place[1]


class OnServer(LockServiceContract):
    """A service over a bucket of a real server."""

    contenders: ClassVar[int] = 6
    processes: ClassVar[int] = 5  # sixteen contend in a folder, at a fraction of the cost
    server_name: ClassVar[str]
    service: ClassVar[type[LeaseLockService] | type[TicketLockService]]
    brisk: ClassVar[object]  # timing
    patient: ClassVar[object]

    @pytest.fixture
    def server(self, request: pytest.FixtureRequest) -> S3Server:
        return named(self.server_name, request)

    @pytest.fixture
    def traces(self, remote: RemoteStore) -> Traces:
        return partial(traces_in, remote)

    @pytest.fixture
    def open_service(self, remote: RemoteStore) -> OpenService:
        make: Callable[..., LockService] = self.service

        def opened(brisk: bool, clock: Clock = CLOCK) -> LockService:
            return make(remote, clock, self.brisk if brisk else self.patient)

        return opened

    @pytest.fixture
    def worker_source(self, connection: S3Connection) -> str:
        return WORKER.format(
            parameters=parameters(connection),
            service=self.service.__name__,
            brisk=self.brisk,
            patient=self.patient,
        )


class LeaseOnServer(OnServer):
    """Conditional writes of a real server."""

    service = LeaseLockService
    brisk, patient = BRISK_LEASE, LEASE


@pytest.mark.matrix("locks", "lease", "seaweedfs")
class TestLeaseOnSeaweedFS(LeaseOnServer):
    """A full server."""

    server_name = "seaweedfs"


@pytest.mark.matrix("locks", "lease", "moto", representative=False)
class TestLeaseOnMoto(LeaseOnServer):
    """An emulator with AWS-like answers."""

    server_name = "moto"


@pytest.mark.matrix("locks", "lease", "ministack", representative=False)
class TestLeaseOnMinistack(LeaseOnServer):
    """A second emulator."""

    server_name = "ministack"


class TicketOnServer(OnServer):
    """A server that ignores conditions."""

    service = TicketLockService
    brisk, patient = BRISK_TICKET, TICKET


@pytest.mark.matrix("locks", "ticket", "rclone")
class TestTicketOnRclone(TicketOnServer):
    """A folder as buckets."""

    server_name = "rclone"


@pytest.mark.matrix("locks", "ticket", "juicefs", representative=False)
class TestTicketOnJuiceFS(TicketOnServer):
    """A file system as buckets."""

    server_name = "juicefs"


@pytest.mark.parametrize("server", ["seaweedfs"], indirect=True)
def test_requests_on_the_wire(connection: S3Connection, server: S3Server) -> None:
    """A lease costs two requests to take and one to give back, counted outside the client."""
    with CountingProxy(server.endpoint_url) as proxy:
        through = server.at(proxy.url).connection(connection.bucket or "", "db")
        remote, _ = open_store(through.address())
        LeaseLockService(remote, SystemClock()).acquire("db", timeout=0).release()
        first = proxy.counts()
        proxy.reset()
        LeaseLockService(remote, SystemClock()).acquire("db", timeout=0).release()
        second = proxy.counts()
    assert dict(first.by_kind) == {"RANGE": 1, "CAS": 2}
    assert dict(second.by_kind) == {"RANGE": 1, "CAS": 2}
    assert second.body_up + second.body_down < 1000
