"""Committing what is staged: what writers anywhere have laid down becomes one commit (decision 0038).

Users call it `merge`, as it takes in what came about beside the database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from itertools import chain, takewhile
from typing import Final

from ebooklet.core import merge
from ebooklet.core.entry import Entry, Place
from ebooklet.core.head import Head, Recent, decode_log_row, log_key
from ebooklet.core.index.lookup import scan
from ebooklet.core.names import segment_key, sid_ms
from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    RemoteDeleted,
    RemoteMissingError,
    StagedExpired,
    UUIDMismatchError,
)
from ebooklet.services.attempts import Outcome, PulledWrite, PushResult, carry_out, nothing_to_do
from ebooklet.services.draft import Edit
from ebooklet.services.explaining import explaining
from ebooklet.services.guards import to_be_replaced
from ebooklet.services.history import line
from ebooklet.services.hooking import asked_before_push, telling_evictions
from ebooklet.services.maintenance.minor import build_compacting
from ebooklet.services.meeting import Meeting, lay_merged
from ebooklet.services.pending import Covered
from ebooklet.services.place import place_of
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.pull import Settle, report_all
from ebooklet.services.push import told_hooks
from ebooklet.services.readiness import check_ready
from ebooklet.services.resolving import Answer, Merged, has_rules
from ebooklet.services.rewriting import moved
from ebooklet.services.settling import settle_pulled
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.staging.meetings import StagedMeetings
from ebooklet.services.staging.result import Staged, StagedSegment
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.push")

# The table of segments is to stay short, as it is in every head. Beyond these rows, what lies in more
# of them is laid together, at the price of reading and sending it once more.
_FEW_ROWS: Final = 64
_MOST_ROWS: Final = 1024  # of large ones
_LARGE_SEGMENT: Final = 1 << 20  # bytes


def commit_staged(
    copy: WorkingCopy,
    results: Sequence[Staged],
    *,
    message: str = "",
    conflict: ConflictPolicy | None = None,
) -> PushResult:
    """Commit what staged writers have laid down, in one atomic step.

    Of results that set or delete one key, the last-named decides. What is pending on this handle
    stays so. Results that were merged before, together, are not merged again, in whatever order.

    Args:
        copy: the working copy, writable.
        results: of the writers, which may have been forked from different states.
        message: of the commit, at most 4 KiB of UTF-8.
        conflict: what to do with keys that others have changed since their writer was forked;
            None uses the handle's own.

    Raises:
        ConflictError: others have changed keys since; nothing was committed.
        StagedExpired: what was staged is not there any more; nothing was committed.
        UUIDMismatchError: something was staged for another database.
        ReplaceConflict: the next push is to replace the whole database.
        Exception: what a hook raised before the commit, as for a push; nothing was committed.
        EBookletError: see `push`. The results can be merged again.
    """
    check_ready(copy, "merge", message, conflict)
    for each in results:
        _check_fits(copy, each)
    if not any(each.n_set or each.n_deleted for each in results):
        return nothing_to_do(copy.base)
    with telling_evictions(copy) as failures:
        result = carry_out(
            copy,
            lambda: StagedCommit(copy, results, message, conflict or copy.settings.conflict),
            before=lambda: asked_before_push(copy, message),
        )
    return told_hooks(copy, result, failures)


def _check_fits(copy: WorkingCopy, staged: Staged) -> None:
    if staged.uuid != copy.uuid or staged.serializer != copy.settings.value_serializer:
        raise UUIDMismatchError(
            f"what was staged for the database {staged.uuid} cannot be merged into {copy.uuid}; "
            "nothing was changed. Merge it into the one that was forked",
            op="merge",
            key=copy.db_key,
        )


class StagedCommit(PulledWrite):
    """One logical write of what lies staged in the bucket.

    Its id is made of the results' own and of the branch: whoever merges them again, and be it after
    a crash, finds out that it is done (FORMAT §6 step 5).

    Args:
        copy: the working copy, writable.
        results: what is to be merged.
        message: of the commit.
        conflict: what to do with keys that others have changed.
    """

    op = "merge"
    journals = False

    def __init__(
        self,
        copy: WorkingCopy,
        results: Sequence[Staged],
        message: str,
        conflict: ConflictPolicy,
    ) -> None:
        super().__init__(copy, message, force=False, conflict=conflict)
        self.results = results
        self.write_id = _write_id("" if copy.base is None else copy.base.branch, results)
        self._anew: dict[Place, Place] = {}  # laid down anew by earlier attempts

    def _settle(self, before: Snapshot | None) -> Settle:
        copy = self.copy
        return partial(settle_pulled, copy, before=before) if has_rules(copy) else report_all

    def _forget_attempts(self) -> None:
        super()._forget_attempts()
        self._anew.clear()

    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        copy = self.copy
        if replacing:
            raise to_be_replaced("merge", copy.db_key)
        if base is None:
            raise RemoteMissingError(
                "cannot merge: there is no database here any more, so that nothing of what was "
                "staged for it is kept; push it, and stage anew",
                op="merge",
                key=copy.db_key,
            )
        done = self._find_done(base)
        if done is not None:
            stands = PushResult(updated=False, seq=done.seq, commit=done.commit.id.hex())
            return Outcome(Covered(), stands, None)
        self._check_dictionaries(base.head)
        with self._seeking():
            return self._settled(base)

    def _settled(self, base: Snapshot) -> Outcome:
        copy = self.copy
        meetings = StagedMeetings(copy, base, self.results)
        answers = meetings.answers(self.conflict)
        kept = self._kept_segments(base)
        uploader = self._uploader(base)
        counted = _Counted()
        try:
            draft = self._draft(base, base.root, uploader, self.placed)
            edits = self._edits(base, meetings, answers, kept.keys(), uploader, counted)
            first = next(edits, None)
            if first is None:
                return Outcome(Covered(), nothing_to_do(base), None)
            edits = chain((first,), edits)
            with explaining(copy):
                root = build_compacting(copy, draft, edits, base, uploader)
            self.lengths |= {sid: segment.length for sid, segment in kept.items()}
            self.segment_kinds |= {sid: segment.kind for sid, segment in kept.items()}
            head = self._next_head(base, draft, root, uploader, replacing=False)
            self._finish(uploader)
        finally:
            uploader.close()
        self.landed = self._land(head, base, draft)
        result = self._pushed(
            self.landed, uploader, n_set=counted.n_set, n_deleted=counted.n_deleted
        )
        logger.info(
            "committed %d staged results as commit %d: %d keys set, %d deleted",
            *(len(self.results), result.seq, result.n_set, result.n_deleted),
        )
        return Outcome(Covered(), result, None)

    def _metadata_fields(self, uploader: SegmentUploader) -> Mapping[str, object]:
        return {}  # what is pending of them stays pending

    # What was merged before, or cannot be

    def _find_done(self, base: Snapshot) -> Recent | None:
        """The row of the history that says that these results are merged, while it is retained.

        What is older says nothing: after a deletion the history goes on, and what it tells of is
        gone. So it is with a branch of that name that was deleted. As the row's id would say of this
        merge, too, that it has landed, it gets another one.
        """
        head, oldest = base.head, base.line.oldest_seq
        row = head.find_write(self.write_id)
        since = max(min(each.seen.seq for each in self.results), oldest)
        if row is None and head.log is not None and (not head.recent or head.recent[0].seq > since):
            older = chain.from_iterable(self.copy.log_nodes.scan(scan(head.log, log_key(since))))
            rows = (decode_log_row(entry.inline) for entry in older if entry.inline is not None)
            row = next((each for each in rows if each.write_id == self.write_id), None)
        if row is None or (row.seq >= oldest and self._led_to(base, row)):
            return row
        self.write_id = self.copy.clock.token_bytes(16)
        return None

    def _led_to(self, base: Snapshot, row: Recent) -> bool:
        """Whether a retained commit is one of those that the branch stands on."""
        if base.other is None:
            return True  # the default branch is never deleted
        newer = takewhile(lambda each: each[0].seq >= row.seq, line(self.copy, base))
        return any(ref.id == row.commit.id for ref, _ in newer)

    def _check_dictionaries(self, head: Head) -> None:
        known = {row.id for row in head.dictionaries}
        for number, each in enumerate(self.results):
            needed = each.seen.dictionary
            if (
                needed is not None
                and needed not in known
                and not self.copy.dictionaries.has(needed)
            ):
                raise self._expired(
                    number, "its values need a dictionary that the database has no more"
                )

    @contextmanager
    def _seeking(self) -> Iterator[None]:
        """Say which result is lost when a staged segment is missing."""
        try:
            yield
        except EBookletError as exc:
            missing = exc if isinstance(exc, ObjectNotFound) else exc.__cause__
            if isinstance(exc, RemoteDeleted) or not isinstance(missing, ObjectNotFound):
                raise
            for number, each in enumerate(self.results):
                names = {segment_key(self.copy.db_key, one.sid) for one in each.segments}
                if missing.key in names:
                    raise self._expired(
                        number, "what was staged is not in the bucket any more"
                    ) from exc
            raise

    def _expired(self, number: int, why: str) -> StagedExpired:
        return StagedExpired(
            f"result {number} of {len(self.results)} cannot be merged: {why}. Nothing was "
            "committed: fork the database again, run the task that gave this result once more, and "
            "merge its new result with the others",
            number=number,
            op="merge",
            key=self.copy.db_key,
        )

    # Which segments stay where they are

    def _kept_segments(self, base: Snapshot) -> dict[bytes, StagedSegment]:
        """The staged segments that the commit may name; what lies in others is laid down anew.

        That a segment is not collected, nor about to be, is certain only while no garbage was
        collected since it was minted (decision 0038).
        """
        head, n_rows = base.head, len(base.commit.segs)
        sound = [
            segment
            for each in self.results
            if self._is_sound(head, each)
            for segment in each.segments
            if sid_ms(segment.sid) > head.gc.floor
        ]
        sound.sort(key=lambda segment: segment.length, reverse=True)
        return {
            segment.sid: segment
            for number, segment in enumerate(sound[: max(0, _MOST_ROWS - n_rows)], n_rows)
            if number < _FEW_ROWS or segment.length >= _LARGE_SEGMENT
        }

    def _is_sound(self, head: Head, staged: Staged) -> bool:
        copy, seen = self.copy, staged.seen
        return (
            seen.epoch == head.gc.epoch
            and seen.key_id == copy.sealer.current
            and staged.location == place_of(copy).location
            and copy.heads.landed(head, seen.seq, seen.write_id)
        )

    # What becomes of each key

    def _edits(
        self,
        base: Snapshot,
        meetings: StagedMeetings,
        answers: Mapping[str, Answer],
        kept: Set[bytes],
        uploader: SegmentUploader,
        counted: _Counted,
    ) -> Iterator[Edit]:
        """The edits of the index, in key order; values that may not stay where they lie are moved."""
        floor = base.head.gc.floor
        named = {row.sid for row in base.commit.segs}
        staged = {segment.sid for each in self.results for segment in each.segments}
        for part in meetings.parts():
            edits: list[Edit] = []
            for met in part:
                entry = self._entry(met, answers, uploader)
                if entry != met.theirs:
                    edits.append((met.key, self._placed_before(entry, floor)))
                    counted.n_set += entry is not None
                    counted.n_deleted += entry is None
            yield from self._moved(edits, staged - kept - named, uploader)

    def _entry(
        self, met: Meeting, answers: Mapping[str, Answer], uploader: SegmentUploader
    ) -> Entry | None:
        """What the key is to be."""
        ours, theirs, verdict = met.ours, met.theirs, met.verdict
        if verdict is merge.Verdict.CONFLICT:
            answer = answers[met.key]
            if isinstance(answer, Merged):
                return lay_merged(self.copy, met.key, answer.value, uploader)
            if answer == "theirs":
                return theirs
        elif verdict is merge.Verdict.DROP:
            return theirs
        if ours is not None and theirs is not None and ours.digest == theirs.digest:
            return theirs._replace(timestamp=ours.timestamp)
        return ours

    def _placed_before(self, entry: Entry | None, floor: int) -> Entry | None:
        if entry is None or entry.place is None:
            return entry
        place = self._anew.get(entry.place)
        if place is None or sid_ms(place.sid) <= floor:
            return entry
        return entry._replace(place=place)

    def _moved(
        self, edits: Sequence[Edit], unsafe: Set[bytes], uploader: SegmentUploader
    ) -> Iterator[Edit]:
        entries = [entry for _, entry in edits if entry is not None]
        laid = moved(self.copy, entries, lambda place: place.sid in unsafe, uploader)
        for key, entry in edits:
            if entry is None:
                yield key, None
                continue
            new = next(laid)
            if new.place is not None and entry.place is not None and new.place != entry.place:
                self._anew[entry.place] = new.place
            yield key, new


class _Counted:
    """What a merge changes."""

    def __init__(self) -> None:
        self.n_set = 0
        self.n_deleted = 0


def _write_id(branch: str, results: Iterable[Staged]) -> bytes:
    """The same for the same results, in whatever order, merged into the same branch (0047)."""
    named = b"".join((*sorted({each.id for each in results}), branch.encode()))
    return blake2b(named, digest_size=16, person=b"ebk-merge").digest()
