"""Fetching index nodes: memory, then the local cache, then ranges of segments."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from ebooklet.core.entry import Entry
from ebooklet.core.index.codec import decode_node
from ebooklet.core.index.lookup import lookup
from ebooklet.core.index.need import TreeOp, TreeScan, drive, drive_scan
from ebooklet.core.index.node import Node
from ebooklet.core.params import TreeParams
from ebooklet.core.plan import RangePlan
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.core.sealing import PLAIN, Sealer
from ebooklet.errors import RemoteIntegrityError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.parts import checked
from ebooklet.services.segmentreads import SegmentReads
from ebooklet.services.snapshot import Snapshot

Out = TypeVar("Out")
Result = TypeVar("Result")

# About 100 bytes an entry once decoded: bounds the memory of open databases of any size.
MAX_CACHED_ENTRIES: Final = 400_000


def cache_key(block: BlockRef) -> bytes:
    """The node cache's key of a block: its segment and offset, which never change content."""
    return block.sid + block.offset.to_bytes(8, "big")


class NodeCache(Protocol):
    """Where nodes are kept beside the local data; every LocalStore is one."""

    def cached_nodes(self, refs: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of the given cache keys that are still there."""
        ...

    def cache_nodes(self, nodes: Mapping[bytes, bytes]) -> None:
        """Remember nodes; failures to do so are silent."""
        ...


class _NoCache:
    def cached_nodes(self, refs: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return {}

    def cache_nodes(self, nodes: Mapping[bytes, bytes]) -> None:
        pass


class NodeReader:
    """Drives the pure tree operations with nodes from the nearest place that has them.

    Nodes are immutable and verified against the digest in their reference, so a cache can be
    wrong only by being absent.

    Args:
        remote: where the database is.
        db_key: its key.
        cache: where nodes are kept from one process to the next; None keeps them in memory only.
        reads: reads the segments, where others do so too.
    """

    def __init__(
        self,
        remote: RemoteStore,
        db_key: str,
        cache: NodeCache | None = None,
        reads: SegmentReads | None = None,
    ) -> None:
        self._reads = SegmentReads(remote, db_key) if reads is None else reads
        self._cache = _NoCache() if cache is None else cache
        self._lock = threading.Lock()
        self._decoded: OrderedDict[NodeRef, Node] = OrderedDict()
        self._entries = 0
        self.params = TreeParams()
        self.sealer: Sealer = PLAIN

    def run(self, operation: TreeOp[Result]) -> Result:
        """Drive an operation that only needs nodes, and return its result."""
        return drive(operation, self.fetch)

    def scan(self, operation: TreeScan[Out, object]) -> Iterator[Out]:
        """Drive an operation that yields pieces of its result between needs."""
        return drive_scan(operation, self.fetch)

    def lookup(self, root: NodeRef | None, keys: Iterable[str]) -> dict[str, Entry]:
        """Find many keys under `root`; absent ones are missing from the dict."""
        return self.run(lookup(root, keys))

    def adopt(self, snapshot: Snapshot, sealer: Sealer) -> None:
        """Take in what a head says of its tree: the parameters, and the root node if it has it."""
        tip = snapshot.head.tip
        self.params, self.sealer = snapshot.head.params, sealer
        if tip.root is not None and snapshot.head.tip_root is not None:
            self.prime(tip.root, snapshot.head.tip_root)

    def fetch(self, refs: Sequence[NodeRef]) -> Mapping[NodeRef, Node]:
        """Return the decoded nodes of `refs`, asking the remote once for all it must ask for.

        Raises:
            RemoteIntegrityError: a node does not match its reference.
            ObjectNotFound: a segment is gone (the caller knows whether the snapshot expired).
        """
        found: dict[NodeRef, Node] = {}
        missing: list[NodeRef] = []
        with self._lock:
            for ref in refs:
                node = self._decoded.get(ref)
                if node is None:
                    missing.append(ref)
                else:
                    self._decoded.move_to_end(ref)
                    found[ref] = node
        if missing:
            missing = self._from_disk(missing, found)
        if missing:
            self._from_remote(missing, found)
        return found

    def prime(self, ref: NodeRef, data: bytes) -> None:
        """Take in a node that came inside another object (the head carries its root)."""
        self._keep(ref, decode_node(data, ref, self.params, self.sealer))

    def remember(self, nodes: Mapping[BlockRef, bytes]) -> None:
        """Take in nodes that this process has just written."""
        self._cache.cache_nodes({cache_key(block): data for block, data in nodes.items()})

    def _from_disk(self, refs: list[NodeRef], found: dict[NodeRef, Node]) -> list[NodeRef]:
        cached = self._cache.cached_nodes([cache_key(ref.block) for ref in refs])
        missing: list[NodeRef] = []
        for ref in refs:
            data = cached.get(cache_key(ref.block))
            try:
                if data is None:
                    missing.append(ref)
                    continue
                found[ref] = self._keep(ref, decode_node(data, ref, self.params, self.sealer))
            except RemoteIntegrityError:
                missing.append(ref)  # the cache is damaged, the bucket need not be
        return missing

    def _from_remote(self, refs: Iterable[NodeRef], found: dict[NodeRef, Node]) -> None:
        by_place = {(ref.block.sid, ref.block.offset): ref for ref in refs}
        pieces = ((sid, offset, ref.block.length) for (sid, offset), ref in by_place.items())
        fetched: dict[bytes, bytes] = {}
        for plan, part, body in self._reads.read(pieces):
            wanted = [by_place[plan.sid, offset] for offset, _ in plan.pieces]
            decode = partial(self._decode, plan, wanted)
            for ref, data, node in checked(self._reads.remote, part, body, decode):
                found[ref] = self._keep(ref, node)
                fetched[cache_key(ref.block)] = data
        self._cache.cache_nodes(fetched)

    def _decode(
        self, plan: RangePlan, wanted: Sequence[NodeRef], body: bytes
    ) -> list[tuple[NodeRef, bytes, Node]]:
        return [
            (ref, data, decode_node(data, ref, self.params, self.sealer))
            for ref, data in zip(wanted, plan.cut(body), strict=True)
        ]

    def _keep(self, ref: NodeRef, node: Node) -> Node:
        with self._lock:
            if ref not in self._decoded:
                self._decoded[ref] = node
                self._entries += len(node)
                while self._entries > MAX_CACHED_ENTRIES and len(self._decoded) > 1:
                    _, dropped = self._decoded.popitem(last=False)
                    self._entries -= len(dropped)
        return node
