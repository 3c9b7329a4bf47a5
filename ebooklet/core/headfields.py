"""The head's fields: readers check types, sizes and ranges, and raise `Malformed`."""

from __future__ import annotations

from operator import itemgetter
from typing import Final

from ebooklet.core import cbor
from ebooklet.core.cbor import U48, Malformed
from ebooklet.core.encryption import MAX_KEY_ID_BYTES, MAX_KEY_IDS
from ebooklet.core.headtypes import (
    Branch,
    DictionaryRef,
    Gc,
    KeyTable,
    PendingBatch,
    Proto,
    Recent,
    Tag,
    Trash,
)
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef
from ebooklet.core.timestamps import MAX_TIMESTAMP
from ebooklet.core.wire import UnpackSid, unpack_block, unpack_commit

MAX_METADATA_BYTES: Final = 64 * 1024  # inline; larger ones go into a block
MAX_PENDING_BATCHES: Final = 8
MAX_DICTIONARIES: Final = 16
MAX_LISTED_DICTIONARIES: Final = 2 * MAX_DICTIONARIES  # writers that race each add their own
_MAX_DICTIONARY_ID: Final = (1 << 32) - 1
MAX_NAME_BYTES: Final = 200
MAX_TARGET: Final = 1 << 24  # bytes
MAX_SALT_BYTES: Final = 16
MAX_SEALED_KEY_BYTES: Final = 256


def read_name(value: object) -> str:
    """A name of a branch or tag."""
    return cbor.text(value, "a name", MAX_NAME_BYTES)


def read_optional_blob(value: object, name: str, limit: int) -> bytes | None:
    """A byte string, or None."""
    return None if value is None else cbor.blob(value, name, limit=limit)


def read_proto(value: object) -> Proto:
    """Field 6."""
    mode, style, probed_ms, server = cbor.row(value, "proto", 4)
    return Proto(
        cbor.text(mode, "mode"),
        cbor.text(style, "etag style"),
        cbor.uint(probed_ms, "probed_ms", U48),
        cbor.text(server, "server"),
    )


def read_params(value: object) -> TreeParams:
    """Field 7."""
    leaf, inner, inline_max, digest_bytes, salt, codec, encryption = cbor.row(value, "params", 7)
    params = TreeParams(
        leaf_target=cbor.uint(leaf, "leaf target", MAX_TARGET),
        inner_target=cbor.uint(inner, "inner target", MAX_TARGET),
        inline_max=cbor.uint(inline_max, "inline_max", MAX_TARGET),
        value_digest_bytes=cbor.uint(digest_bytes, "digest length", 64),
        salt=cbor.blob(salt, "salt", limit=MAX_SALT_BYTES),
        codec=cbor.text(codec, "codec"),
        encryption=None if encryption is None else cbor.text(encryption, "encryption"),
    )
    if not (params.leaf_target and params.inner_target and params.value_digest_bytes):
        raise Malformed("a parameter of its tree is zero")
    return params


def params_row(params: TreeParams) -> list[object]:
    """Field 7, as `read_params` reads it."""
    return [
        params.leaf_target,
        params.inner_target,
        params.inline_max,
        params.value_digest_bytes,
        params.salt,
        params.codec,
        params.encryption,
    ]


def read_keys(value: object) -> KeyTable:
    """Field 25: what is said of keys."""
    vault, key_id, digest_key, checks = cbor.row(value, "encryption", 4)
    table = cbor.mapping(checks, "key ids", MAX_KEY_IDS)
    return KeyTable(
        cbor.blob(vault, "a vault", 16),
        cbor.text(key_id, "a key id", MAX_KEY_ID_BYTES),
        cbor.blob(digest_key, "a sealed key", limit=MAX_SEALED_KEY_BYTES),
        tuple(
            (cbor.text(name, "a key id", MAX_KEY_ID_BYTES), cbor.blob(check, "a check", 16))
            for name, check in sorted(table.items(), key=itemgetter(0))
        ),
    )


def read_branch(value: object, sid: UnpackSid) -> Branch:
    """One value of field 8."""
    commit, oldest_seq, keep_n, keep_ms = cbor.row(value, "a branch", 4)
    return Branch(
        unpack_commit(commit, sid),
        cbor.uint(oldest_seq, "oldest seq"),
        cbor.uint(keep_n, "keep_n"),
        cbor.uint(keep_ms, "keep_ms"),
    )


def read_tag(value: object, sid: UnpackSid) -> Tag:
    """One value of field 9."""
    commit, ms, message = cbor.row(value, "a tag", 3)
    return Tag(
        unpack_commit(commit, sid), cbor.uint(ms, "ms", U48), cbor.text(message, "message", 4096)
    )


def read_trash(value: object, sid: UnpackSid) -> Trash:
    """One row of field 10."""
    name, commit, ms = cbor.row(value, "a trash row", 3)
    return Trash(read_name(name), unpack_commit(commit, sid), cbor.uint(ms, "ms", U48))


def read_recent(value: object, sid: UnpackSid) -> Recent:
    """One row of field 13, or of the log."""
    write_id, seq, ms, branch, commit = cbor.row(value, "a recent row", 5)
    return Recent(
        cbor.blob(write_id, "write_id", 16),
        cbor.uint(seq, "seq"),
        cbor.uint(ms, "ms", U48),
        read_name(branch),
        unpack_commit(commit, sid),
    )


def read_gc(value: object, sid: UnpackSid) -> Gc:
    """Field 15."""
    epoch, floor, pending = cbor.row(value, "gc", 3)
    batches = []
    for item in cbor.rows(pending, "gc pending", MAX_PENDING_BATCHES):
        ms, sids = cbor.row(item, "a gc batch", 2)
        batches.append(PendingBatch(cbor.uint(ms, "ms", U48), unpack_block(sids, sid)))
    return Gc(cbor.uint(epoch, "epoch"), cbor.uint(floor, "floor", U48), tuple(batches))


def read_metadata(
    value: object, sid: UnpackSid
) -> tuple[int | None, bytes | None, BlockRef | None]:
    """Field 16: timestamp, inline JSON, and ref of JSON too large for the head."""
    if value is None:
        return None, None, None
    timestamp, inline, ref = cbor.row(value, "metadata", 3)
    return (
        None if timestamp is None else cbor.uint(timestamp, "metadata timestamp", MAX_TIMESTAMP),
        read_optional_blob(inline, "metadata", MAX_METADATA_BYTES),
        None if ref is None else unpack_block(ref, sid),
    )


def read_dictionary(value: object, sid: UnpackSid) -> DictionaryRef:
    """One row of field 24."""
    number, block = cbor.row(value, "a dictionary", 2)
    return DictionaryRef(
        cbor.uint(number, "dictionary id", _MAX_DICTIONARY_ID), unpack_block(block, sid)
    )
