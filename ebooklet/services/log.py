"""The older history of a head: a tree keyed by sequence number (FORMAT §2, `log`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from ebooklet.core.digest import value_digest
from ebooklet.core.entry import Entry
from ebooklet.core.head import Head, Recent, decode_log_row, encode_log_row, log_key
from ebooklet.core.index.lookup import scan
from ebooklet.core.index.node import InnerNode
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, NodeRef
from ebooklet.services.nodes import NodeReader

_FIRST_WINDOW: Final = 128  # rows of the older history; a reader that stops soon has read little
_MAX_WINDOW: Final = 32_768


def log_params(params: TreeParams) -> TreeParams:
    """The parameters of the log's tree, given those of the database's.

    It is never sealed: it says what the head says in the clear, and whoever copies or checks a
    database has to follow its history without a key.
    """
    return replace(params, encryption=None)


def log_entries(rows: Iterable[Recent]) -> list[tuple[str, Entry | None]]:
    """The tree edits that add rows which no longer fit into the head."""
    edits: list[tuple[str, Entry | None]] = []
    for row in rows:
        data = encode_log_row(row)
        key = log_key(row.seq)
        edits.append((key, Entry(key, len(data), value_digest(data), row.ms * 1000, data, None)))
    return sorted(edits)


def find_row(nodes: NodeReader, head: Head, seq: int, write_id: bytes) -> Recent | None:
    """The row of the older history that says that `seq` was this logical write."""
    if head.log is None:
        return None
    key = log_key(seq)
    entry = nodes.lookup(head.log, (key,)).get(key)
    if entry is None or entry.inline is None:
        return None
    row = decode_log_row(entry.inline)
    return row if row.write_id == write_id else None


def row_of(nodes: NodeReader, head: Head, seq: int) -> Recent | None:
    """The logical write of this number, as far as a head tells; costs a path down the log."""
    if seq < 0:
        return None
    if head.recent and seq >= head.recent[0].seq:
        return next((row for row in head.recent if row.seq == seq), None)
    key = log_key(seq)
    entry = nodes.lookup(head.log, (key,)).get(key)
    return None if entry is None else decode_log_row(entry.inline or b"", key)


def older_rows(nodes: NodeReader, head: Head) -> Iterator[Recent]:
    """Yield all writes that stand in the log alone, oldest first, by as few requests as can be."""
    for entries in nodes.scan(scan(head.log)):
        for entry in entries:
            yield decode_log_row(entry.inline or b"", entry.key)


def rows_back(nodes: NodeReader, head: Head) -> Iterator[Recent]:
    """Yield the logical writes that a head tells of, newest first, all branches mixed.

    Those that stand in the head cost nothing. Older ones are read by windows that grow, so that
    the requests grow as the logarithm of how far back the caller goes.
    """
    yield from reversed(head.recent)
    stop = min((row.seq for row in head.recent), default=head.seq + 1)
    left = 0 if head.log is None else head.log.count
    window = _FIRST_WINDOW
    while left > 0 and stop > 0:
        start = max(0, stop - window)
        rows = [
            decode_log_row(entry.inline or b"", entry.key)
            for entries in nodes.scan(scan(head.log, log_key(start), log_key(stop)))
            for entry in entries
        ]
        yield from reversed(rows)
        left -= len(rows)
        stop, window = start, min(4 * window, _MAX_WINDOW)


def log_segments(
    nodes: NodeReader, log: NodeRef | None, fresh: Mapping[BlockRef, bytes] | None = None
) -> set[bytes]:
    """The segments that hold the log's nodes; reads its inner nodes only.

    Args:
        nodes: reads them.
        log: root of the tree.
        fresh: nodes of it that were laid down and not sent yet, so that nobody could read them.
    """
    sids: set[bytes] = set()
    level = [log] if log is not None else []
    while level:
        sids.update(ref.block.sid for ref in level)
        inner = [ref for ref in level if ref.level > 0]
        for ref in inner:
            if fresh is not None and ref.block in fresh:
                nodes.prime(ref, fresh[ref.block])
        found = nodes.fetch(inner) if inner else {}
        level = [
            child
            for node in found.values()
            if isinstance(node, InnerNode)
            for child in node.children()
        ]
    return sids
