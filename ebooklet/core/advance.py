"""What the next commit and the next head say, given the last ones (FORMAT §2, §6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from ebooklet.core.commit import Commit, SegmentRow
from ebooklet.core.entry import Entry
from ebooklet.core.head import Branch, DatabaseType, Gc, Head, Proto, Recent, spill
from ebooklet.core.keeping import Keep
from ebooklet.core.params import TreeParams
from ebooklet.core.refs import BlockRef, CommitRef, NodeRef

DEFAULT_KEEP: Final = Keep(10, 30 * 24 * 3600 * 1000)
FIRST_BRANCH: Final = "main"  # of a database that is created; its default one


@dataclass(slots=True)
class LiveBytes:
    """Keeps a snapshot's segment table while a commit replaces values and nodes.

    The table names every segment that the snapshot needs: a row leaves it only when every byte
    that was counted into it has been counted out.
    """

    rows: dict[bytes, list[int]] = field(default_factory=dict)  # sid -> [length, live, kind]
    value_bytes: int = 0

    @classmethod
    def of(cls, segs: Iterable[SegmentRow], value_bytes: int) -> LiveBytes:
        """Start from the table of the commit that is being replaced."""
        return cls({row.sid: [row.length, row.live, row.kind] for row in segs}, value_bytes)

    def add_entry(self, entry: Entry) -> None:
        """Count in a key's value."""
        self.value_bytes += entry.length
        if entry.place is not None:
            self._count(entry.place.sid, entry.place.length)

    def add_entries(self, entries: Iterable[Entry]) -> None:
        """Count in the values of many keys."""
        counts: dict[bytes, int] = {}
        n_bytes = 0
        for _, length, _, _, _, place in entries:
            n_bytes += length
            if place is not None:
                sid, _, stored = place
                counts[sid] = counts.get(sid, 0) + stored
        self.value_bytes += n_bytes
        for sid, stored in counts.items():
            self._count(sid, stored)

    def drop_entry(self, entry: Entry) -> None:
        """Count out a value that was overwritten or deleted."""
        self.value_bytes -= entry.length
        if entry.place is not None:
            self._count(entry.place.sid, -entry.place.length)

    def add_node(self, block: BlockRef) -> None:
        """Count in an index node."""
        self._count(block.sid, block.length)

    def drop_node(self, block: BlockRef) -> None:
        """Count out an index node that the new tree does not use."""
        self._count(block.sid, -block.length)

    def table(
        self, lengths: Mapping[bytes, int], kinds: Mapping[bytes, int]
    ) -> tuple[SegmentRow, ...]:
        """The rows of the new commit, given the finished size and kind of each new segment."""
        return tuple(
            SegmentRow(sid, lengths.get(sid, length), live, kinds.get(sid, kind))
            for sid, (length, live, kind) in sorted(self.rows.items())
            if live > 0
        )

    def _count(self, sid: bytes, n_bytes: int) -> None:
        self.rows.setdefault(sid, [0, 0, 0])[1] += n_bytes


def next_head(
    current: Head,
    *,
    tip_ref: CommitRef,
    branch: str,
    recent: tuple[Recent, ...],
    log: NodeRef | None,
    log_sids: Iterable[bytes],
    keep: Keep | None = None,
    **changes: object,
) -> Head:
    """The head that follows `current` when a branch moves to a new commit.

    Args:
        current: the head being replaced, or the first one without a commit.
        tip_ref: where the new commit record lies.
        branch: which one moves.
        recent: the newest commits, the new one included, at most 64.
        log: root of the tree of older rows.
        log_sids: segments that hold that tree's nodes.
        keep: how much of the branch is to be retained from now on; None: as much as before.
        changes: further fields of `Head` to set; for the default branch, `tip` is one.
    """
    line = current.branches.get(branch)
    moved = (
        replace(line, commit=tip_ref)
        if line
        else Branch(tip_ref, tip_ref.seq, DEFAULT_KEEP.n, DEFAULT_KEEP.ms)
    )
    if keep is not None:
        moved = replace(moved, keep_n=keep.n, keep_ms=keep.ms)
    return replace(
        current,
        branches={**current.branches, branch: moved},
        recent=recent,
        log=log,
        hsegs=tuple(sorted(log_sids)),
        **changes,  # type: ignore[arg-type]  # dataclasses.replace checks the names at run time
    )


def amended(head: Head, *, write_id: bytes, ms: int, **changes: object) -> Head:
    """The head that says something else about the same commits.

    Args:
        head: the head being replaced.
        write_id: of this write, 16 bytes.
        ms: now, Unix ms.
        changes: the fields of `Head` to set.
    """
    said = replace(head, **changes)  # type: ignore[arg-type]  # `replace` checks the names
    # The row names the commit that the write leaves: the default branch may be moved to another.
    row = Recent(write_id, head.seq + 1, ms, said.default_branch, said.branch.commit)
    kept, spilled = spill((*head.recent, row))
    return replace(
        said,
        seq=head.seq + 1,
        write_id=write_id,
        # No room: only a commit moves rows into the log. A lost answer to this write is not found
        # in the history then, and the write is repeated, which does no harm.
        recent=head.recent if spilled else kept,
    )


def as_of(head: Head, row: Recent, tip: Commit) -> Head:
    """The head as it was when `row` was its newest write, as far as a later head tells.

    What is no part of the history (tags, metadata, gc, the copy of the root node) is the later
    head's, or left out.

    Args:
        head: a later head that has the row's branch.
        row: one of its writes.
        tip: the commit that the row names.
    """
    branch = replace(head.branches[row.branch], commit=row.commit)
    is_default = row.branch == head.default_branch
    return replace(
        head,
        seq=row.seq,
        write_id=row.write_id,
        branches={**head.branches, row.branch: branch},
        tip=tip if is_default else head.tip,
        tip_root=None if is_default else head.tip_root,
        recent=tuple(other for other in head.recent if other.seq <= row.seq),
        ms=row.ms,
    )


def first_head(
    *,
    uuid: UUID,
    database_type: DatabaseType,
    key_serializer: str,
    value_serializer: str,
    proto: Proto,
    params: TreeParams,
    tip: Commit,
    name: str,
    former: Head | None = None,
) -> Head:
    """The head of a database that does not exist yet; `next_head` fills in the rest.

    After a deletion, what must never decrease goes on from the `former` head (I2): the seq, which
    `tip` brings, the fence, and the epoch and floor of gc. No commit before `tip` is retained.
    """
    return Head(
        uuid=uuid,
        type=database_type,
        key_serializer=key_serializer,
        value_serializer=value_serializer,
        seq=tip.seq,
        write_id=tip.write_id,
        fence=former.fence if former else 0,
        proto=proto,
        params=params,
        branches={},
        tip=tip,
        ms=tip.ms,
        version="",
        # To whoever staged segments before, a deletion is a collection of all that was there.
        gc=Gc(former.gc.epoch + 1, former.gc.floor) if former else Gc(),
        name=name,
    )
