"""icechunk's store: values are chunks of one array, kept inline in its manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

import icechunk
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.buffer.cpu import Buffer

from benchmarks.peers import peer

INLINE_BYTES = 4096  # an object a chunk, as by default, would take 10,000 requests to write
CHUNKS_A_MANIFEST = 200  # one manifest of everything would be written anew by each commit


def chunk(key: str) -> str:
    """The chunk that stands for a key: its number."""
    return f"values/c/{int(key.removeprefix('key-'))}"


def repository(place: peer.Place, *, create: bool = False) -> icechunk.Repository:
    """A repository in the bucket."""
    storage = icechunk.s3_storage(
        bucket=place.bucket,
        prefix=place.prefix,
        region=place.region,
        endpoint_url=place.endpoint_url,
        allow_http=True,
        access_key_id=place.access_key_id,
        secret_access_key=place.access_key,
        force_path_style=True,
    )
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.AnyArray(): {
                icechunk.ManifestSplitDimCondition.Any(): CHUNKS_A_MANIFEST
            }
        }
    )
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=INLINE_BYTES,
        manifest=icechunk.ManifestConfig(splitting=splitting),
    )
    if create:
        return icechunk.Repository.create(storage, config=config)
    return icechunk.Repository.open(storage, config=config)


async def put(store: icechunk.IcechunkStore, values: Mapping[str, bytes]) -> None:
    """Set chunks; a commit follows."""
    buffers = {chunk(key): Buffer.from_bytes(value) for key, value in values.items()}
    await asyncio.gather(*(store.set(key, buffer) for key, buffer in buffers.items()))


class Reader(peer.Reader):
    """A read-only session."""

    def __init__(self, place: peer.Place) -> None:
        self._place = place
        self._store = repository(place).readonly_session("main").store

    async def _get(self, keys: Sequence[str]) -> list[bytes]:
        prototype = default_buffer_prototype()
        found = await asyncio.gather(*(self._store.get(chunk(key), prototype) for key in keys))
        return [one.to_bytes() for one in found if one is not None]

    def get(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return dict(zip(keys, asyncio.run(self._get(keys)), strict=True))

    async def _list(self) -> list[str]:
        prefix = "values/c/"
        return [
            f"key-{int(name.removeprefix(prefix)):08}"
            async for name in self._store.list_prefix("values")
            if name.startswith(prefix)
        ]

    def keys(self) -> Collection[str]:
        return asyncio.run(self._list())

    def all(self) -> Mapping[str, bytes]:
        return self.get(list(self.keys()))


class Remote(peer.Remote):
    """Each durable step is a commit."""

    def write_all(self, values: Mapping[str, bytes]) -> None:
        place = self.place
        session = repository(place, create=True).writable_session("main")
        zarr.create_array(
            session.store,
            name="values",
            shape=(place.n_keys * place.value_bytes,),
            chunks=(place.value_bytes,),
            dtype="u1",
            compressors=None,
            filters=None,
        )
        asyncio.run(put(session.store, values))
        session.commit("all")

    def change(self, values: Mapping[str, bytes]) -> None:
        session = repository(self.place).writable_session("main")
        asyncio.run(put(session.store, values))
        session.commit("some")

    def reader(self, *, keep: bool = False) -> Reader:
        return Reader(self.place)
