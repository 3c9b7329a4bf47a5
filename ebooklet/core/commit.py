"""Commit records: what one version of a branch consists of (FORMAT §2).

A record is a CBOR map with integer keys, addressed by the hash of its bytes:

    0 seq | 1 parents | 2 ms | 3 author | 4 message | 5 root node ref or null | 6 key count |
    7 value bytes | 8 segs [[sid, length, live, kind]] | 9 fingerprint | 10 op | 11 write_id |
    12 notes | 13 [key id] | 14 branch

12 and 13 stand in encrypted databases only, where 3 and 4 are empty (`core.notes`). 14 stands in
commits of other branches than the default one (decision 0045).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ebooklet.core import cbor
from ebooklet.core.cbor import U48, U63, Malformed
from ebooklet.core.digest import digest32
from ebooklet.core.encryption import MAX_KEY_ID_BYTES, MAX_KEY_IDS
from ebooklet.core.refs import NodeRef
from ebooklet.core.wire import pack_node, read_sid, unpack_node
from ebooklet.errors import RemoteIntegrityError

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Commit",
    "SegmentRow",
    "commit_id",
    "decode_commit",
    "encode_commit",
]

COMMIT_ID_BYTES: Final = 32
MAX_PARENTS: Final = 2
MAX_AUTHOR_BYTES: Final = 256
MAX_MESSAGE_BYTES: Final = 4096
MAX_OP_BYTES: Final = 32
MAX_SEGMENTS: Final = 8192
MAX_COMMIT_BYTES: Final = 256 * 1024
MAX_NOTES_BYTES: Final = 8192
MAX_BRANCH_BYTES: Final = 1024
_KNOWN: Final = frozenset(range(15))
_OPTIONAL: Final = frozenset((12, 13, 14))


class SegmentRow(NamedTuple):
    """One segment that a snapshot uses."""

    sid: bytes
    length: int  # bytes of the whole object
    live: int  # bytes still referenced; ranks compaction victims, nothing safe rests on it
    kind: int  # core.segment.SegmentKind


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of a branch.

    `root` is None exactly when there are no keys. `segs` is complete: garbage collection keeps
    what it lists, so a segment left out may be deleted under a reader.
    """

    seq: int
    parents: tuple[bytes, ...]  # ids, at most 2
    ms: int  # Unix ms
    author: str
    message: str
    root: NodeRef | None
    count: int  # keys
    value_bytes: int
    segs: tuple[SegmentRow, ...]
    fingerprint: bytes  # 32 bytes
    op: str  # "push", "merge", "replace", "compact", ...
    write_id: bytes  # 16 bytes
    notes: bytes | None = None  # author and message, sealed
    key_ids: tuple[str, ...] = ()  # of all keys that blocks of the snapshot may lie under, sorted
    branch: str = ""  # that it was made for; "" for the default one
    unknown: Mapping[int, bytes] = field(default_factory=dict)  # fields of newer versions


def commit_id(encoded: bytes) -> bytes:
    """The id of an encoded record: B2(32, "ebk-comm")."""
    return digest32(b"ebk-comm", encoded)


def encode_commit(commit: Commit) -> bytes:
    """Encode a record; equal commits give equal bytes.

    Raises:
        ValueError: a text is too long, or there are too many parents or segments.
    """
    for name, value, limit in (
        ("author", commit.author, MAX_AUTHOR_BYTES),
        ("message", commit.message, MAX_MESSAGE_BYTES),
        ("op", commit.op, MAX_OP_BYTES),
        ("branch", commit.branch, MAX_BRANCH_BYTES),
    ):
        if len(value.encode()) > limit:
            raise ValueError(f"the {name} of a commit may have {limit} bytes of UTF-8; shorten it")
    if len(commit.parents) > MAX_PARENTS or len(commit.segs) > MAX_SEGMENTS:
        raise ValueError(
            f"a commit may have {MAX_PARENTS} parents and {MAX_SEGMENTS} segments; compact first"
        )
    fields: dict[int, object] = {
        0: commit.seq,
        1: list(commit.parents),
        2: commit.ms,
        3: commit.author,
        4: commit.message,
        5: None if commit.root is None else pack_node(commit.root),
        6: commit.count,
        7: commit.value_bytes,
        8: [list(seg) for seg in commit.segs],
        9: commit.fingerprint,
        10: commit.op,
        11: commit.write_id,
    }
    if commit.notes is not None:
        fields[12] = commit.notes
    if commit.key_ids:
        fields[13] = list(commit.key_ids)
    if commit.branch:
        fields[14] = commit.branch
    return cbor.encode(cbor.join_unknown(fields, commit.unknown))


