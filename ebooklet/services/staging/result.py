"""What the end of a staged writer gives, and a merge takes in."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from ebooklet.core.refs import NodeRef
from ebooklet.services.staging.tables import Table


@dataclass(frozen=True, slots=True)
class StagedSegment:
    """A segment that a staged writer sent.

    Attributes:
        sid: its id.
        length: its size in bytes.
        kind: what it holds, a `SegmentKind`.
    """

    sid: bytes
    length: int
    kind: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The head that a staged writer found when it began: none of its segments is older.

    Attributes:
        seq: of the newest write in its history.
        write_id: of that write.
        epoch: of its gc, which each collection that changes the head raises.
        key_id: of the key that blocks are sealed under; None unless they are.
        dictionary: id of the dictionary that values are compressed with; None without.
    """

    seq: int
    write_id: bytes
    epoch: int
    key_id: str | None
    dictionary: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What one staged writer laid down, and no commit names yet: give it to `merge`.

    It can be pickled, and is small: the keys are in it as long as they take 64 KiB, and lie in the
    bucket beyond that. It holds no credentials and no keys of encrypted databases; what it says of
    an encrypted database is sealed.

    Attributes:
        id: of this staging, 16 bytes.
        uuid: of the database.
        n_set: keys that were set.
        n_deleted: keys that are to be deleted.
        bytes_up: bytes of the segments that were sent.
    """

    id: bytes
    uuid: UUID
    serializer: str = field(repr=False)
    location: str = field(repr=False)
    root: NodeRef | None = field(repr=False)  # of the index that the database was forked with
    seen: Seen = field(repr=False)
    segments: tuple[StagedSegment, ...] = field(repr=False)
    sets: Table = field(repr=False)
    deletes: Table = field(repr=False)

    @property
    def n_set(self) -> int:
        """Keys that were set."""
        return self.sets.count

    @property
    def n_deleted(self) -> int:
        """Keys that are to be deleted."""
        return self.deletes.count

    @property
    def bytes_up(self) -> int:
        """Bytes of the segments that were sent."""
        return sum(segment.length for segment in self.segments)

    def __repr__(self) -> str:
        return (
            f"<Staged {self.id.hex()[:12]}: {self.n_set} set, {self.n_deleted} deleted, "
            f"{self.bytes_up} bytes in {len(self.segments)} segments>"
        )
