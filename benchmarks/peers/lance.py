"""Lance (pylance): a table of keys and values, without an index on the key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import lance
import pyarrow as pa

from benchmarks.peers import peer


def where(place: peer.Place) -> dict[str, Any]:
    """The address of the table."""
    return {
        "uri": f"s3://{place.bucket}/{place.prefix}.lance",
        "storage_options": {
            "access_key_id": place.access_key_id,
            "secret_access_key": place.access_key,
            "region": place.region,
            "endpoint": place.endpoint_url,
            "allow_http": "true",
        },
    }


def rows(values: Mapping[str, bytes]) -> Any:
    """A table in memory."""
    return pa.table(
        {
            "key": pa.array(values.keys(), pa.string()),
            "value": pa.array(values.values(), pa.binary()),
        }
    )


def mapping(table: Any) -> Mapping[str, bytes]:
    """A table as a dict."""
    return dict(
        zip(table.column("key").to_pylist(), table.column("value").to_pylist(), strict=True)
    )


class Reader(peer.Reader):
    """The table, opened."""

    def __init__(self, place: peer.Place) -> None:
        # A session of its own: the cache of the process would know the table already.
        self._table = lance.dataset(**where(place), session=lance.Session())

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        listed = ", ".join(f"'{key}'" for key in keys)
        return mapping(self._table.to_table(filter=f"key IN ({listed})"))

    def keys(self) -> Collection[str]:
        found: list[str] = self._table.to_table(columns=["key"]).column("key").to_pylist()
        return found

    def all(self) -> Mapping[str, bytes]:
        return mapping(self._table.to_table())


class Remote(peer.Remote):
    """Each durable step is a version of the table."""

    def write_all(self, values: Mapping[str, bytes]) -> None:
        lance.write_dataset(rows(values), mode="create", **where(self.place))

    def change(self, values: Mapping[str, bytes]) -> None:
        table = lance.dataset(**where(self.place), session=lance.Session())
        table.merge_insert("key").when_matched_update_all().execute(rows(values))

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place)
