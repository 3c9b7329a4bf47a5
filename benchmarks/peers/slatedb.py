"""slatedb: a log-structured merge tree in the bucket, with one writer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import TypeVar

from slatedb.uniffi import (
    Db,
    DbBuilder,
    DbReader,
    DbReaderBuilder,
    DurabilityLevel,
    FlushOptions,
    FlushType,
    KeyRange,
    ObjectStore,
    ScanOptions,
    WriteBatch,
)

from benchmarks.peers import peer

Result = TypeVar("Result")
EVERYTHING = KeyRange(start=None, start_inclusive=False, end=None, end_inclusive=False)


def store_of(place: peer.Place) -> ObjectStore:
    """The bucket; slatedb takes what leads to it from the environment alone."""
    os.environ.update(
        AWS_ACCESS_KEY_ID=place.access_key_id,
        AWS_SECRET_ACCESS_KEY=place.access_key,
        AWS_REGION=place.region,
        AWS_ENDPOINT=place.endpoint_url,
        AWS_ALLOW_HTTP="true",
    )
    return ObjectStore.resolve(f"s3://{place.bucket}")


async def write(db: Db, values: Mapping[str, bytes], flush: FlushType) -> None:
    """One batch, flushed at once instead of at the next tenth of a second."""
    batch = WriteBatch()
    for key, value in values.items():
        batch.put(key.encode(), value)
    await db.write(batch)
    await db.flush_with_options(FlushOptions(flush_type=flush))


READ_AHEAD = ScanOptions(  # by default each block of 4 KB is a request
    durability_filter=DurabilityLevel.REMOTE,
    dirty=False,
    read_ahead_bytes=8 << 20,
    cache_blocks=False,
    max_fetch_tasks=8,
)


class Reader(peer.Reader):
    """slatedb's reader, which follows the log by checkpoints of its own."""

    def __init__(self, place: peer.Place, loop: asyncio.Runner) -> None:
        self._loop = loop
        self._reader: DbReader = loop.run(self._open(place))

    async def _open(self, place: peer.Place) -> DbReader:
        return await DbReaderBuilder(place.prefix, store_of(place)).build()

    async def _get(self, keys: Sequence[str]) -> list[bytes]:
        found: list[bytes] = await asyncio.gather(*(self._reader.get(key.encode()) for key in keys))
        return found

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return dict(zip(keys, self._loop.run(self._get(keys)), strict=True))

    async def _scan(self) -> dict[str, bytes]:
        rows = await self._reader.scan_with_options(EVERYTHING, READ_AHEAD)
        found = {}
        while batch := await rows.next_batch(1000):
            found.update({row.key.decode(): row.value for row in batch})
        return found

    def keys(self) -> Collection[str]:
        return list(self.all())  # there is no scan without values

    def all(self) -> Mapping[str, bytes]:
        return self._loop.run(self._scan())

    def close(self) -> None:
        self._loop.run(self._reader.shutdown())


class Remote(peer.Remote):
    """A writer."""

    def __init__(self, place: peer.Place) -> None:
        super().__init__(place)
        self._loop = asyncio.Runner()
        self._db: Db | None = None

    async def _open(self) -> Db:
        return await DbBuilder(self.place.prefix, store_of(self.place)).build()

    def _run(self, work: Awaitable[Result]) -> Result:
        async def whole() -> Result:
            return await work

        return self._loop.run(whole())

    def write_all(self, values: Mapping[str, bytes]) -> None:
        async def work() -> Db:
            db = await self._open()
            await write(db, values, FlushType.MEM_TABLE)
            return db

        self._db = self._run(work())

    def pause(self) -> None:
        if self._db is not None:
            self._run(self._db.shutdown())
            self._db = None

    def change(self, values: Mapping[str, bytes]) -> None:
        async def work() -> None:
            db = await self._open()
            await write(db, values, FlushType.WAL)
            await db.shutdown()

        self._run(work())

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place, self._loop)

    def close(self) -> None:
        self.pause()
        self._loop.close()
