"""What a staged writer set or deleted, as a table: in its result, or as a tree in the bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from zlib import crc32

from ebooklet.core.entry import Entry
from ebooklet.core.index.build import build
from ebooklet.core.index.codec import decode_node
from ebooklet.core.index.lookup import scan
from ebooklet.core.index.need import drive_scan
from ebooklet.core.index.node import Node
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.core.sealing import Content, Sealer
from ebooklet.services.nodes import NodeReader
from ebooklet.services.upload import SegmentUploader

HELD_BYTES: Final = 64 * 1024
"""Most bytes of a table that travel in the result itself (decision 0038)."""

_LEAST_ENTRY_BYTES: Final = 16  # its digest, which does not compress
_NOWHERE: Final = bytes(16)
_WINDOW: Final = 16  # leaves read at once, of each of many tables


@dataclass(frozen=True, slots=True)
class Table:
    """Entries in key order, as the nodes of a tree.

    Attributes:
        root: of the tree; None without entries.
        data: its nodes as they are stored, back to back; None where they lie in the bucket.
    """

    root: NodeRef | None
    data: bytes | None

    @property
    def count(self) -> int:
        """Number of entries."""
        return 0 if self.root is None else self.root.count


def lay_table(
    entries: Sequence[Entry], params: TreeParams, sealer: Sealer, uploader: SegmentUploader
) -> Table:
    """Make a table of entries in key order, into segments if it is larger than a result may be."""
    if len(entries) * _LEAST_ENTRY_BYTES <= HELD_BYTES:
        held = bytearray()
        root = build(entries, params, partial(_hold, held, sealer))
        if len(held) <= HELD_BYTES:
            return Table(root, bytes(held))

    def place(node: bytes) -> BlockRef:
        return uploader.add_node(bytes(sealer.seal(Content.NODE, node)))

    return Table(build(entries, params, place), None)


def entries_in(table: Table, nodes: NodeReader) -> Iterator[Entry]:
    """Yield the entries of a table, in key order.

    Args:
        table: which.
        nodes: reads what lies in the bucket, and knows how nodes are stored.

    Raises:
        ObjectNotFound: its segments are gone.
        RemoteIntegrityError: it is damaged.
    """
    fetch = nodes.fetch if table.data is None else partial(_held, table.data, nodes)
    for entries in drive_scan(scan(table.root, window=_WINDOW), fetch):
        yield from entries


def _hold(held: bytearray, sealer: Sealer, node: bytes) -> BlockRef:
    stored = bytes(sealer.seal(Content.NODE, node))
    ref = BlockRef(_NOWHERE, len(held), len(stored), crc32(stored))
    held += stored
    return ref


def _held(data: bytes, nodes: NodeReader, refs: Sequence[NodeRef]) -> Mapping[NodeRef, Node]:
    return {
        ref: decode_node(
            data[ref.block.offset : ref.block.offset + ref.block.length],
            ref,
            nodes.params,
            nodes.sealer,
        )
        for ref in refs
    }
