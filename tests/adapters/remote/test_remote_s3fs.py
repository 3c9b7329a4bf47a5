"""The store of S3-compatible servers through s3fs: its contract, on real ones."""

from __future__ import annotations

from ebooklet.adapters.remote.fsspec import S3fsRemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.s3_store_contract import S3StoreContract
from ebooklet.testing.servers import S3Server


class S3fsContract(S3StoreContract):
    adapter = "fsspec"

    def open(self, server: S3Server, bucket: str) -> RemoteStore:
        parameters = S3Parameters.of(server.connection(bucket, "db", threads=8))
        return S3fsRemoteStore(bucket, parameters, retry=Retry(sleep=lambda _: None))


class TestOnSeaweedFS(S3fsContract):
    server_name = "seaweedfs"


class TestOnMoto(S3fsContract):
    server_name = "moto"
    representative = False


class TestOnMinistack(S3fsContract):
    server_name = "ministack"
    representative = False


class TestOnRclone(S3fsContract):
    server_name = "rclone"
    representative = False


class TestOnJuiceFS(S3fsContract):
    server_name = "juicefs"
    representative = False
