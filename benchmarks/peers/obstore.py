"""obstore, one object for each key, asynchronously, 32 at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import obstore
from obstore.store import S3Store

from benchmarks.peers import peer

AT_ONCE = 32
Item = TypeVar("Item")
Result = TypeVar("Result")


def store_of(place: peer.Place) -> S3Store:
    """A store as its documentation makes one."""
    return S3Store(
        place.bucket,
        prefix=place.prefix,
        endpoint=place.endpoint_url,
        region=place.region,
        access_key_id=place.access_key_id,
        secret_access_key=place.access_key,
        client_options={"allow_http": True},
    )


async def gather(work: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> list[Result]:
    """All of it, so many at a time, in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Item) -> Result:
        async with gate:
            return await work(item)

    return await asyncio.gather(*map(one, items))


class Reader(peer.Reader):
    """A store."""

    def __init__(self, place: peer.Place) -> None:
        self._store = store_of(place)

    async def _one(self, key: str) -> bytes:
        answer = await obstore.get_async(self._store, key)
        return bytes(await answer.bytes_async())

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return dict(zip(keys, asyncio.run(gather(self._one, keys)), strict=True))

    def keys(self) -> Collection[str]:
        return [meta["path"] for chunk in obstore.list(self._store) for meta in chunk]

    def all(self) -> Mapping[str, bytes]:
        return self.get(list(self.keys()))


class Remote(peer.Remote):
    """One object for each key."""

    def __init__(self, place: peer.Place) -> None:
        super().__init__(place)
        self._store = store_of(place)

    def prepare(self) -> None:
        obstore.put(self._store, "x", b"")
        obstore.delete(self._store, "x")

    async def _one(self, item: tuple[str, bytes]) -> None:
        await obstore.put_async(self._store, *item, use_multipart=False)

    def write_all(self, values: Mapping[str, bytes]) -> None:
        asyncio.run(gather(self._one, values.items()))

    def change(self, values: Mapping[str, bytes]) -> None:
        self.write_all(values)

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place)
