"""One hash that says whether two databases hold the same (FORMAT §3)."""

from __future__ import annotations

import struct
from typing import Final

from ebooklet.core.digest import digest32
from ebooklet.core.index.codec import EMPTY_DIGEST
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import NodeRef

_PERSON: Final = b"ebk-fp"
_FIELDS: Final = struct.Struct(">IIBB16s32sQ")


def fingerprint(params: TreeParams, root: NodeRef | None) -> bytes:
    """B2(32, "ebk-fp") of the parameters that shape the tree, its root digest and key count.

    Equal for equal keys and values under equal parameters, whatever led to them; timestamps,
    places and codec do not count.

    Returns:
        32 bytes.
    """
    digest, count = (EMPTY_DIGEST, 0) if root is None else (root.digest, root.count)
    fields = _FIELDS.pack(
        params.leaf_target,
        params.inner_target,
        params.value_digest_bytes,
        len(params.salt),
        params.salt,
        digest,
        count,
    )
    return digest32(_PERSON, fields)
