"""Drafting a commit: which values, nodes and record a push adds to the bucket."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from ebooklet.core.advance import LiveBytes
from ebooklet.core.entry import Entry
from ebooklet.core.index.build import build
from ebooklet.core.index.update import update
from ebooklet.core.names import sid_ms
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.core.sealing import Content, Sealer
from ebooklet.ports.local_store import LocalStore
from ebooklet.services.nodes import NodeReader
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader

_CHUNK_KEYS: Final = 5_000
_SMALL_PUSH_KEYS: Final = 1_000
_CACHED_NODE_BYTES: Final = 64 * 1024 * 1024
_new = tuple.__new__  # a NamedTuple's own is written in Python, which shows where each key passes

Edit = tuple[str, Entry | None]


@dataclass(frozen=True, slots=True)
class Leave:
    """What has to be written again so that segments are no longer needed.

    Attributes:
        sids: of the segments.
        entries: in key order: those whose values lie there, and those that lead to nodes there.
        n_bytes: that this adds to a commit, but for inner nodes.
    """

    sids: frozenset[bytes]
    entries: Sequence[Entry]
    n_bytes: int

    def moves(self, entry: Entry) -> bool:
        """Whether the value of one of the entries is to lie elsewhere."""
        return entry.place is not None and entry.place.sid in self.sids

    def leads(self) -> dict[str, Entry]:
        """The entries that stay as they are, by key."""
        return {entry.key: entry for entry in self.entries if not self.moves(entry)}


class Draft:
    """The content of one attempt of a push, laid into segments as it is worked out.

    Args:
        local: where the values are.
        nodes: the index reader.
        base: the snapshot the commit builds on; None creates the database.
        root: root of the index to change; None starts from nothing (creation, replacement).
        params: what shapes the tree.
        sealer: of values and nodes.
        uploader: where values and nodes go.
        placed: entries uploaded by an earlier attempt of the same write, by key; added to.

    Attributes:
        covered: each key the commit speaks of, with what it then is in the index.
        live: the segment table of the new snapshot, in the making.
        node_data: nodes as they are stored, for the cache, up to a bound.
        log_data: nodes of the log that were laid down.
        n_set: keys whose entry changes.
        n_deleted: keys of the base that go.
    """

    def __init__(
        self,
        *,
        local: LocalStore,
        nodes: NodeReader,
        base: Snapshot | None,
        root: NodeRef | None,
        params: TreeParams,
        sealer: Sealer,
        uploader: SegmentUploader,
        placed: dict[str, Entry],
    ) -> None:
        self._local = local
        self._nodes = nodes
        self._root = root
        self._params = params
        self._sealer = sealer
        self._uploader = uploader
        self._placed = placed
        self._floor = base.head.gc.floor if base else 0
        self.covered: dict[str, Entry | None] = {}
        self.live = (
            LiveBytes.of(base.commit.segs, base.commit.value_bytes)
            if base is not None and root is not None
            else LiveBytes()
        )
        self.node_data: dict[BlockRef, bytes] = {}
        self.log_data: dict[BlockRef, bytes] = {}
        self._leads: Mapping[str, Entry] = {}
        self._node_bytes = 0
        self.n_set = 0
        self.n_deleted = 0

    def edits(self, sets: Sequence[str], deletes: Collection[str]) -> Iterator[Edit]:
        """Yield the index edits of these keys, in key order, laying down values on the way.

        A key whose entry would not change, timestamp included, makes no edit; a key whose value
        is gone meanwhile is left out, and stays pending.
        """
        # One stream over all: the local store reads many values by one pass over its file.
        values = self._local.get_many(sets)
        following = next(values, None)
        covered, entry_of = self.covered, self._entry
        keys = heapq.merge(sets, sorted(deletes)) if deletes else iter(sets)
        while chunk := list(islice(keys, _CHUNK_KEYS)):
            known = self._nodes.lookup(self._root, chunk).get
            for key in chunk:
                if following is not None and following[0] == key:
                    timestamp, value = following[1]
                    following = next(values, None)
                    current = known(key)
                    covered[key] = entry = entry_of(key, value, timestamp, current)
                    if entry != current:
                        self.n_set += 1
                        yield key, entry
                elif key in deletes:
                    covered[key] = None
                    if known(key) is not None:
                        self.n_deleted += 1
                        yield key, None

    def build(self, edits: Iterable[Edit], leave: Leave | None = None) -> NodeRef | None:
        """Work the edits into the index and lay down its new nodes; return the new root.

        Args:
            edits: in key order, those of `leave` among them.
            leave: segments in which no node is to stay that an edit leads to.
        """
        if leave is not None:
            self._leads = leave.leads()
        edits = iter(edits)
        # Values of a small push come first, so that they lie together, before the nodes.
        edits = chain(list(islice(edits, _SMALL_PUSH_KEYS)), edits)
        if self._root is None:
            return build(self._counted(edits), self._params, self._place_node)
        result = self._nodes.run(
            update(
                self._root,
                self._counting(edits),
                self._params,
                self._place_node,
                discard=self._count_out,
                leaving=() if leave is None else leave.sids,
            )
        )
        for ref in result.dropped_nodes:
            self.live.drop_node(ref.block)
        return result.root

    def place_log_node(self, data: bytes) -> BlockRef:
        """Lay down a node of the log, which the head keeps alive, not the snapshot."""
        block = self._uploader.add_node(data)
        self.log_data[block] = data
        return block

    def _entry(self, key: str, value: bytes, timestamp: int, current: Entry | None) -> Entry:
        digest = self._sealer.digest(value)
        known = (
            current if current is not None and current.digest == digest else self._placed.get(key)
        )
        if known is not None and known.digest == digest and known.length == len(value):
            stale = known is not current and known.place and sid_ms(known.place.sid) <= self._floor
            if not stale:
                return known._replace(timestamp=timestamp)
        if len(value) <= self._params.inline_max:
            return Entry(key, len(value), digest, timestamp, value, None)
        place = self._uploader.add_value(self._sealer.seal(Content.VALUE, value))
        entry = _new(Entry, (key, len(value), digest, timestamp, None, place))
        self._placed[key] = entry
        return entry

    def _counting(self, edits: Iterable[Edit]) -> Iterator[Edit]:
        for key, entry in edits:
            # One that only leads to a node changes nothing, so that nothing is counted out for it.
            if entry is not None and self._leads.get(key) is not entry:
                self.live.add_entry(entry)
            yield key, entry

    def _count_out(self, replaced: list[Entry]) -> None:
        for entry in replaced:
            self.live.drop_entry(entry)

    def _counted(self, edits: Iterable[Edit]) -> Iterator[Entry]:
        for _, entry in self._counting(edits):
            if entry is not None:
                yield entry

    def _place_node(self, data: bytes) -> BlockRef:
        stored = bytes(self._sealer.seal(Content.NODE, data))
        block = self._uploader.add_node(stored)
        self.live.add_node(block)
        self._node_bytes += len(stored)
        if self._node_bytes <= _CACHED_NODE_BYTES:
            self.node_data[block] = stored
        return block
