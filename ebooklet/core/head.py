"""The bytes of the head, the one mutable object of a database (FORMAT §2).

Frame: `EBKHEAD1` | major u16 | minor u16 | required bits u32 | optional bits u32 | body length u64 |
body | B2(32, "ebk-head") of all before. The body is a CBOR map with integer keys:

    0 uuid | 1 type | 2 [key serializer, value serializer] | 3 seq | 4 write_id | 5 fence |
    6 [mode, etag style, probed ms, server] | 7 [leaf_T, inner_T, inline_max, vdigest_len, salt,
    codec, encryption] | 8 {branch: [commit ref, oldest seq, keep_n, keep_ms]} |
    9 {tag: [commit ref, ms, message]} | 10 [[name, commit ref, ms]] (trash) | 11 tip: bytes of the
    commit record | 12 bytes of its root node | 13 [[write_id, seq, ms, branch, commit ref]] |
    14 node ref of the log | 15 [epoch, floor, [[ms, block ref]]] | 16 [timestamp, JSON, block ref]
    (metadata) | 17 ms | 18 version | 19 hsegs | 20 further sids | 21 origins | 22 default branch |
    23 key it was created under | 24 [[id, block ref]] (dictionaries, see decision 0027) |
    25 [vault, key id, sealed digest key, {key id: check}] (encryption, see decision 0029)

Refs name segments by their index in fields 19 and 20 taken together. 12, 14, 16 and 23 to 25
may be absent.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeVar
from uuid import UUID

from ebooklet.core import cbor
from ebooklet.core.cbor import U48, Malformed
from ebooklet.core.commit import commit_id, decode_commit, encode_commit
from ebooklet.core.digest import digest32
from ebooklet.core.headfields import (
    MAX_LISTED_DICTIONARIES,
    params_row,
    read_branch,
    read_dictionary,
    read_gc,
    read_keys,
    read_metadata,
    read_name,
    read_optional_blob,
    read_params,
    read_proto,
    read_recent,
    read_tag,
    read_trash,
)
from ebooklet.core.headtypes import (
    DICTIONARIES_BIT,
    ENCRYPTION_BIT,
    FORBIDS_READING,
    Branch,
    DatabaseType,
    DictionaryRef,
    Gc,
    Head,
    KeyTable,
    PendingBatch,
    Proto,
    Recent,
    Tag,
    Trash,
)
from ebooklet.core.names import MAX_KEY_BYTES
from ebooklet.core.wire import (
    SidTable,
    join_ids,
    pack_block,
    pack_commit,
    pack_node,
    read_sid,
    split_ids,
    unpack_node,
)
from ebooklet.errors import EBookletError, RemoteIntegrityError, UnsupportedFormatError

__all__ = [
    "MAGIC_BYTES",
    "MAX_HEAD_BYTES",
    "Branch",
    "DatabaseType",
    "DictionaryRef",
    "Gc",
    "Head",
    "KeyTable",
    "PendingBatch",
    "Proto",
    "Recent",
    "Tag",
    "Trash",
    "decode_head",
    "decode_log_row",
    "encode_head",
    "encode_log_row",
    "log_key",
    "looks_like_head",
    "spill",
]

MAX_HEAD_BYTES: Final = 256 * 1024
ROOT_BUDGET: Final = 64 * 1024  # a head above it leaves out the copy of the root node
MAX_ROOT_BYTES: Final = 16 * 1024
MAX_RECENT: Final = 64
SPILL: Final = 32  # rows moved to the log at a time
MAX_NAMES: Final = 4096
MAX_SIDS: Final = 8192
MAX_ORIGINS: Final = 256

_MAGIC: Final = b"EBKHEAD1"
MAGIC_BYTES: Final = len(_MAGIC)
_MAJOR: Final = 1
_FRAME: Final = struct.Struct(">8sHHIIQ")
_HASH_BYTES: Final = 32
_KNOWN: Final = frozenset(range(26))
_OPTIONAL: Final = frozenset((12, 14, 16, 23, 24, 25))
_TYPES: Final[dict[object, DatabaseType]] = {"database": "database", "group": "group"}

T = TypeVar("T")


def encode_head(head: Head) -> bytes:
    """Encode a head; equal heads give equal bytes.

    The copy of the root node is left out of a head above 64 KiB: it only saves a request.

    Raises:
        EBookletError: above 256 KiB, or a text or table is above its limit.
    """
    try:
        data = _frame(head, with_root=True)
        if len(data) > ROOT_BUDGET and head.tip_root is not None:
            data = _frame(head, with_root=False)
        # Reading it back costs about a millisecond; a head that no client can read costs the
        # database until somebody restores the object by hand.
        if len(data) <= MAX_HEAD_BYTES:
            decode_head(data, key="")
    except (ValueError, RemoteIntegrityError) as exc:
        raise EBookletError(f"this head cannot be written: {exc}", op="commit") from exc
    if len(data) > MAX_HEAD_BYTES:
        raise EBookletError(
            f"the head would take {len(data)} bytes, its limit is {MAX_HEAD_BYTES}: delete tags "
            "and branches, or compact the database",
            op="commit",
        )
    return data


def _frame(head: Head, *, with_root: bool) -> bytes:
    body = cbor.encode(cbor.join_unknown(_fields(head, with_root=with_root), head.unknown))
    required = head.required_bits | (DICTIONARIES_BIT if head.dictionaries else 0)
    required |= ENCRYPTION_BIT if head.encryption is not None else 0
    prefix = _FRAME.pack(_MAGIC, _MAJOR, head.minor, required, head.optional_bits, len(body))
    framed = prefix + body
    return framed + digest32(b"ebk-head", framed)


def _fields(head: Head, *, with_root: bool) -> dict[int, object]:
    hsegs = sorted(set(head.hsegs))
    named = {block.sid for block in head.blocks()}.union(
        row.commit.block.sid for row in head.recent
    )
    others = sorted(named.difference(hsegs))
    sid = SidTable([*hsegs, *others]).pack
    fields: dict[int, object] = {
        0: head.uuid.bytes,
        1: head.type,
        2: [head.key_serializer, head.value_serializer],
        3: head.seq,
        4: head.write_id,
        5: head.fence,
        6: [head.proto.mode, head.proto.etag_style, head.proto.probed_ms, head.proto.server],
        7: params_row(head.params),
        8: {
            name: [pack_commit(b.commit, sid), b.oldest_seq, b.keep_n, b.keep_ms]
            for name, b in head.branches.items()
        },
        9: {name: [pack_commit(t.commit, sid), t.ms, t.message] for name, t in head.tags.items()},
        10: [[t.name, pack_commit(t.commit, sid), t.ms] for t in head.trash],
        11: encode_commit(head.tip),
        13: [
            [row.write_id, row.seq, row.ms, row.branch, pack_commit(row.commit, sid)]
            for row in head.recent
        ],
        15: [
            head.gc.epoch,
            head.gc.floor,
            [[batch.ms, pack_block(batch.sids, sid)] for batch in head.gc.pending],
        ],
        17: head.ms,
        18: head.version,
        19: join_ids(hsegs),
        20: join_ids(others),
        21: join_ids(sorted(set(head.origins))),
        22: head.default_branch,
    }
    if with_root and head.tip_root is not None:
        fields[12] = head.tip_root
    if head.log is not None:
        fields[14] = pack_node(head.log, sid)
    if head.name is not None:
        fields[23] = head.name
    if head.dictionaries:
        fields[24] = [[row.id, pack_block(row.block, sid)] for row in head.dictionaries]
    if (keys := head.encryption) is not None:
        fields[25] = [keys.vault, keys.key_id, keys.digest_key, dict(keys.checks)]
    meta = (head.metadata_timestamp, head.metadata, head.metadata_ref)
    if any(part is not None for part in meta):
        ref = None if head.metadata_ref is None else pack_block(head.metadata_ref, sid)
        fields[16] = [head.metadata_timestamp, head.metadata, ref]
    return fields


def looks_like_head(data: bytes) -> bool:
    """Whether an object begins as a head does, of whatever version, or as one that was cut short."""
    return _MAGIC.startswith(data[:MAGIC_BYTES])


def decode_head(data: bytes, *, key: str) -> Head:
    """Check and decode the object that is the head of a database.

    Args:
        data: the whole object.
        key: its name, for messages.

    Raises:
        UnsupportedFormatError: not a head, or a newer version of the format is needed to read it.
        RemoteIntegrityError: a head that is damaged.
    """
    if len(data) > MAX_HEAD_BYTES or not looks_like_head(data):
        raise UnsupportedFormatError(
            "the object at this place is not an EBooklet database of this format: correct the "
            "key, or choose an unused one to create a database; one of EBooklet 0.11 is moved to a "
            "new place by ebooklet.migrate",
            op="open",
            key=key,
        )
    if len(data) < _FRAME.size + _HASH_BYTES:
        raise _damaged("it is cut short", key)
    _, major, _, required, _, length = _FRAME.unpack_from(data)
    if major != _MAJOR:
        raise UnsupportedFormatError(
            f"a newer version of the format ({major}) wrote this database, this one reads "
            f"{_MAJOR}: upgrade ebooklet",
            op="open",
            key=key,
        )
    end = _FRAME.size + length
    if len(data) != end + _HASH_BYTES:
        raise _damaged("its length differs from what it says", key)
    if digest32(b"ebk-head", memoryview(data)[:end]) != data[end:]:
        raise _damaged("its checksum does not match", key)
    if required & FORBIDS_READING:
        raise UnsupportedFormatError(
            f"this database needs features this version does not have (bits {required:#x}): "
            "upgrade ebooklet",
            op="open",
            key=key,
        )
    try:
        return _head(data)
    except RemoteIntegrityError as exc:
        raise _damaged(str(exc.args[0]), key) from exc
    except Malformed as exc:
        raise _damaged(str(exc), key) from exc


def _damaged(why: str, key: str) -> RemoteIntegrityError:
    return RemoteIntegrityError(
        f"the head of the database is damaged: {why}; nothing was read or changed. Read it again, "
        "restore an older version of the object, or make a new one (fsck, rescue=True)",
        op="open",
        key=key,
    )


@lru_cache(maxsize=4)
def _head(data: bytes) -> Head:
    """Read the fields of a whole head.

    Remembered, as the head that was written is read next, and again as long as nobody commits.
    """
    _, _, minor, required, optional, length = _FRAME.unpack_from(data)
    f = cbor.body(cbor.decode(data[_FRAME.size : _FRAME.size + length]))
    if missing := _KNOWN - _OPTIONAL - f.keys():
        raise Malformed(f"fields {sorted(missing)} are missing")
    hsegs = split_ids(f[19], "hsegs", MAX_SIDS)
    others = split_ids(f[20], "the segment table", MAX_SIDS)
    sid = SidTable([*hsegs, *others]).unpack
    kind = _TYPES.get(cbor.text(f[1], "type"))
    if kind is None:
        raise Malformed("its type is neither database nor group")
    serializers = cbor.row(f[2], "serializers", 2)
    timestamp, metadata, metadata_ref = read_metadata(f.get(16), sid)
    tip = cbor.blob(f[11], "tip", limit=MAX_HEAD_BYTES)
    head = Head(
        uuid=UUID(bytes=cbor.blob(f[0], "uuid", 16)),
        type=kind,
        key_serializer=cbor.text(serializers[0], "a serializer"),
        value_serializer=cbor.text(serializers[1], "a serializer"),
        seq=cbor.uint(f[3], "seq"),
        write_id=cbor.blob(f[4], "write_id", 16),
        fence=cbor.uint(f[5], "fence"),
        proto=read_proto(f[6]),
        params=read_params(f[7]),
        branches={
            read_name(name): read_branch(value, sid)
            for name, value in cbor.mapping(f[8], "branches", MAX_NAMES).items()
        },
        tags={
            read_name(name): read_tag(value, sid)
            for name, value in cbor.mapping(f[9], "tags", MAX_NAMES).items()
        },
        trash=tuple(read_trash(item, sid) for item in cbor.rows(f[10], "trash", MAX_NAMES)),
        tip=decode_commit(tip),
        tip_root=read_optional_blob(f.get(12), "tip_root", MAX_ROOT_BYTES),
        recent=tuple(read_recent(item, sid) for item in cbor.rows(f[13], "recent", MAX_RECENT)),
        log=unpack_node(f[14], sid) if 14 in f else None,
        gc=read_gc(f[15], sid),
        metadata=metadata,
        metadata_ref=metadata_ref,
        metadata_timestamp=timestamp,
        ms=cbor.uint(f[17], "ms", U48),
        version=cbor.text(f[18], "version"),
        default_branch=read_name(f[22]),
        hsegs=tuple(hsegs),
        origins=tuple(split_ids(f[21], "origins", MAX_ORIGINS)),
        name=cbor.text(f[23], "a key", MAX_KEY_BYTES) if 23 in f else None,
        dictionaries=tuple(
            read_dictionary(item, sid)
            for item in cbor.rows(f.get(24, []), "dictionaries", MAX_LISTED_DICTIONARIES)
        ),
        encryption=read_keys(f[25]) if 25 in f else None,
        unknown=cbor.split_unknown(f, _KNOWN),
        minor=minor,
        required_bits=required,
        optional_bits=optional,
    )
    if head.default_branch not in head.branches:
        raise Malformed("its default branch does not exist")
    if head.branch.commit.id != commit_id(tip) or head.branch.commit.seq != head.tip.seq:
        raise Malformed("its tip is not the commit of its default branch")
    return head


def spill(
    recent: Sequence[Recent], *, coming: int = 0
) -> tuple[tuple[Recent, ...], tuple[Recent, ...]]:
    """Split the newest rows of the history when they no longer fit in the head.

    Args:
        recent: rows, oldest first.
        coming: how many newer ones are to stand beside those that stay.

    Returns:
        The rows that stay (with those to come at most 64), and those that go to the log (a
        multiple of 32).
    """
    moved = 0
    while len(recent) + coming - moved > MAX_RECENT:
        moved += SPILL
    return tuple(recent[moved:]), tuple(recent[:moved])


def log_key(seq: int) -> str:
    """The key of a spilled row in the log's tree: it sorts as the numbers do."""
    return f"{seq:016x}"


def encode_log_row(row: Recent) -> bytes:
    """The value of a spilled row in the log's tree."""
    return cbor.encode([row.write_id, row.seq, row.ms, row.branch, pack_commit(row.commit)])


def decode_log_row(data: bytes, key: str | None = None) -> Recent:
    """Read a row of the log's tree.

    Args:
        data: the row.
        key: the one it stood under, to be checked where it is known.

    Raises:
        RemoteIntegrityError: not a row, or not the one of this key.
    """
    try:
        row = read_recent(cbor.decode(data), read_sid)
    except Malformed as exc:
        raise RemoteIntegrityError(f"a row of the log is damaged: {exc}; run fsck") from exc
    if key is not None and log_key(row.seq) != key:
        raise RemoteIntegrityError(f"row {key} of the log belongs to seq {row.seq}; run fsck")
    return row
