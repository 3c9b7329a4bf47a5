"""Bytes of nodes (FORMAT §3, decisions 0001 and 0002).

Header, big-endian: version u8 = 1 | level u8 | zeros u16 | number of sids u16 | n u32 | sids × 16
bytes. Then one zstd frame of little-endian columns, then the digests, raw: they do not compress.

Leaf columns: key length u16 | value length u64 | keys | timestamp i64 | sid index u16 (0xFFFF =
inline) | gap i64 | stored length u64 | inline values. Inner columns: key length u16 | keys | sid
index u16 | gap i64 | stored length u32 | crc u32 | count u64. A gap is the offset minus the end
of the item before it: values written in key order lie back to back, so gaps are mostly zeros.
"""

from __future__ import annotations

import operator
import struct
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate, chain, islice
from typing import Final
from zlib import crc32

from ebooklet.core.digest import NODE_DIGEST_BYTES, digest32
from ebooklet.core.entry import Entry
from ebooklet.core.index.columns import Reader, compress, decompress, pack
from ebooklet.core.index.limits import (
    MAX_KEY_BYTES,
    MAX_LEVEL,
    check_params,
    max_columns_bytes,
    max_node_bytes,
)
from ebooklet.core.index.node import NO_SID, InnerNode, LeafNode, Node
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef
from ebooklet.core.sealing import PLAIN, Content, Sealer
from ebooklet.core.timestamps import MAX_TIMESTAMP
from ebooklet.errors import EncryptionError, InvalidKeyError, RemoteIntegrityError

_HEADER: Final = struct.Struct(">BBHHI")
_VERSION: Final = 1
_SID_BYTES: Final = 16
_COUNT: Final = struct.Struct(">I")
_CHILD: Final = struct.Struct(">32sQ")
_MAX_OFFSET: Final = 1 << 63
_LEAF_PERSON: Final = b"ebk-leaf"
_INNER_PERSON: Final = b"ebk-node"
EMPTY_DIGEST: Final = digest32(_LEAF_PERSON, _COUNT.pack(0))
"""Root digest of the tree with no keys."""


def encode_leaf(entries: Sequence[Entry], params: TreeParams) -> tuple[bytes, bytes]:
    """Encode entries as one leaf.

    Args:
        entries: n >= 1, strictly increasing by key.
        params: of the tree.

    Returns:
        The node's bytes, and its digest of 32 bytes.

    Raises:
        InvalidKeyError: a key does not encode, or to more than 65,535 bytes.
        ValueError: an entry that the format cannot hold.
    """
    n = len(entries)
    keys, lengths, digests, timestamps, _, places = zip(*entries, strict=True)
    key_lengths, blob = _key_columns(keys)
    raw_digests = b"".join(digests)
    if len(raw_digests) != n * params.value_digest_bytes:
        raise ValueError(f"value digests of this tree have {params.value_digest_bytes} bytes")
    ranks: dict[bytes, int] = {}
    offsets: Sequence[int]
    stored: Sequence[int]
    if None not in places:
        place_sids, offsets, stored = zip(*places, strict=True)
        inline = b""
        ranks = {sid: rank for rank, sid in enumerate(dict.fromkeys(place_sids))}
        indices = [ranks[sid] for sid in place_sids]
    else:
        indices, offsets, stored, inline = _mixed(entries, ranks)
    try:
        content = b"".join((key_lengths, pack("Q", lengths), blob))
        columns = b"".join(
            (
                content,
                pack("q", timestamps),
                pack("H", indices),
                _gaps(offsets, stored),
                pack("Q", stored),
                inline,
            )
        )
    except OverflowError as exc:
        raise ValueError("a length, offset or timestamp does not fit the index") from exc
    hasher = blake2b(_COUNT.pack(n), digest_size=NODE_DIGEST_BYTES, person=_LEAF_PERSON)
    hasher.update(content)
    hasher.update(raw_digests)
    return _assemble(0, n, ranks, columns, raw_digests, params), hasher.digest()


def _mixed(
    entries: Sequence[Entry], ranks: dict[bytes, int]
) -> tuple[list[int], list[int], list[int], bytes]:
    """Place columns of entries of which some are inline; fills the ranks of sids."""
    indices: list[int] = []
    offsets: list[int] = []
    stored: list[int] = []
    inline: list[bytes] = []
    end = 0
    for entry in entries:
        if entry.place is not None:
            sid, offset, size = entry.place
            indices.append(ranks.setdefault(sid, len(ranks)))
        elif entry.inline is not None:
            offset, size = end, len(entry.inline)
            indices.append(NO_SID)
            inline.append(entry.inline)
        else:
            raise ValueError(f"entry {entry.key!r} has neither an inline value nor a place")
        offsets.append(offset)
        stored.append(size)
        end = offset + size
    return indices, offsets, stored, b"".join(inline)


