"""Compaction: a commit of equal content that leaves segments of which little is live (FORMAT §8).

It is made of moves, each of an entry from the place it has to a new one. A move applies only
where the old place still stands: when another commit wins the race, what lies in the segments to be
left is looked for again in that one, and a move that was made already is made again only for an
entry that has not changed since. Work and memory of a run are bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ebooklet.core.entry import Entry, Place
from ebooklet.core.names import sid_ms
from ebooklet.core.tiers import is_bloated, is_worthwhile, victims
from ebooklet.errors import EBookletError
from ebooklet.services.attempts import Outcome, Write, carry_out, nothing_to_do
from ebooklet.services.draft import Edit, Leave
from ebooklet.services.explaining import explaining
from ebooklet.services.guards import nothing_pushed, to_be_replaced
from ebooklet.services.locking import write_lock
from ebooklet.services.maintenance.leaving import find_leave
from ebooklet.services.maintenance.report import CompactionReport
from ebooklet.services.pending import Covered
from ebooklet.services.place import place_of
from ebooklet.services.placed import PlacedValues
from ebooklet.services.pull import pull
from ebooklet.services.readiness import check_ready
from ebooklet.services.rewriting import check_same_content, moved
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.turns import must_wait
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.push")

MAX_BYTES: Final = 32 * 1024 * 1024  # laid down anew by one run, but for the first segment


class Compaction(Write):
    """One compaction; `report` says what it came to."""

    op = "compact"

    def __init__(self, copy: WorkingCopy, message: str, lock_timeout: float) -> None:
        super().__init__(copy, message, force=False, conflict="ours")
        self.lock_timeout = lock_timeout
        self._moves: dict[tuple[str, Place], Place] = {}  # made by earlier attempts
        self.report = CompactionReport()

    def _forget_attempts(self) -> None:
        super()._forget_attempts()
        self._moves.clear()

    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        copy = self.copy
        if replacing:
            raise to_be_replaced(self.op, copy.db_key)
        leave = None if base is None else self._found(base)
        if base is None or leave is None:
            return Outcome(Covered(), nothing_to_do(base), None)
        uploader = self._uploader(base, large=True)
        try:
            draft = self._draft(base, base.root, uploader, PlacedValues())
            with explaining(copy):
                root = draft.build(self._edits(leave, base, uploader), leave)
            check_same_content(copy, self.op, base.root, root)
            head = self._next_head(base, draft, root, uploader, replacing=False)
            self._finish(uploader)
        finally:
            uploader.close()
        snapshot = self._land(head, base, draft)
        rows = [row for row in base.commit.segs if row.sid in leave.sids]
        self.report = CompactionReport(
            seq=head.seq,
            commit=snapshot.ref.id.hex(),
            n_segments=len(rows),
            bytes_garbage=sum(row.length - row.live for row in rows),
            bytes_up=uploader.bytes_sent,
            finished=not victims(snapshot.commit.segs, max_bytes=MAX_BYTES),
        )
        return Outcome(Covered(), self._pushed(snapshot, uploader), snapshot)

    def _found(self, base: Snapshot) -> Leave | None:
        sids = victims(base.commit.segs, max_bytes=MAX_BYTES)
        if not sids:
            return None
        with explaining(self.copy):
            leave = find_leave(self.copy.nodes, base.root, sids, max_bytes=MAX_BYTES)
        if leave is None or not is_worthwhile(base.commit.segs, leave.sids):
            return None
        return leave

    def _edits(self, leave: Leave, base: Snapshot, uploader: SegmentUploader) -> Iterator[Edit]:
        floor = base.head.gc.floor
        # What an earlier attempt laid down may have been collected meanwhile.
        again = {move: new for move, new in self._moves.items() if sid_ms(new.sid) > floor}
        to_move = {
            entry.key
            for entry in leave.entries
            if entry.place is not None and (entry.key, entry.place) not in again
        }

        def chosen(place: Place) -> bool:
            return place.sid in leave.sids

        def settled(entry: Entry) -> Entry:
            if entry.place is None or entry.key in to_move:
                return entry
            return entry._replace(place=again[entry.key, entry.place])

        for old, new in zip(
            leave.entries,
            moved(self.copy, map(settled, leave.entries), chosen, uploader),
            strict=True,
        ):
            if old.place is not None and new.place is not None and leave.moves(old):
                self._moves[old.key, old.place] = new.place
            yield new.key, new


def compact(copy: WorkingCopy, *, message: str) -> CompactionReport:
    """Pull, and lay down anew what is live in segments that are worth leaving.

    Raises:
        RemoteMissingError: nothing was pushed yet.
        ReplaceConflict: the next push is to replace the whole database.
        LockTimeout: another holds the lock.
        EBookletError: see `push`.
    """
    check_ready(copy, "compact", message)
    pull(copy)
    if copy.base is None:
        raise nothing_pushed("compact", copy.location, copy.db_key)
    return run_compaction(copy, message, lock_timeout=copy.lock_timeout)


def run_compaction(copy: WorkingCopy, message: str, *, lock_timeout: float) -> CompactionReport:
    """Compact once, under the lock.

    Raises:
        LockTimeout: another holds it.
        EBookletError: see `push`.
    """
    made: list[Compaction] = []

    def make() -> Compaction:
        made.append(Compaction(copy, message, lock_timeout))
        return made[-1]

    with _alone(copy, lock_timeout):
        carry_out(copy, make)
    return made[-1].report


def compact_after_push(copy: WorkingCopy) -> None:
    """Compact once if there is much garbage; a push neither fails over it nor waits for others."""
    base = copy.base
    if base is None or not is_bloated(base.commit.segs):
        return
    try:
        if must_wait(copy):  # or all would be laid down for nothing
            logger.info("not compacted: it is another writer's turn; the next push tries again")
            return
        report = run_compaction(copy, "", lock_timeout=0)
    except EBookletError as exc:
        logger.warning("not compacted: %s", exc)
        return
    logger.info("compacted %d segments by commit %d", report.n_segments, report.seq)


@contextmanager
def _alone(copy: WorkingCopy, timeout: float) -> Iterator[None]:
    """Keep others from compacting as well; where commits take the lock they do it themselves."""
    base = copy.base
    if copy.lease is not None or base is None or base.head.proto.mode != "cas":
        yield
        return
    with write_lock(
        place_of(copy), base.head.proto, fence=base.head.fence, timeout=timeout, purpose="compact"
    ):
        yield
