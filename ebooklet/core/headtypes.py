"""What the head of a database says (FORMAT §2); `core.head` knows how it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from ebooklet.core.commit import Commit
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, CommitRef, NodeRef
from ebooklet.errors import UnsupportedFormatError

__all__ = [
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
]

DatabaseType: TypeAlias = Literal["database", "group"]

MODES: Final = ("cas", "lock")
ETAG_STYLES: Final = ("quoted", "bare")
FORBIDS_READING: Final = 1 << 31
DICTIONARIES_BIT: Final = 1 << 0  # required: a writer that drops them makes values unreadable
ENCRYPTION_BIT: Final = 1 << 1  # required: a writer that does not seal would give all away
KNOWN_REQUIRED_BITS: Final = DICTIONARIES_BIT | ENCRYPTION_BIT


@dataclass(frozen=True, slots=True)
class Proto:
    """How heads of this database are moved; fixed by the probe at creation, for all clients."""

    mode: str  # "cas" or "lock"; another one, by a newer version, makes the head read-only
    etag_style: str = "quoted"  # how If-Match wants the ETag: "quoted" or "bare"
    probed_ms: int = 0  # Unix ms
    server: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of commits and how much of it is retained."""

    commit: CommitRef
    oldest_seq: int  # commits below are no longer retained
    keep_n: int  # at least so many commits ...
    keep_ms: int  # ... and all that are younger, in ms


@dataclass(frozen=True, slots=True)
class Tag:
    """A commit that is kept under a name."""

    commit: CommitRef
    ms: int  # Unix ms
    message: str = ""


@dataclass(frozen=True, slots=True)
class Trash:
    """A dropped ref, restorable until the grace ends."""

    name: str
    commit: CommitRef
    ms: int  # Unix ms of the drop


class Recent(NamedTuple):
    """One logical write of the history."""

    write_id: bytes  # 16 bytes
    seq: int
    ms: int  # Unix ms
    branch: str
    commit: CommitRef


class DictionaryRef(NamedTuple):
    """A zstd dictionary that values were compressed with."""

    id: int  # zstd's own, which stands in each frame
    block: BlockRef


class PendingBatch(NamedTuple):
    """Segments dropped by one run of gc, deleted when the grace has passed."""

    ms: int  # Unix ms by the server's clock
    sids: BlockRef  # block of sorted 16-byte ids


@dataclass(frozen=True, slots=True)
class Gc:
    """What garbage collection remembers. `epoch` and `floor` never decrease (I2)."""

    epoch: int = 0  # seq of the head up to which gc has looked through the trees
    floor: int = 0  # Unix ms; segments minted at or before it may be deleted when unreferenced
    pending: tuple[PendingBatch, ...] = ()  # at most 8


@dataclass(frozen=True, slots=True)
class KeyTable:
    """What the head of an encrypted database says of keys."""

    vault: bytes  # 16 bytes, the same in all copies: what the cipher's keys are derived with
    key_id: str  # of the key that `digest_key` is sealed under
    digest_key: bytes  # sealed; digests of values are made with it
    checks: tuple[tuple[str, bytes], ...]  # ids that blocks may lie under; 16 bytes tell the key


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Everything the head says.

    `tip` is the commit record of the default branch (a first push of an empty database makes a
    commit too, with no root). `tip_root` is a copy of its root node that saves readers a request.
    `hsegs` names segments kept alive beyond the commits' own and those that the refs in the head
    name: the inner nodes of the log; see `held`. Names in `branches` and `tags` are the user's.
    """

    uuid: UUID
    type: DatabaseType
    key_serializer: str
    value_serializer: str
    seq: int  # +1 with every head written
    write_id: bytes  # 16 bytes, one per logical write, the same over all its attempts
    fence: int  # highest lease token that wrote
    proto: Proto
    params: TreeParams
    branches: Mapping[str, Branch]
    tip: Commit
    ms: int  # Unix ms
    version: str  # of the library that wrote it
    default_branch: str = "main"
    tags: Mapping[str, Tag] = field(default_factory=lambda: MappingProxyType({}))
    trash: tuple[Trash, ...] = ()
    tip_root: bytes | None = None  # at most 16 KiB
    recent: tuple[Recent, ...] = ()  # oldest first, at most 64
    log: NodeRef | None = None
    gc: Gc = Gc()
    metadata: bytes | None = None  # the user's, JSON, at most 64 KiB; else metadata_ref
    metadata_ref: BlockRef | None = None
    metadata_timestamp: int | None = None  # µs
    hsegs: tuple[bytes, ...] = ()
    origins: tuple[bytes, ...] = ()  # uuids accepted in segment headers, 16 bytes each
    dictionaries: tuple[DictionaryRef, ...] = ()  # oldest first, at most 16
    name: str | None = None  # key that it was created under, for servers that know it by others too
    encryption: KeyTable | None = None
    unknown: Mapping[int, bytes] = field(default_factory=lambda: MappingProxyType({}))
    minor: int = 0
    required_bits: int = 0
    optional_bits: int = 0

    @property
    def branch(self) -> Branch:
        """The default branch."""
        return self.branches[self.default_branch]

    @property
    def encrypted(self) -> bool:
        """Whether its blocks are sealed."""
        return self.params.encryption is not None

    @property
    def read_only_reason(self) -> str | None:
        """Why this version of the library must not write to the database; None if it may."""
        if unknown := self.required_bits & ~KNOWN_REQUIRED_BITS:
            return f"it needs features this version does not have (bits {unknown:#x}); upgrade"
        if self.proto.mode not in MODES or self.proto.etag_style not in ETAG_STYLES:
            return (
                f"its commit mode {self.proto.mode!r} ({self.proto.etag_style!r} ETags) is not "
                "known to this version; upgrade"
            )
        return None

    def require_writable(self, op: str, where: str, key: str) -> None:
        """Refuse what this version of the library must not do to the database.

        Args:
            op: what is to be done.
            where: the database's place, for the message.
            key: its db_key.

        Raises:
            UnsupportedFormatError: a later version wrote what this one does not know.
        """
        if reason := self.read_only_reason:
            raise UnsupportedFormatError(
                f"cannot {op}: this version can only read {where} (flag 'r'): {reason}",
                op=op,
                key=key,
            )

    def accepted_uuids(self) -> frozenset[bytes]:
        """Uuids that may stand in headers of its segments."""
        return frozenset((self.uuid.bytes, *self.origins))

    def find_write(self, write_id: bytes) -> Recent | None:
        """The row of a write among the recent ones; older rows are in the log."""
        return next((row for row in reversed(self.recent) if row.write_id == write_id), None)

    def commits(self) -> Iterator[CommitRef]:
        """Commits that branches, tags and trash name, repeats included."""
        for branch in self.branches.values():
            yield branch.commit
        for tag in self.tags.values():
            yield tag.commit
        for dropped in self.trash:
            yield dropped.commit

    def blocks(self) -> Iterator[BlockRef]:
        """Blocks the head keeps alive, repeats included; the rows of `recent` are not among them.

        Those only testify that a write happened: the commits they name may have expired.
        """
        for ref in self.commits():
            yield ref.block
        for batch in self.gc.pending:
            yield batch.sids
        if self.log is not None:
            yield self.log.block
        if self.metadata_ref is not None:
            yield self.metadata_ref
        for dictionary in self.dictionaries:
            yield dictionary.block

    def held(self) -> frozenset[bytes]:
        """Segments the head itself keeps alive: the first part of R(H) in FORMAT §8.

        To it R(H) adds, for every retained commit, its segs and the segment of its record.
        """
        return frozenset(self.hsegs).union(block.sid for block in self.blocks())