def encode_inner(
    children: Sequence[tuple[str, NodeRef]], level: int, params: TreeParams
) -> tuple[bytes, bytes]:
    """Encode children as one inner node.

    Args:
        children: n >= 1 pairs of the last key below and the node, strictly increasing.
        level: of the new node, >= 1; each child is one below.
        params: of the tree.

    Returns:
        The node's bytes, and its digest of 32 bytes.
    """
    if not 1 <= level <= MAX_LEVEL:
        raise ValueError(f"an inner node has no level {level}")
    keys, refs = zip(*children, strict=True)
    key_lengths, blob = _key_columns(keys)
    blocks = [ref.block for ref in refs]
    ranks: dict[bytes, int] = {}
    indices = [ranks.setdefault(block.sid, len(ranks)) for block in blocks]
    lengths = [block.length for block in blocks]
    columns = b"".join(
        (
            key_lengths,
            blob,
            pack("H", indices),
            _gaps([block.offset for block in blocks], lengths),
            pack("I", lengths),
            pack("I", [block.crc for block in blocks]),
            pack("Q", [ref.count for ref in refs]),
        )
    )
    digests = b"".join([ref.digest for ref in refs])
    data = _assemble(level, len(keys), ranks, columns, digests, params)
    return data, _inner_digest(level, digests, [ref.count for ref in refs])


def _key_columns(keys: Sequence[str]) -> tuple[bytes, bytes]:
    text = "".join(keys)
    try:
        blob = text.encode()
        lengths = (
            list(map(len, keys)) if len(blob) == len(text) else [len(key.encode()) for key in keys]
        )
    except UnicodeEncodeError as exc:
        raise InvalidKeyError("a key cannot be encoded as UTF-8", op="index") from exc
    if max(lengths) > MAX_KEY_BYTES:
        raise InvalidKeyError(f"a key has more than {MAX_KEY_BYTES} bytes", op="index")
    return pack("H", lengths), blob


def _gaps(offsets: Sequence[int], stored: Sequence[int]) -> bytes:
    ends = map(operator.add, offsets, stored)
    return pack("q", map(operator.sub, offsets, chain((0,), ends)))


def _assemble(
    level: int,
    n: int,
    ranks: dict[bytes, int],
    columns: bytes,
    digests: bytes,
    params: TreeParams,
) -> bytes:
    if len(columns) > max_columns_bytes(params, level):
        raise ValueError(f"a node of {n} items and {len(columns)} bytes is beyond the cut rule")
    if len(ranks) >= NO_SID:
        raise ValueError(f"a node refers to {len(ranks)} segments, more than it can hold")
    header = _HEADER.pack(_VERSION, level, 0, len(ranks), n)
    return b"".join((header, *ranks, compress(columns), digests))


def _inner_digest(level: int, digests: bytes, counts: Sequence[int]) -> bytes:
    hasher = blake2b(bytes([level]), digest_size=NODE_DIGEST_BYTES, person=_INNER_PERSON)
    for i, count in enumerate(counts):
        at = i * NODE_DIGEST_BYTES
        hasher.update(_CHILD.pack(digests[at : at + NODE_DIGEST_BYTES], count))
    return hasher.digest()


def decode_node(data: bytes, ref: NodeRef, params: TreeParams, sealer: Sealer = PLAIN) -> Node:
    """Decode a node and verify it against the ref that led to it.

    Checked: length, crc and digest; level and count; sizes before they are allocated; keys
    strictly increasing; every index and place in range.

    Args:
        data: the stored bytes.
        ref: what the parent, or the commit, says of the node.
        params: of the tree.
        sealer: opens it, where the tree is encrypted.

    Raises:
        EncryptionError: it is, and the sealer opens nothing.
        RemoteIntegrityError: the bytes are not the node that `ref` means.
        UnsupportedFormatError: this version cannot work with the parameters.
    """
    check_params(params)
    if len(data) != ref.block.length or crc32(data) != ref.block.crc:
        raise RemoteIntegrityError(
            "stored bytes of an index node do not match their checksum; run fsck", op="index"
        )
    if sealer.seals != (params.encryption is not None):
        raise EncryptionError(
            "an index node of an encrypted database cannot be read without its key: open the "
            "database with encryption=",
            op="index",
        )
    try:
        return _decode(bytes(sealer.open(Content.NODE, data)), ref, params)
    except (UnicodeDecodeError, OverflowError) as exc:
        raise _damaged("its columns do not decode") from exc


def _damaged(why: str) -> RemoteIntegrityError:
    return RemoteIntegrityError(f"an index node is damaged: {why}; run fsck", op="index")


