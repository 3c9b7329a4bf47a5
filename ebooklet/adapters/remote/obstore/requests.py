"""The requests of a bucket, as obstore makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Final

import obstore

from ebooklet.adapters.deleting import one_by_one
from ebooklet.adapters.objects import quoted
from ebooklet.adapters.outgoing import PARTS_AT_ONCE, Outgoing, etag_header
from ebooklet.adapters.pieces import joined
from ebooklet.adapters.remote.obstore.client import Clients
from ebooklet.adapters.remote.obstore.failures import PartRefused, translated
from ebooklet.adapters.retry import Retry
from ebooklet.adapters.s3bucket import S3Bucket
from ebooklet.adapters.s3failures import Effect
from ebooklet.adapters.s3parameters import S3Parameters
from ebooklet.errors import RemoteIntegrityError
from ebooklet.ports.remote_store import (
    Condition,
    IfAbsent,
    ObjectMeta,
    StoredObject,
)

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions, GetResult, ListResult, PutMode
    from obstore import ObjectMeta as TheirMeta

__all__ = ["ObstoreRequests"]

_CHUNK: Final = 1 << 20
_LARGE: Final = 1 << 23  # bytes; below it the quick way, which holds the body twice for a moment


class ObstoreRequests:
    """See `ebooklet.adapters.requests.Requests`.

    Args:
        bucket: its name.
        parameters: what the clients are made of.
        retry: how the requests of lists and uploads in parts are repeated.
    """

    def __init__(self, bucket: str, parameters: S3Parameters, retry: Retry) -> None:
        self._bucket = bucket
        self._retry = retry
        self._clients = Clients(bucket, parameters, retry)
        self.place = S3Bucket(
            bucket, parameters, "obstore", lambda: self._clients.endpoint, names_others=False
        )
        self._sends_parts = True  # until the server is seen to do it in a way obstore refuses

    def get(self, key: str, start: int, stop: int | None) -> StoredObject:
        """GetObject; the whole of it, cut here, from servers whose parts obstore refuses."""
        if start == 0 and stop is None:
            return self._whole(key, 0, None)
        if self._sends_parts:
            try:
                return self._part(key, start, stop)
            except PartRefused:
                self._sends_parts = False
        return self._whole(key, start, stop)

    def head(self, key: str) -> ObjectMeta:
        """HeadObject."""
        with self._translated("head", key, Effect.READ):
            return _meta(key, obstore.head(self._clients.single, key))

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectMeta]:
        """ListObjectsV2, page by page.

        obstore lists folders only: of names that begin alike, those in the folder are listed, and
        then the folders among them.
        """
        folder, _, name = prefix.rpartition("/")
        if not name:
            yield from self._below(folder, after)
            return
        found = self._retry.run(partial(self._listed, folder))
        for theirs in found["objects"]:
            yield _meta(theirs["path"], theirs)
        for deeper in found["common_prefixes"]:
            if deeper.startswith(prefix):
                yield from self._below(deeper, after)

    def put(
        self, key: str, body: Outgoing, condition: Condition | None, cache_control: str | None
    ) -> ObjectMeta:
        """PutObject."""
        mode: PutMode = "overwrite"
        effect = Effect.WRITE
        if isinstance(condition, IfAbsent):
            mode = "create"
        elif condition is not None:
            mode = {"e_tag": etag_header(condition, key)}
            effect = Effect.CONDITIONAL
        with self._translated("put", key, effect):
            done = obstore.put(
                self._clients.single,
                key,
                body.whole(),
                mode=mode,
                attributes=_attributes(cache_control),
                use_multipart=False,
            )
        return ObjectMeta(key, body.size, quoted(done["e_tag"]), 0)

    def put_in_parts(self, key: str, body: Outgoing, cache_control: str | None) -> None:
        """A multipart upload."""
        with self._translated("put", key, Effect.WRITE):
            obstore.put(
                self._clients.patient,
                key,
                (part for _, part in body.parts()),
                attributes=_attributes(cache_control),
                use_multipart=True,
                chunk_size=body.part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            )

    def delete(self, key: str) -> None:
        """DeleteObject."""
        with self._translated("delete", key, Effect.WRITE):
            obstore.delete(self._clients.single, key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """DeleteObjects."""
        with (
            one_by_one(self.place.location, keys),
            self._translated("delete", keys[0], Effect.WRITE),
        ):
            obstore.delete(self._clients.patient, keys)

    def copy(self, source: str, target: str, container: str | None) -> None:
        """CopyObject."""
        with self._translated("copy", source, Effect.WRITE):
            obstore.copy(self._clients.single, source, target)

    def server_time_ms(self) -> int | None:
        """Never known: obstore shows no headers."""
        return None

    def close(self) -> None:
        """Close the connections."""
        self._clients.close()

    def _part(self, key: str, start: int, stop: int | None) -> StoredObject:
        options: GetOptions = {"range": {"offset": start} if stop is None else (start, stop)}
        with self._translated("get", key, Effect.READ):
            answer = obstore.get(self._clients.single, key, options=options)
            meta = _meta(key, answer.meta)
            end = meta.size if stop is None else min(stop, meta.size)
            if answer.range != (start, end):
                raise RemoteIntegrityError(
                    f"asked for bytes {start} to {end}, the server sent {answer.range[0]} to "
                    f"{answer.range[1]}",
                    op="get",
                    key=key,
                )
            body = _body(answer, end - start)
        return _complete(StoredObject(body, meta), end - start)

    def _whole(self, key: str, start: int, stop: int | None) -> StoredObject:
        with self._translated("get", key, Effect.READ):
            answer = obstore.get(self._clients.single, key)
            meta = _meta(key, answer.meta)
            end = meta.size if stop is None else min(stop, meta.size)
            start = min(start, end)
            if start == 0 and stop is None:
                body = _body(answer, end)
            else:
                body = joined(_cut(answer, start, end))
        return _complete(StoredObject(body, meta), end - start)

    def _listed(self, folder: str) -> ListResult[Sequence[TheirMeta]]:
        with self._translated("list", folder, Effect.READ):
            return obstore.list_with_delimiter(self._clients.patient, folder or None)

    def _below(self, folder: str, after: str | None) -> Iterator[ObjectMeta]:
        """Everything in a folder; where a page breaks off, the list goes on after the last name."""
        pages: Iterator[Sequence[TheirMeta]] | None = None

        def next_page() -> Sequence[TheirMeta] | None:
            nonlocal pages
            with self._translated("list", folder, Effect.READ):
                if pages is None:
                    pages = obstore.list(self._clients.patient, folder or None, offset=after)
                try:
                    return next(pages, None)
                except BaseException:
                    pages = None
                    raise

        while page := self._retry.run(next_page):
            for theirs in page:
                after = theirs["path"]
                yield _meta(after, theirs)

    def _translated(self, op: str, key: str, effect: Effect) -> AbstractContextManager[None]:
        return translated(op, key, f"bucket {self._bucket!r} at {self._clients.endpoint}", effect)


def _meta(key: str, theirs: TheirMeta) -> ObjectMeta:
    modified_ms = int(theirs["last_modified"].timestamp() * 1000)
    return ObjectMeta(key, theirs["size"], quoted(theirs["e_tag"]), max(0, modified_ms))


def _body(answer: GetResult, size: int) -> bytes:
    """All of an answer of about this size."""
    if size <= _LARGE:
        return answer.bytes().to_bytes()
    return joined(map(memoryview, answer.stream(min_chunk_size=_CHUNK)))


def _cut(answer: GetResult, start: int, end: int) -> Iterator[memoryview]:
    """Of an answer that holds the whole, the bytes [start, end)."""
    position = 0
    for chunk in answer.stream(min_chunk_size=_CHUNK):
        yield memoryview(chunk)[max(0, start - position) : max(0, end - position)]
        position += len(chunk)
        if position >= end:
            return


def _complete(found: StoredObject, size: int) -> StoredObject:
    if len(found.body) != size:
        raise RemoteIntegrityError(
            f"the server sent {len(found.body)} bytes in place of {size}",
            op="get",
            key=found.meta.key,
        )
    return found


def _attributes(cache_control: str | None) -> Attributes | None:
    return None if cache_control is None else {"Cache-Control": cache_control}
