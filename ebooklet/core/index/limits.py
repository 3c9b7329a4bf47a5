"""What a tree may ask of a reader: bounds on parameters, node sizes and height.

Parameters and sizes come out of a bucket, so they are checked before anything is allocated.
"""

from __future__ import annotations

from typing import Final

from ebooklet.core.params import AES_256_GCM, TreeParams
from ebooklet.core.sealing import MAX_OVERHEAD
from ebooklet.errors import UnsupportedFormatError

MAX_KEY_BYTES: Final = 65_535  # what the u16 length column holds
MAX_VALUE_BYTES: Final = (1 << 32) - 1  # no Booklet holds more in one; nor is more asked for
MAX_LEVEL: Final = 40  # every node but the last of a level has two items, so 2^40 nodes at least
LEAF_BASE: Final = 24  # weight of a leaf entry beside its key, bytes (FORMAT §3)
INNER_BASE: Final = 64  # weight of an inner entry beside its key, bytes
_MIN_TARGET: Final = 64
_MAX_TARGET: Final = 1 << 20
_MAX_INLINE: Final = 1 << 16
_MAX_SALT: Final = 16  # what BLAKE2b takes
_FIXED_BYTES: Final = 40  # fixed-width columns of one entry, rounded up
_REF_BYTES: Final = 16 + 32  # a segment id and a digest, at most, per entry


def check_params(params: TreeParams) -> TreeParams:
    """Return `params` if this version can work with them.

    Raises:
        UnsupportedFormatError: names the parameter that is out of range.
    """
    wrong = None
    if not _MIN_TARGET <= params.leaf_target <= _MAX_TARGET:
        wrong = f"leaf_target {params.leaf_target}"
    elif not _MIN_TARGET <= params.inner_target <= _MAX_TARGET:
        wrong = f"inner_target {params.inner_target}"
    elif not 0 <= params.inline_max <= _MAX_INLINE:
        wrong = f"inline_max {params.inline_max}"
    elif not 8 <= params.value_digest_bytes <= 64:
        wrong = f"value_digest_bytes {params.value_digest_bytes}"
    elif len(params.salt) > _MAX_SALT:
        wrong = f"a salt of {len(params.salt)} bytes"
    elif params.codec != "zstd":
        wrong = f"node codec {params.codec!r}"
    elif params.encryption not in (None, AES_256_GCM):
        wrong = f"encryption {params.encryption!r}"
    if wrong is not None:
        raise UnsupportedFormatError(
            f"this version cannot use an index with {wrong}: upgrade ebooklet", op="index"
        )
    return params


def target(params: TreeParams, level: int) -> int:
    """T of the cut rule, in bytes of weight."""
    return params.leaf_target if level == 0 else params.inner_target


def base_weight(level: int) -> int:
    """Weight of one item beside its key, in bytes."""
    return LEAF_BASE if level == 0 else INNER_BASE


def max_items(params: TreeParams, level: int) -> int:
    """Most items the cut rule lets into one node: weights reach 4T, or there are two items."""
    return 4 * target(params, level) // base_weight(level) + 2


def max_columns_bytes(params: TreeParams, level: int) -> int:
    """Most bytes the columns of one node can have before compression."""
    largest = base_weight(level) + MAX_KEY_BYTES
    weight = max(4 * target(params, level), largest) + largest
    items = max_items(params, level)
    inline = params.inline_max if level == 0 else 0
    return weight + items * (_FIXED_BYTES + inline)


def max_node_bytes(params: TreeParams) -> int:
    """Most bytes an encoded node can have: read no more than this for any node ref."""
    sealed = MAX_OVERHEAD if params.encryption is not None else 0
    return sealed + max(
        2048 + max_items(params, level) * (_REF_BYTES + 32) + columns + columns // 64
        for level in (0, 1)
        for columns in (max_columns_bytes(params, level),)
    )
