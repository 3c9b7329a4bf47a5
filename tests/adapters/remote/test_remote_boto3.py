"""The store of S3-compatible servers: its contract, on real ones."""

from __future__ import annotations

from ebooklet.adapters.remote.boto3 import Boto3RemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.s3_store_contract import S3StoreContract
from ebooklet.testing.servers import S3Server


class Boto3Contract(S3StoreContract):
    adapter = "boto3"

    def open(self, server: S3Server, bucket: str) -> RemoteStore:
        parameters = S3Parameters.of(server.connection(bucket, "db", threads=8))
        return Boto3RemoteStore(bucket, parameters, retry=Retry(sleep=lambda _: None))


class TestOnSeaweedFS(Boto3Contract):
    server_name = "seaweedfs"


class TestOnMoto(Boto3Contract):
    server_name = "moto"


class TestOnMinistack(Boto3Contract):
    server_name = "ministack"
    representative = False


class TestOnRclone(Boto3Contract):
    server_name = "rclone"


class TestOnJuiceFS(Boto3Contract):
    server_name = "juicefs"
