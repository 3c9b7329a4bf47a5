"""How the base is written down beside the local file: the head, and the branch it was seen from.

The default branch needs no more than the head's own bytes. For another one they stand in a frame
with its name and the record of its tip, so that both are remembered in one step:
`EBKBASE1` | CBOR [branch, commit record, head].
"""

from __future__ import annotations

from typing import Final

from ebooklet.core import cbor
from ebooklet.core.commit import MAX_COMMIT_BYTES, decode_commit, encode_commit
from ebooklet.core.head import MAX_HEAD_BYTES, decode_head
from ebooklet.core.headfields import read_name
from ebooklet.services.refs import find_branch
from ebooklet.services.snapshot import Snapshot

_MAGIC: Final = b"EBKBASE1"


def encode_base(snapshot: Snapshot) -> bytes:
    """The bytes to remember a snapshot by."""
    if snapshot.other is None:
        return snapshot.data
    return _MAGIC + cbor.encode([snapshot.other, encode_commit(snapshot.commit), snapshot.data])


def decode_base(data: bytes, location: str) -> Snapshot:
    """The snapshot that was remembered, its ETag unknown.

    Args:
        data: as `encode_base` made it.
        location: where it was, for messages.

    Raises:
        EBookletError: it is damaged, or a newer version wrote it.
        Malformed: likewise.
    """
    if not data.startswith(_MAGIC):
        return Snapshot(decode_head(data, key=location), data, "")
    fields = cbor.row(cbor.decode(data[len(_MAGIC) :]), "a base", 3)
    name = read_name(fields[0])
    head_data = cbor.blob(fields[2], "a head", limit=MAX_HEAD_BYTES)
    head = decode_head(head_data, key=location)
    ref = find_branch(head, name, location).commit
    record = decode_commit(cbor.blob(fields[1], "a record", limit=MAX_COMMIT_BYTES), ref.id)
    return Snapshot(head, head_data, "", name, record)
