"""Remote databases as a whole, without a local half: how those who hold one name others."""

from __future__ import annotations

from ebooklet.adapters.keyrings import keyring_of
from ebooklet.bootstrap.arguments import Lock
from ebooklet.bootstrap.locking import locks_for, probe_of
from ebooklet.bootstrap.remotes import resolve_remote
from ebooklet.core.encryption import EncryptionLike
from ebooklet.plugins.registry import Registry
from ebooklet.ports.clock import Clock
from ebooklet.services.place import OpenPlace, RemoteLike, RemotePlace


def place_opener(
    clock: Clock,
    registry: Registry,
    lock: Lock = "exclusive",
    encryption: EncryptionLike | None = None,
) -> OpenPlace:
    """How other databases are named by those who hold one: as `open` names them.

    Args:
        clock: time and randomness.
        registry: where names are looked up.
        lock: the write lock of the places, checked.
        encryption: opens them where they are encrypted.
    """
    keyring = keyring_of(encryption)

    def open_place(remote_conn: RemoteLike) -> RemotePlace:
        remote = resolve_remote(remote_conn, registry)
        if remote is None:
            raise TypeError("remote_conn must name a remote database, not None")
        return RemotePlace(
            store=remote.store,
            db_key=remote.db_key,
            clock=clock,
            locks=locks_for(lock, remote, clock, registry),
            probe=probe_of(remote, clock),
            keyring=keyring,
            owned=remote.owned,
        )

    return open_place
