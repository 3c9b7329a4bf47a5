"""Whatever names a remote database, a URL, a connection or a dict, turned into its store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from ebooklet.adapters.remote.mirrored import MirroredRemoteStore
from ebooklet.connection import PUBLIC_FIELDS, RemoteAddress, S3Connection
from ebooklet.core.head import MAX_HEAD_BYTES
from ebooklet.core.names import segment_prefix
from ebooklet.core.spelling import meant
from ebooklet.plugins.registry import Registry
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.mirrors import Mirror
from ebooklet.services.place import RemoteLike

ENTRY_FIELD: Final = "remote_conn"  # what tells a group's entry from a dict of parameters
_SECRETS: Final = ("access_key_id", "access_key")


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote store, the database's key in it, and what kind of place it is."""

    store: RemoteStore
    db_key: str
    scheme: str = ""
    folder: Path | None = None  # of a file:// remote
    trusted: bool = True  # pickles from it may be read
    mirror: Mirror | None = None
    owned: bool = True  # built here, so closed here

    def close(self) -> None:
        """Close what was built."""
        if self.owned:
            if self.mirror is not None:
                self.mirror.segments.close()
            self.store.close()


def resolve_remote(
    remote_conn: RemoteLike | None, registry: Registry, *, mirrored: bool = False
) -> Remote | None:
    """The place that is meant, `mirrored` with where else it can be read."""
    if remote_conn is None:
        return None
    by_entry = False
    if isinstance(remote_conn, Mapping):
        by_entry = ENTRY_FIELD in remote_conn
        remote_conn = connection_of(remote_conn)
    if isinstance(remote_conn, RemoteStore):
        trusted = remote_conn.capabilities.writable
        return Remote(remote_conn, "db", trusted=trusted, owned=False)
    if isinstance(remote_conn, S3Connection):
        address = remote_conn.address()
    elif isinstance(remote_conn, str):
        address = RemoteAddress.parse(remote_conn)
    elif isinstance(remote_conn, RemoteAddress):
        address = remote_conn
    else:
        raise TypeError(
            "remote_conn must be an S3Connection, a URL, a dict of parameters or a RemoteStore, "
            f"not {type(remote_conn).__name__}"
        )
    store, db_key = registry.remote_store(address.scheme)(address)
    folder = Path(address.path).parent if address.scheme == "file" else None
    # What can only be read was opened without credentials; a folder has its own permissions. The
    # place that an entry names is its author's choice, whoever signs the requests (decision 0032).
    trusted = (store.capabilities.writable or folder is not None) and not by_entry
    mirror = None
    if mirrored and address.connection is not None:
        mirror = _mirror(store, db_key, address.connection, registry)
    return Remote(store, db_key, address.scheme, folder, trusted, mirror)


def _mirror(
    store: RemoteStore, db_key: str, connection: S3Connection, registry: Registry
) -> Mirror | None:
    """Where else a connection's database can be read; None if it names no such place."""
    there = connection.mirror_address()
    if there is None:
        return None
    mirror, mirror_key = registry.remote_store(there.scheme)(there)
    mirrored = MirroredRemoteStore(
        store,
        mirror,
        prefix=segment_prefix(db_key),
        mirror_prefix=segment_prefix(mirror_key),
    )
    return Mirror(mirrored, partial(mirrored.look, mirror_key, stop=MAX_HEAD_BYTES + 1))


def connection_of(parameters: Mapping[str, Any]) -> S3Connection:
    """The connection that a dict of its parameters describes, or the entry of a group.

    An entry holds no credentials: they may be put beside its `remote_conn`, into a copy of it. As
    anybody may have written it, nothing but the place is taken from its `remote_conn`.

    Raises:
        TypeError: no parameters of a connection.
        ValueError: they do not make one, or an entry brings credentials of its own.
    """
    if ENTRY_FIELD not in parameters:
        known = {field.name for field in fields(S3Connection)}
        if unknown := parameters.keys() - known:
            misspelt = min(unknown, key=str)
            raise TypeError(f"no parameter of a connection: {misspelt!r}; {meant(misspelt, known)}")
        return S3Connection(**{k: v for k, v in parameters.items() if v is not None})
    inner = parameters[ENTRY_FIELD]
    if not isinstance(inner, Mapping):
        raise TypeError("'remote_conn' of a group entry must be a dict of connection parameters")
    if any(inner.get(name) for name in _SECRETS):
        raise ValueError(
            "a group entry holds no credentials, and those in the 'remote_conn' of this one are not "
            "used: put your access_key_id and access_key beside it, in a copy of the entry"
        )
    place = {name: inner[name] for name in PUBLIC_FIELDS if inner.get(name) is not None}
    if not all(isinstance(value, str) for value in place.values()):
        raise TypeError(f"{', '.join(PUBLIC_FIELDS)} of a group entry are strings")
    beside = {
        field.name: parameters[field.name]
        for field in fields(S3Connection)
        if parameters.get(field.name) is not None
    }
    given = {**place, **beside}
    if not (given.get("db_url") or given.get("access_key")):
        raise ValueError(
            f"the group entry of {given.get('db_key')!r} has no db_url, and entries hold no "
            "credentials: put access_key_id and access_key beside its 'remote_conn', in a copy of it"
        )
    return S3Connection(**given)
