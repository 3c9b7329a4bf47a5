"""The `state` slot of the local half: what it was last in step with, and last saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ebooklet.core import cbor
from ebooklet.core.cbor import Malformed
from ebooklet.core.digest import digest32
from ebooklet.core.refs import CommitRef
from ebooklet.core.wire import pack_commit, unpack_commit

__all__ = ["LocalState", "decode_state", "encode_state"]

_MAGIC: Final = b"EBKSTAT1"
_HASH_BYTES: Final = 32
MAX_STATE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class LocalState:
    """Where the local half stands.

    The head it was in step with is kept whole in another slot, so that a warm open, or one with
    no network, can look keys up.
    """

    uuid: UUID
    branch: str
    base: CommitRef | None  # the base commit; None before the first push or pull
    seen_seq: int  # of the newest head seen; an older one is a rewound remote
    seen_write_id: bytes | None  # of that head

    @property
    def base_seq(self) -> int:
        """Seq of the base commit; 0 without one."""
        return 0 if self.base is None else self.base.seq

    @property
    def base_commit_id(self) -> bytes | None:
        """Id of the base commit."""
        return None if self.base is None else self.base.id


def encode_state(state: LocalState) -> bytes:
    """The slot's bytes: magic, CBOR, B2(32, "ebk-stat")."""
    body = cbor.encode(
        [
            state.uuid.bytes,
            state.branch,
            None if state.base is None else pack_commit(state.base),
            state.seen_seq,
            state.seen_write_id,
        ]
    )
    return _MAGIC + body + digest32(b"ebk-stat", _MAGIC + body)


def decode_state(data: bytes | None) -> LocalState | None:
    """Read the slot; None when absent, damaged or of another version: the open reconciles."""
    if data is None or len(data) > MAX_STATE_BYTES or data[: len(_MAGIC)] != _MAGIC:
        return None
    if digest32(b"ebk-stat", data[:-_HASH_BYTES]) != data[-_HASH_BYTES:]:
        return None
    try:
        uuid, branch, base, seq, write_id = cbor.row(
            cbor.decode(data[len(_MAGIC) : -_HASH_BYTES]), "state", 5
        )
        return LocalState(
            UUID(bytes=cbor.blob(uuid, "uuid", 16)),
            cbor.text(branch, "branch"),
            None if base is None else unpack_commit(base),
            cbor.uint(seq, "seq"),
            None if write_id is None else cbor.blob(write_id, "write_id", 16),
        )
    except Malformed:
        return None
