"""Databases as a hostile writer makes them: every checksum right, and what they say is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.bootstrap import open as open_database
from ebooklet.core.commit import Commit, SegmentRow, commit_id, encode_commit
from ebooklet.core.digest import value_digest
from ebooklet.core.entry import Entry, Place
from ebooklet.core.head import Branch, Head, decode_head, encode_head
from ebooklet.core.index.build import build
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.names import segment_key
from ebooklet.core.refs import BlockRef, CommitRef
from ebooklet.core.segment import BlockType, SegmentKind, SegmentWriter

SID = b"\x01" * 16


def honest(content: dict[str, Any] | None = None) -> MemoryRemoteStore:
    """A database as it should be, with values in the index and in a segment, and some history."""
    store = MemoryRemoteStore()
    with open_database(store, None, "c", "json") as db:
        db.update({"inline": 1, "a": "v" * 80, "b": "w" * 90})
        db.set_metadata({"title": "t"})
        db.push()
        db.update(content or {"c": "x" * 100})
        db.push()
    return store


def entry(key: str, value: bytes = b'"value"', **changes: Any) -> Entry:
    """An entry whose value lies in the index."""
    return Entry(key, len(value), value_digest(value), 1, value, None)._replace(**changes)


def placed(key: str, offset: int, length: int, sid: bytes = SID) -> Entry:
    """An entry whose value is said to lie somewhere."""
    return entry(key, inline=None, length=length, place=Place(sid, offset, length))


def forged(
    entries: Sequence[Entry] = (), *, head: dict[str, Any] | None = None, tip: Any = None
) -> MemoryRemoteStore:
    """A database with these entries, and fields of its head and of its tip as they are given."""
    store = honest()
    old = decode_head(store.get("db").body, key="db")
    writer = SegmentWriter(old.uuid, SID, bytes(16), SegmentKind.NODES)
    root = (
        build(sorted(entries), old.params, lambda node: writer.add_block(BlockType.NODE, node))
        if entries
        else old.tip.root
    )
    commit: Commit = replace(
        old.tip,
        root=root,
        count=root.count if root else 0,
        segs=(*old.tip.segs, SegmentRow(SID, 1 << 20, 1, 2)),
        fingerprint=fingerprint(old.params, root),
        **(tip or {}),
    )
    record = encode_commit(commit)
    ref = CommitRef(writer.add_block(BlockType.COMMIT, record), commit_id(record), commit.seq)
    store.put(segment_key("db", SID), bytes(writer.finish()))
    main = old.branches[old.default_branch]
    new: Head = replace(
        old,
        tip=commit,
        tip_root=None,
        branches={old.default_branch: Branch(ref, main.oldest_seq, main.keep_n, main.keep_ms)},
        hsegs=tuple(sorted({*old.hsegs, SID})),
        **(head or {}),
    )
    store.put("db", encode_head(new))
    return store


def nowhere(length: int = 1 << 26) -> BlockRef:
    """A ref to bytes that no object has."""
    return BlockRef(b"\x02" * 16, (1 << 48) - 1, length, 0)
