"""Finding, in the segments themselves, what only the head would name: commits and dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ebooklet.core.commit import MAX_COMMIT_BYTES, commit_id, decode_commit
from ebooklet.core.descent import FoundCommit
from ebooklet.core.dictionaries import MAX_DICTIONARY_BYTES, id_of
from ebooklet.core.head import DictionaryRef
from ebooklet.core.names import segment_key
from ebooklet.core.refs import BlockRef, CommitRef
from ebooklet.core.segment import BlockType, check_block
from ebooklet.errors import EBookletError, ObjectNotFound, RemoteIntegrityError
from ebooklet.ports.remote_store import ByteRange
from ebooklet.services.fsck.auditing import read_ends
from ebooklet.services.parts import checked
from ebooklet.services.place import RemotePlace

_BATCH: Final = 256
_LIMITS: Final[Mapping[int, int]] = {
    BlockType.COMMIT: MAX_COMMIT_BYTES,
    BlockType.DICTIONARY: MAX_DICTIONARY_BYTES,
}


@dataclass(slots=True)
class Records:
    """What the segments of a place hold.

    Attributes:
        commits: by their ids.
        dictionaries: those in the clear, with the uuid of the segment, oldest first.
        uuids: of the segments.
        unreadable: names of segments whose ends tell nothing, and why.
    """

    commits: dict[bytes, FoundCommit] = field(default_factory=dict)
    dictionaries: list[tuple[bytes, DictionaryRef]] = field(default_factory=list)
    uuids: dict[bytes, bytes] = field(default_factory=dict)  # sid -> uuid
    unreadable: dict[str, str] = field(default_factory=dict)


def find_records(place: RemotePlace, listed: Mapping[bytes, int]) -> Records:
    """Read the ends of every segment, and the records that they name.

    Args:
        place: whose segments.
        listed: sid and bytes of each.

    Raises:
        RemoteUnavailable, AccessDenied: they could not be read at all.
    """
    found = Records()
    wanted: list[tuple[bytes, int, BlockRef]] = []
    for sid, ends in read_ends(place.store, place.db_key, sorted(listed.items())):
        if isinstance(ends, EBookletError):
            found.unreadable[segment_key(place.db_key, sid)] = str(ends.args[0])
            continue
        found.uuids[sid] = ends.uuid
        wanted += (
            (ends.uuid, run.type, BlockRef(sid, run.offset, run.length, run.crc))
            for run in ends.runs
            if run.length <= _LIMITS.get(run.type, 0)
        )
    for uuid, type_, block, data in _read(place, wanted, found):
        if type_ == BlockType.COMMIT:
            try:
                commit = decode_commit(data)
            except RemoteIntegrityError as exc:
                found.unreadable[segment_key(place.db_key, block.sid)] = str(exc.args[0])
                continue
            ref = CommitRef(block, commit_id(data), commit.seq)
            found.commits[ref.id] = FoundCommit(ref, commit, uuid)
        elif number := id_of(data):
            found.dictionaries.append((uuid, DictionaryRef(number, block)))
    return found


def _read(
    place: RemotePlace, wanted: list[tuple[bytes, int, BlockRef]], found: Records
) -> Iterator[tuple[bytes, int, BlockRef, bytes]]:
    for at in range(0, len(wanted), _BATCH):
        batch = wanted[at : at + _BATCH]
        parts = [
            ByteRange(
                segment_key(place.db_key, block.sid), block.offset, block.offset + block.length
            )
            for _, _, block in batch
        ]
        bodies = place.store.get_ranges(parts)
        for (uuid, type_, block), part, body in zip(batch, parts, bodies, strict=True):

            def check(data: bytes, block: BlockRef = block, key: str = part.key) -> bytes:
                check_block(data, block, key)
                return data

            try:
                yield uuid, type_, block, checked(place.store, part, body, check)
            except (RemoteIntegrityError, ObjectNotFound) as exc:
                found.unreadable[part.key] = str(exc.args[0])