def _decode(data: bytes, ref: NodeRef, params: TreeParams) -> Node:
    if len(data) < _HEADER.size:
        raise _damaged("it is shorter than its header")
    version, level, zeros, n_sids, n = _HEADER.unpack_from(data)
    if version != _VERSION or zeros:
        raise _damaged(f"it has the unknown version {version}")
    if level != ref.level or level > MAX_LEVEL:
        raise _damaged(f"it says level {level}, its parent {ref.level}")
    digest_size = params.value_digest_bytes if level == 0 else NODE_DIGEST_BYTES
    start = _HEADER.size + n_sids * _SID_BYTES
    end = len(data) - n * digest_size
    if n == 0 or n_sids >= NO_SID or end <= start:
        raise _damaged("its sizes do not add up")
    sids = tuple(data[at : at + _SID_BYTES] for at in range(_HEADER.size, start, _SID_BYTES))
    columns = decompress(memoryview(data)[start:end], limit=max_columns_bytes(params, level))
    if level == 0:
        return _decode_leaf(columns, data[end:], n, sids, ref, params)
    return _decode_inner(columns, data[end:], n, sids, ref, params)


def _decode_leaf(
    columns: bytes,
    digests: bytes,
    n: int,
    sids: tuple[bytes, ...],
    ref: NodeRef,
    params: TreeParams,
) -> LeafNode:
    if n != ref.count:
        raise _damaged(f"it has {n} keys, its parent says {ref.count}")
    reader = Reader(columns)
    key_lengths = reader.column("H", n)
    lengths = reader.column("Q", n)
    blob = reader.take(sum(key_lengths))
    hasher = blake2b(_COUNT.pack(n), digest_size=NODE_DIGEST_BYTES, person=_LEAF_PERSON)
    hasher.update(memoryview(columns)[: reader.at])
    hasher.update(digests)
    if hasher.digest() != ref.digest:
        raise _damaged("its content does not match its digest")
    keys = _keys(key_lengths, blob)
    timestamps = reader.column("q", n)
    if min(timestamps) < 0 or max(timestamps) > MAX_TIMESTAMP:
        raise _damaged("a timestamp is out of range")  # no local store could hold it
    index = reader.column("H", n)
    gaps = reader.column("q", n)
    stored = reader.column("Q", n)
    offsets = _offsets(gaps, stored)
    ends: list[int] | None = None
    inline = b""
    if max(index) >= len(sids):
        if any(len(sids) <= i != NO_SID for i in index):
            raise _damaged("a place lies in no segment")
        ends = list(
            accumulate(size if i == NO_SID else 0 for i, size in zip(index, stored, strict=True))
        )
        inline = bytes(reader.take(ends[-1]))
    reader.finish()
    return LeafNode(
        keys, lengths, timestamps, digests, params.value_digest_bytes, sids, index, offsets,
        stored, inline, ends,
    )  # fmt: skip


def _decode_inner(
    columns: bytes,
    digests: bytes,
    n: int,
    sids: tuple[bytes, ...],
    ref: NodeRef,
    params: TreeParams,
) -> InnerNode:
    reader = Reader(columns)
    key_lengths = reader.column("H", n)
    keys = _keys(key_lengths, reader.take(sum(key_lengths)))
    index = reader.column("H", n)
    gaps = reader.column("q", n)
    lengths = reader.column("I", n)
    crcs = reader.column("I", n)
    counts = reader.column("Q", n)
    reader.finish()
    if _inner_digest(ref.level, digests, counts) != ref.digest:
        raise _damaged("its content does not match its digest")
    if sum(counts) != ref.count or min(counts) == 0:
        raise _damaged(f"its counts do not add up to the {ref.count} keys its parent says")
    if max(index) >= len(sids):
        raise _damaged("a child lies in no segment")
    if max(lengths) > max_node_bytes(params):
        raise _damaged(f"a child of {max(lengths)} bytes is larger than any node")
    return InnerNode(
        ref.level, keys, sids, index, _offsets(gaps, lengths), lengths, crcs, counts, digests
    )


def _keys(lengths: array[int], blob: memoryview) -> tuple[str, ...]:
    ends = list(accumulate(lengths))
    starts = chain((0,), ends)
    text = str(blob, "utf-8")
    if len(text) == len(blob):
        keys = tuple([text[a:b] for a, b in zip(starts, ends, strict=False)])
    else:
        keys = tuple([str(blob[a:b], "utf-8") for a, b in zip(starts, ends, strict=False)])
    if not all(map(operator.lt, keys, islice(keys, 1, None))):
        raise _damaged("its keys are not in order")
    return keys


def _offsets(gaps: array[int], stored: array[int]) -> list[int]:
    # end i = end i-1 + gap i + stored i
    ends = list(accumulate(map(operator.add, gaps, stored)))
    offsets = list(map(operator.sub, ends, stored))
    if min(offsets) < 0 or max(ends) >= _MAX_OFFSET:
        raise _damaged("a place lies outside of any segment")
    return offsets
