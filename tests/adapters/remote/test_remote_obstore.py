"""The store of S3-compatible servers through obstore: its contract, on real ones."""

from __future__ import annotations

from ebooklet.adapters.remote.obstore import ObstoreRemoteStore
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.testing.s3_store_contract import S3StoreContract
from ebooklet.testing.servers import S3Server


class ObstoreContract(S3StoreContract):
    adapter = "obstore"
    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_control_characters_in_a_name": "obstore refuses to name them",
        "test_copy_from_a_neighbour": "obstore cannot name another bucket",
        "test_clock": "obstore shows no header of an answer, so the server's time is never known",
    }

    def open(self, server: S3Server, bucket: str) -> RemoteStore:
        parameters = S3Parameters.of(server.connection(bucket, "db", threads=8))
        return ObstoreRemoteStore(bucket, parameters, retry=Retry(sleep=lambda _: None))


class TestOnSeaweedFS(ObstoreContract):
    server_name = "seaweedfs"


class TestOnMoto(ObstoreContract):
    server_name = "moto"
    representative = False


class TestOnMinistack(ObstoreContract):
    server_name = "ministack"
    representative = False


class TestOnRclone(ObstoreContract):
    server_name = "rclone"
    deviations = {  # noqa: RUF012 - the contract's own attribute
        "test_parts_cost_their_own_bytes": (
            "rclone sends parts with status 200, which obstore refuses: the whole object is read"
        )
    }


class TestOnJuiceFS(ObstoreContract):
    server_name = "juicefs"
    representative = False
    deviations = dict.fromkeys(
        ("test_a_head_beside_its_segments", "test_odd_names"),
        "JuiceFS lists emptied folders, and obstore drops the slash that tells them from objects",
    )
