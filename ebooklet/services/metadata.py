"""The user's metadata: JSON beside the keys, invisible to them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import orjson

from ebooklet.core.head import Head
from ebooklet.core.sealing import Content, Sealer
from ebooklet.errors import RemoteIntegrityError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.parts import read_block
from ebooklet.services.working_copy import WorkingCopy

MAX_METADATA_BYTES: Final = 16 * 1024 * 1024
# What a local store is given where there are none any more: it cannot remove those that it has.
NO_METADATA: Final = (b"null", 0)


def encode_metadata(data: Any) -> bytes:
    """JSON as Booklet writes it: other keys than str become str, NaN becomes null.

    Raises:
        TypeError: JSON cannot hold it.
        ValueError: above 16 MiB.
    """
    try:
        encoded = orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as exc:
        raise TypeError(f"metadata must be something JSON can hold: {exc}") from exc
    if len(encoded) > MAX_METADATA_BYTES:
        raise ValueError(
            f"metadata may have at most {MAX_METADATA_BYTES} bytes of JSON; store more under a key"
        )
    return encoded


def decode_metadata(data: bytes) -> Any:
    """Read what `encode_metadata` wrote.

    Raises:
        RemoteIntegrityError: it is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise RemoteIntegrityError(
            "the metadata are no JSON, so nothing of ours wrote them; set them anew", op="get"
        ) from exc


def set_metadata(copy: WorkingCopy, data: Any, timestamp: int) -> None:
    """Replace the metadata locally; the next push carries them."""
    encoded = encode_metadata(data)
    with copy.lock:
        copy.require_writable("set_metadata")
        was_pending = copy.pending.metadata
        try:
            copy.pending.metadata = True
            copy.journal.metadata(pending=True)
            copy.local.set_metadata(encoded, timestamp)
        except BaseException:
            if not was_pending and not _may_be_here(copy, (encoded, timestamp)):
                copy.pending.metadata = False
                with suppress(Exception):  # then the next open takes the old ones for pending
                    copy.journal.metadata(pending=False)
            raise


def _may_be_here(copy: WorkingCopy, metadata: tuple[bytes, int]) -> bool:
    try:
        return copy.local.get_metadata() == metadata
    except Exception:  # noqa: BLE001  # another error is on its way, which says more
        return True


def get_metadata(copy: WorkingCopy, *, include_timestamp: bool) -> Any:
    """The metadata as this copy sees them: the pending ones, else the base commit's."""
    copy.require_open()
    with copy.lock:
        base = copy.base
        local = copy.pending.metadata or base is None
        stored = copy.local.get_metadata() if local else None
    if base is not None and not local:
        stored = committed_metadata(copy, base.head)
    if stored is None:
        return None
    data = decode_metadata(stored[0])
    return (data, stored[1]) if include_timestamp else data


def committed_metadata(copy: WorkingCopy, head: Head) -> tuple[bytes, int] | None:
    """The metadata of a head of this database, as JSON with its timestamp (µs)."""
    return metadata_of(copy.segments, copy.db_key, head, copy.keyring.sealer_of(head))


def take_metadata(copy: WorkingCopy, head: Head) -> None:
    """Store the metadata of a head of this database locally."""
    stored = copy.local.get_metadata()
    if head.metadata_timestamp is None or (
        stored is not None and stored[1] == head.metadata_timestamp and stored[0] == head.metadata
    ):
        return
    theirs = committed_metadata(copy, head)
    if theirs is not None and theirs != stored:
        copy.local.set_metadata(*theirs)


def metadata_of(
    remote: RemoteStore, db_key: str, head: Head, sealer: Sealer
) -> tuple[bytes, int] | None:
    """The metadata that a head holds or points to, as JSON with its timestamp (µs).

    Raises:
        RemoteIntegrityError: they are larger than may be, or do not match their digest.
        EBookletError: they cannot be fetched.
    """
    timestamp = head.metadata_timestamp or 0
    if head.metadata is not None:
        return bytes(sealer.open(Content.METADATA, head.metadata)), timestamp
    ref = head.metadata_ref
    if ref is None:
        return None
    block = read_block(remote, db_key, ref, sealer, Content.METADATA, limit=MAX_METADATA_BYTES)
    return block, timestamp