def decode_commit(data: bytes, expect_id: bytes | None = None) -> Commit:
    """Decode a record, checking its id where the caller knows it.

    Raises:
        RemoteIntegrityError: the id differs, or the bytes are no commit record.
    """
    if len(data) > MAX_COMMIT_BYTES:
        raise RemoteIntegrityError(f"a commit record of {len(data)} bytes is above the limit")
    if expect_id is not None and commit_id(data) != expect_id:
        raise RemoteIntegrityError("a commit record does not match its id; run fsck", op="read")
    try:
        return _commit(cbor.body(cbor.decode(data)))
    except Malformed as exc:
        raise RemoteIntegrityError(f"malformed commit record: {exc}; run fsck", op="read") from exc


def _commit(fields: dict[int, object]) -> Commit:
    if missing := _KNOWN - _OPTIONAL - fields.keys():
        raise Malformed(f"fields {sorted(missing)} are missing")
    commit = Commit(
        seq=cbor.uint(fields[0], "seq", U63),
        parents=tuple(
            cbor.blob(item, "a parent", COMMIT_ID_BYTES)
            for item in cbor.rows(fields[1], "parents", MAX_PARENTS)
        ),
        ms=cbor.uint(fields[2], "ms", U48),
        author=cbor.text(fields[3], "author", MAX_AUTHOR_BYTES),
        message=cbor.text(fields[4], "message", MAX_MESSAGE_BYTES),
        root=None if fields[5] is None else unpack_node(fields[5]),
        count=cbor.uint(fields[6], "key count", U63),
        value_bytes=cbor.uint(fields[7], "value bytes", U63),
        segs=tuple(_segment_row(item) for item in cbor.rows(fields[8], "segs", MAX_SEGMENTS)),
        fingerprint=cbor.blob(fields[9], "fingerprint", 32),
        op=cbor.text(fields[10], "op", MAX_OP_BYTES),
        write_id=cbor.blob(fields[11], "write_id", 16),
        notes=cbor.blob(fields[12], "notes", limit=MAX_NOTES_BYTES) if 12 in fields else None,
        key_ids=tuple(
            cbor.text(item, "a key id", MAX_KEY_ID_BYTES)
            for item in cbor.rows(fields.get(13, []), "key ids", MAX_KEY_IDS)
        ),
        branch=cbor.text(fields[14], "branch", MAX_BRANCH_BYTES) if 14 in fields else "",
        unknown=cbor.split_unknown(fields, _KNOWN),
    )
    if 14 in fields and not commit.branch:
        raise Malformed("its branch has no name")
    if (commit.count if commit.root is None else commit.count - commit.root.count) != 0:
        raise Malformed("its key count differs from its root's")
    if len({seg.sid for seg in commit.segs}) != len(commit.segs):
        raise Malformed("a segment is listed twice")
    return commit


def _segment_row(value: object) -> SegmentRow:
    sid, length, live, kind = cbor.row(value, "a segment row", 4)
    return SegmentRow(
        read_sid(sid),
        cbor.uint(length, "a segment length", U48),
        cbor.uint(live, "live bytes", U63),
        cbor.uint(kind, "a segment kind", 255),
    )
