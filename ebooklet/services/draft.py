"""Drafting a commit: which values, nodes and record a push adds to the bucket."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import Final

from ebooklet.core.advance import LiveBytes
from ebooklet.core.entry import Entry, Place, new_entry
from ebooklet.core.index.build import build
from ebooklet.core.index.update import update
from ebooklet.core.names import sid_ms
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.core.sealing import Content, Sealer
from ebooklet.ports.local_store import LocalStore
from ebooklet.ports.remote_store import Body
from ebooklet.services.nodes import NodeReader
from ebooklet.services.pending import Covered
from ebooklet.services.placed import PlacedValues
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.valuebatches import ValueBatch, ValueBatches

_CHUNK_KEYS: Final = 4_096  # looked up at a time
_COUNTED_KEYS: Final = 1_024  # counted in at a time
_SMALL_PUSH_KEYS: Final = 1_000
_CACHED_NODE_BYTES: Final = 64 * 1024 * 1024

_key = itemgetter(0)

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
        placed: values uploaded by an earlier attempt of the same write; added to.

    Attributes:
        covered: the keys that the commit speaks of.
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
        placed: PlacedValues,
    ) -> None:
        self._local = local
        self._nodes = nodes
        self._root = root
        self._params = params
        self._sealer = sealer
        self._uploader = uploader
        self._placed = placed
        self._earlier = placed.entries()
        self._floor = base.head.gc.floor if base else 0
        self.covered = Covered()
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
        values = ValueBatches(self._local.get_many(sets), self._sealer)
        keys = heapq.merge(sets, sorted(deletes)) if deletes else iter(sets)
        while chunk := list(islice(keys, _CHUNK_KEYS)):
            known = self._nodes.lookup(self._root, chunk)
            edits = chain.from_iterable(map(partial(self._set, known), values.up_to(chunk[-1])))
            gone = [key for key in chunk if key in deletes] if deletes else []
            yield from heapq.merge(edits, self._delete(known, gone), key=_key) if gone else edits

    def _set(self, known: Mapping[str, Entry], batch: ValueBatch) -> Sequence[Edit]:
        entries = self._entries(known, batch)
        self.covered.sets.extend(batch.keys)
        edits: list[Edit] = list(zip(batch.keys, entries, strict=True))
        if known:
            edits = [(key, entry) for key, entry in edits if entry != known.get(key)]
        self.n_set += len(edits)
        return edits

    def _delete(self, known: Mapping[str, Entry], keys: Iterable[str]) -> Iterator[Edit]:
        for key in keys:
            self.covered.deletes.append(key)
            if key in known:
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
            return build(chain.from_iterable(self._counted(edits)), self._params, self._place_node)
        result = self._nodes.run(
            update(
                self._root,
                chain.from_iterable(self._counting(edits)),
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

    def _entries(self, known: Mapping[str, Entry], batch: ValueBatch) -> list[Entry]:
        """What the keys of a batch are to be in the index; lays down what lies nowhere yet."""
        if not known and not self._earlier:
            return self._fresh(batch)
        kept = [
            self._kept(known.get(key), self._earlier.get(key), length, digest)
            for key, length, digest in zip(batch.keys, batch.lengths, batch.digests, strict=True)
        ]
        fresh = iter(self._fresh(batch.only([entry is None for entry in kept])))
        return [
            next(fresh) if entry is None else entry._replace(timestamp=timestamp)
            for entry, timestamp in zip(kept, batch.timestamps, strict=True)
        ]

    def _kept(
        self, current: Entry | None, earlier: Entry | None, length: int, digest: bytes
    ) -> Entry | None:
        """The entry whose value is this one and lies where it may stay, if there is one."""
        known = current if current is not None and current.digest == digest else earlier
        if known is None or known.digest != digest or known.length != length:
            return None
        stale = known is not current and known.place and sid_ms(known.place.sid) <= self._floor
        return None if stale else known

    def _fresh(self, batch: ValueBatch) -> list[Entry]:
        """Entries of values that lie nowhere yet; what is not small is laid down."""
        limit = self._params.inline_max
        inlines: Iterable[bytes | None] = repeat(None)
        places: Iterable[Place | None]
        if min(batch.lengths, default=0) > limit:
            places = self._lay(batch)
        else:
            apart = [length > limit for length in batch.lengths]
            laid = iter(self._lay(batch.only(apart)))
            places = [next(laid) if one else None for one in apart]
            inlines = [
                None if one else value for one, value in zip(apart, batch.values, strict=True)
            ]
        keys, timestamps, _, lengths, digests = batch
        columns = zip(keys, lengths, digests, timestamps, inlines, places, strict=False)
        return list(map(new_entry, columns))

    def _lay(self, batch: ValueBatch) -> list[Place]:
        """Lay down values; an attempt that follows finds them."""
        sealer = self._sealer
        values: Sequence[Body] = batch.values
        if sealer.seals:
            values = [sealer.seal(Content.VALUE, value) for value in values]
        places = self._uploader.add_values(values)
        self._placed.add(batch.keys, batch.lengths, batch.digests, places)
        return places

    def _counting(self, edits: Iterable[Edit]) -> Iterator[list[Edit]]:
        edits, leads = iter(edits), self._leads.get
        while batch := list(islice(edits, _COUNTED_KEYS)):
            # One that only leads to a node changes nothing, so that nothing is counted out for it.
            self.live.add_entries(
                [entry for key, entry in batch if entry is not None and leads(key) is not entry]
            )
            yield batch

    def _count_out(self, replaced: list[Entry]) -> None:
        for entry in replaced:
            self.live.drop_entry(entry)

    def _counted(self, edits: Iterable[Edit]) -> Iterator[list[Entry]]:
        for batch in self._counting(edits):
            yield [entry for _, entry in batch if entry is not None]

    def _place_node(self, data: bytes) -> BlockRef:
        stored = bytes(self._sealer.seal(Content.NODE, data))
        block = self._uploader.add_node(stored)
        self.live.add_node(block)
        self._node_bytes += len(stored)
        if self._node_bytes <= _CACHED_NODE_BYTES:
            self.node_data[block] = stored
        return block
