"""RemoteConnGroup: a database whose values describe other databases."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ebooklet.connection import S3Connection
from ebooklet.core.timestamps import Timestamp
from ebooklet.database import EBooklet
from ebooklet.errors import RemoteMissingError
from ebooklet.services.catalog import describe, user_metadata

_KEY: Final = re.compile(r"[A-Za-z0-9._-]+")


class RemoteConnGroup(EBooklet[dict[str, Any]]):
    """A catalogue of databases: by default keyed by their uuids, with how to reach each.

    Entries never hold credentials. They are made by `add`, or by assigning a connection.
    """

    @property
    def type(self) -> str:
        """The class's name, as stored."""
        return "RemoteConnGroup"

    def add(self, remote_conn: S3Connection, key: str | None = None, user_meta: Any = None) -> str:
        """Add a database, or refresh its entry.

        The entry of an encrypted member has `"encrypted": True`, and no metadata of the member's.

        Args:
            remote_conn: how to reach it; what is not secret of it is stored.
            key: name of the entry, letters, digits, `.`, `_` and `-`; by default the member's
                uuid in hexadecimal.
            user_meta: anything JSON can hold, to be kept with the entry.

        Returns:
            The entry's key.

        Raises:
            RemoteMissingError: there is no such database.
            TypeError: not an S3Connection, or the key or `user_meta` of a wrong type.
            ValueError: the key has other characters.
        """
        return self._add(remote_conn, key, user_meta, None)

    def _add(
        self, remote_conn: S3Connection, key: str | None, user_meta: Any, timestamp: Timestamp
    ) -> str:
        self._copy.require_writable("add")
        if not isinstance(remote_conn, S3Connection):
            raise TypeError(f"a member is an S3Connection, not {type(remote_conn).__name__}")
        _check_entry_key(key)
        try:
            json.dumps(user_meta)
        except (TypeError, ValueError) as exc:
            raise TypeError(f"user_meta must be something JSON can hold: {exc}") from exc
        with self._open_place(remote_conn) as place:
            snapshot = place.heads().read()
            if snapshot is None:
                raise RemoteMissingError(
                    f"there is no database at {place.location} to add: push it first, or correct "
                    "the connection",
                    op="add",
                    key=place.db_key,
                )
            member = describe(snapshot)
            # An entry has other readers than its member, and no key to seal it with.
            encrypted = snapshot.head.encrypted
            member_meta = None if encrypted else user_metadata(place, snapshot)
        own_key = member.uuid.hex
        entry = {
            "entry_version": 1,
            "type": member.type,
            "timestamp": member.timestamp,
            "uuid": own_key,
            "remote_meta": member_meta,
            "user_meta": user_meta,
            "remote_conn": remote_conn.to_dict(),
        }
        if encrypted:
            entry["encrypted"] = True
        name = own_key if key is None else key
        if name != own_key and own_key in self:
            del self[own_key]
        super().set(name, entry, timestamp)
        return name

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def set(
        self, key: str, value: Any, timestamp: Timestamp = None, encode_value: bool = True
    ) -> None:
        """`add(value, key=key)`: entries are made from connections only.

        Raises:
            TypeError: no connection, or the key is no string.
        """
        if not encode_value:
            raise TypeError("entries are made from connections, not from raw bytes")
        if key is None:
            raise TypeError("an entry's key is a string; add() takes the member's uuid")
        self._add(value, key, None, timestamp)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The entry of `key`, after adding the connection `default` if there is none."""
        if key not in self:
            self.set(key, default)
        return self[key]


def _check_entry_key(key: object) -> None:
    if key is None:
        return
    if not isinstance(key, str):
        raise TypeError(f"an entry's key is a string, not {type(key).__name__}")
    if not _KEY.fullmatch(key):
        raise ValueError(f"an entry's key may have letters, digits, '.', '_' and '-': {key!r}")
