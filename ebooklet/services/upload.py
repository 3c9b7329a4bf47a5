"""Writing new segments: immutable objects that no reader can see until a head names them."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Final
from uuid import UUID

from ebooklet.core.entry import Place
from ebooklet.core.names import segment_key
from ebooklet.core.refs import BlockRef
from ebooklet.core.segment import (
    HEADER_BYTES,
    MIXED_LIMIT,
    SEGMENT_LIMIT,
    BlockType,
    SegmentKind,
    SegmentWriter,
    frame_value,
)
from ebooklet.errors import OutcomeUnknown
from ebooklet.ports.remote_store import Body, RemoteStore

SEGMENT_CACHE_CONTROL: Final = "max-age=31536000, immutable"
_FIRST_CUT: Final = 8 * 1024 * 1024  # several small uploads overlap better than one large one
_IN_FLIGHT: Final = 3  # segments held in memory while they travel, and bytes of them
_IN_FLIGHT_BYTES: Final = 64 * 1024 * 1024
_LARGE: Final = SEGMENT_LIMIT - MIXED_LIMIT  # bytes of a value, above which it stands alone
_LARGE_FROM: Final = 128  # segments, after which larger ones keep the table of segments short
_COMMIT_ROOM: Final = 32 * 1024


class SegmentUploader:
    """Lays values, nodes and the commit record of one logical write into segments and sends them.

    Values and nodes share a segment as long as both stay small; beyond that they part, because
    their lifetimes differ (FORMAT §4). Memory is bounded by a few segments.

    Args:
        remote: where the segments go.
        db_key: whose they are.
        uuid: of the database, as each segment says it.
        write_id: of the logical write.
        mint: makes the id of the next segment.
        large: send large segments from the first on, so that they are few.

    Attributes:
        bytes_sent: size of the segments finished so far.
    """

    def __init__(
        self,
        remote: RemoteStore,
        db_key: str,
        *,
        uuid: UUID,
        write_id: bytes,
        mint: Callable[[], bytes],
        large: bool = False,
    ) -> None:
        self._remote = remote
        self._db_key = db_key
        self._uuid = uuid
        self._write_id = write_id
        self._mint = mint
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="ebooklet-upload")
        self._flights: list[tuple[Future[None], int]] = []  # with their bytes
        self._values: SegmentWriter | None = None
        self._nodes: SegmentWriter | None = None
        self._sent: dict[bytes, tuple[int, SegmentKind]] = {}  # sid -> size and kind
        # Size to cut at: small at first, larger as segments grow many, so that few are needed.
        self._large = large
        self._cut = SEGMENT_LIMIT if large else _FIRST_CUT
        self.bytes_sent = 0

    def add_value(self, data: Body) -> Place:
        """Lay down one stored value; one above the segment limit gets a segment of its own."""
        if len(data) > _LARGE:
            return self._add_large(data)
        writer = self._values
        # A value above the cut stands in a segment alone.
        if writer is None or (writer.size + len(data) > self._cut and writer.size > HEADER_BYTES):
            self._send(writer)
            if self._nodes is writer:
                self._nodes = None
            writer = self._values = self._open(SegmentKind.VALUES)
        return writer.add_value(data)

    def add_values(self, values: Sequence[Body]) -> list[Place]:
        """Lay down many stored values, each where `add_value` would have laid it."""
        ends = list(accumulate(map(len, values)))
        places: list[Place] = []
        at = done = 0  # values and bytes laid down
        while at < len(values):
            writer = self._values
            room = 0 if writer is None else min(self._cut, _LARGE) - writer.size
            stop = bisect_right(ends, done + room, at)
            if writer is None or stop == at:  # it begins a segment, or has one of its own
                places.append(self.add_value(values[at]))
                stop = at + 1
            else:
                places += writer.add_values(values[at:stop])
            at, done = stop, ends[stop - 1]
        return places

    def add_node(self, data: bytes) -> BlockRef:
        """Lay down one encoded index node."""
        return self._node_writer(len(data)).add_block(BlockType.NODE, data)

    def add_metadata(self, data: bytes) -> BlockRef:
        """Lay down user metadata that are too large for the head."""
        return self._node_writer(len(data)).add_block(BlockType.METADATA, data)

    def add_dictionary(self, data: bytes) -> BlockRef:
        """Lay down a dictionary that values of this write, or later ones, are compressed with."""
        return self._node_writer(len(data)).add_block(BlockType.DICTIONARY, data)

    def add_sids(self, data: bytes) -> BlockRef:
        """Lay down the ids of segments that gc is to delete."""
        return self._node_writer(len(data)).add_block(BlockType.SIDS, data)

    def commit_writer(self) -> SegmentWriter:
        """The segment that the commit record is to end; beside the nodes."""
        return self._node_writer(_COMMIT_ROOM)

    def lengths(self) -> dict[bytes, int]:
        """Size of every segment of this write, those still open as if they were finished now."""
        sizes = {sid: size for sid, (size, _) in self._sent.items()}
        return sizes | {writer.sid: writer.finished_size() for writer in self._open_writers()}

    def segment_kinds(self) -> dict[bytes, int]:
        """Kind of every segment of this write."""
        kinds = {sid: int(kind) for sid, (_, kind) in self._sent.items()}
        return kinds | {writer.sid: int(writer.kind) for writer in self._open_writers()}

    def finish(self) -> None:
        """Send what is still open and wait for every upload.

        Raises:
            EBookletError: an upload failed; what did arrive is invisible and will be collected.
        """
        writers = self._open_writers()
        for writer in writers:
            self._send(writer, here=writer is writers[-1])
        self._values = self._nodes = None
        self._settle(0)

    def close(self) -> None:
        """Stop the upload threads; unsent segments are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _open_writers(self) -> list[SegmentWriter]:
        writers = [self._values] if self._nodes is self._values else [self._values, self._nodes]
        return [writer for writer in writers if writer is not None]

    def _node_writer(self, size: int) -> SegmentWriter:
        writer = self._nodes
        values = self._values
        if writer is None and values is not None and values.size + size <= MIXED_LIMIT:
            writer = self._nodes = values
            writer.kind = SegmentKind.MIXED
        limit = MIXED_LIMIT if writer is values else SEGMENT_LIMIT
        if writer is None or writer.size + size > limit:
            if writer is not values:
                self._send(writer)
            writer = self._nodes = self._open(SegmentKind.NODES)
        return writer

    def _open(self, kind: SegmentKind) -> SegmentWriter:
        return SegmentWriter(self._uuid, self._mint(), self._write_id, kind)

    def _add_large(self, data: Body) -> Place:
        sid = self._mint()
        before, after = frame_value(self._uuid, sid, self._write_id, data)
        size = len(before) + len(data) + len(after)
        self._fly(sid, io.BytesIO(b"".join((before, data, after))), size, SegmentKind.VALUES)
        return Place(sid, HEADER_BYTES, len(data))

    def _send(self, writer: SegmentWriter | None, *, here: bool = False) -> None:
        if writer is None:
            return
        body = writer.finish()
        self._fly(writer.sid, body, len(body), writer.kind, here=here)

    def _fly(
        self,
        sid: bytes,
        body: Body | io.BytesIO,
        size: int,
        kind: SegmentKind,
        *,
        here: bool = False,
    ) -> None:
        self._sent[sid] = (size, kind)
        count = len(self._sent)
        large = self._large or count >= _LARGE_FROM
        self._cut = SEGMENT_LIMIT if large else _FIRST_CUT << min(count // 8, 2)
        self.bytes_sent += size
        self._settle(_IN_FLIGHT - 1, _IN_FLIGHT_BYTES - size)
        if here:
            self._put(sid, body, size)  # nothing else is left to do meanwhile
        else:
            self._flights.append((self._pool.submit(self._put, sid, body, size), size))

    def _put(self, sid: bytes, body: Body | io.BytesIO, size: int) -> None:
        # A sid is written once with one content (I5), so a repeat after a lost answer is harmless.
        key = segment_key(self._db_key, sid)
        self._remote.put(key, body, cache_control=SEGMENT_CACHE_CONTROL)
        if isinstance(body, io.BytesIO) and self._remote.head(key).size != size:
            raise OutcomeUnknown(
                "a large value did not arrive whole; push again", op="push", key=key
            )

    def _settle(self, allowed: int, allowed_bytes: int = 0) -> None:
        """Wait until at most so many uploads are under way; raise what a finished one raised."""
        while self._flights and (
            len(self._flights) > allowed or sum(size for _, size in self._flights) > allowed_bytes
        ):
            self._flights.pop(0)[0].result()
