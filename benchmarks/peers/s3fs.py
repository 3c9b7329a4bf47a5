"""s3fs through fsspec's mapping, one object for each key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import fsspec

from benchmarks.peers import peer


def mapper(place: peer.Place) -> Any:
    """A mapping that shares nothing with the last one."""
    return fsspec.get_mapper(
        f"s3://{place.bucket}/{place.prefix}",
        key=place.access_key_id,
        secret=place.access_key,
        endpoint_url=place.endpoint_url,
        client_kwargs={"region_name": place.region},
        skip_instance_cache=True,
        use_listings_cache=False,
    )


class Reader(peer.Reader):
    """A mapping."""

    def __init__(self, place: peer.Place) -> None:
        self._map = mapper(place)

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        found: Mapping[str, bytes] = self._map.getitems(list(keys))
        return found

    def keys(self) -> Collection[str]:
        return list(self._map)

    def all(self) -> Mapping[str, bytes]:
        return self.get(list(self.keys()))


class Remote(peer.Remote):
    """One object for each key."""

    def __init__(self, place: peer.Place) -> None:
        super().__init__(place)
        self._map = mapper(place)

    def prepare(self) -> None:
        self._map["x"] = b""
        del self._map["x"]

    def write_all(self, values: Mapping[str, bytes]) -> None:
        self._map.setitems(values)

    def change(self, values: Mapping[str, bytes]) -> None:
        self._map.setitems(values)

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place)
