"""The store of S3-compatible servers through MinIO's client: its contract, on real ones."""

from __future__ import annotations

from ebooklet.adapters.remote.minio import MinioRemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.s3_store_contract import S3StoreContract
from ebooklet.testing.servers import S3Server


class MinioContract(S3StoreContract):
    adapter = "minio"

    def open(self, server: S3Server, bucket: str) -> RemoteStore:
        parameters = S3Parameters.of(server.connection(bucket, "db", threads=8))
        return MinioRemoteStore(bucket, parameters, retry=Retry(sleep=lambda _: None))


class TestOnSeaweedFS(MinioContract):
    server_name = "seaweedfs"


class TestOnMoto(MinioContract):
    server_name = "moto"
    representative = False


class TestOnMinistack(MinioContract):
    server_name = "ministack"
    representative = False


class TestOnRclone(MinioContract):
    server_name = "rclone"


class TestOnJuiceFS(MinioContract):
    server_name = "juicefs"
    representative = False
