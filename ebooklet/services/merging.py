"""Merging a branch: by what each side has changed since both parted (FORMAT §3, §6)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

from ebooklet.core import merge
from ebooklet.core.commit import Commit
from ebooklet.core.entry import Entry
from ebooklet.core.head import Branch, Head
from ebooklet.core.index.diff import diff
from ebooklet.core.notes import check_record
from ebooklet.core.refs import NodeRef
from ebooklet.core.sealing import DatabaseSealer
from ebooklet.errors import (
    ConflictError,
    ObjectNotFound,
    RemoteMissingError,
)
from ebooklet.services.amending import amend
from ebooklet.services.ancestry import Ancestry, ancestry
from ebooklet.services.attempts import Outcome, PulledWrite, PushResult, carry_out, nothing_to_do
from ebooklet.services.commits import read_record
from ebooklet.services.conflicts import describe
from ebooklet.services.draft import Edit
from ebooklet.services.explaining import explaining
from ebooklet.services.hooking import asked_before_push, telling_evictions
from ebooklet.services.meeting import Meeting, find_answers, lay_merged, state_of
from ebooklet.services.nodes import NodeReader
from ebooklet.services.pending import Covered
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.push import told_hooks
from ebooklet.services.readiness import check_nothing_pending, check_ready
from ebooklet.services.refs import find_branch
from ebooklet.services.resolving import Answer, Merged
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.tallying import tally
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.push")


@dataclass(frozen=True, slots=True)
class MergeResult(PushResult):
    """What merging a branch did, as of a push.

    Attributes:
        fast_forward: nothing was committed here since the branch began, so that this branch simply
            moved to the commit at the other's tip.
    """

    fast_forward: bool = False

    @classmethod
    def of(cls, done: PushResult) -> Self:
        """What was done, by a commit or by none."""
        return cls(**{each.name: getattr(done, each.name) for each in fields(done)})

    # A class made anew for its slots is not the one that the inherited method refers to.
    def __bool__(self) -> bool:
        return self.updated and not self.failures


def merge_branch(
    copy: WorkingCopy,
    name: str,
    *,
    message: str = "",
    conflict: ConflictPolicy | None = None,
) -> MergeResult:
    """Take all that another branch has into the one that is open.

    Args:
        copy: the working copy, writable.
        name: of the other branch, which stays as it is.
        message: of the commit, at most 4 KiB of UTF-8.
        conflict: what to do with keys that both have changed; None uses the handle's own.

    Raises:
        UnknownVersionError: there is no such branch.
        ValueError: it is the one that is open.
        PendingChangesError: something is pending.
        ConflictError: keys changed in both; nothing was committed.
        Exception: what a hook, or the caller's function, raised; nothing was committed.
        EBookletError: see `push`. It can be merged again.
    """
    check_ready(copy, "merge", message, conflict)
    with telling_evictions(copy) as failures:
        asked_before_push(copy, message)
        result = _moved_forward(copy, name)
        if result is None:
            policy = conflict or copy.settings.conflict
            result = MergeResult.of(carry_out(copy, lambda: _Merge(copy, name, message, policy)))
    return told_hooks(copy, result, failures)


def _moved_forward(copy: WorkingCopy, name: str) -> MergeResult | None:
    """Move the branch that is open to the other's tip, or leave it, where no commit is needed."""
    found: list[MergeResult] = []

    def amendment(current: Snapshot, sealer: DatabaseSealer) -> Mapping[str, object] | None:
        found.clear()
        check_nothing_pending(copy, "merge")
        line, record = _other(copy, current, name, sealer)
        relation = ancestry(copy, current, line, record)
        if _holds(relation, line):
            found.append(MergeResult.of(nothing_to_do(current)))
            return None
        nearest = relation.nearest
        if nearest is None or nearest.id != current.ref.id or not relation.whole:
            return None
        ref = line.commit
        nodes = NodeReader(copy.segments, copy.db_key)
        nodes.adopt(current, sealer)
        found.append(
            MergeResult(
                updated=True,
                seq=ref.seq,
                commit=ref.id.hex(),
                fast_forward=True,
                **tally(nodes, current.commit, record)._asdict(),
            )
        )
        copy.heads.know(ref, record)
        moved = replace(current.line, commit=ref)
        changed: dict[str, object] = {"branches": {**current.head.branches, current.branch: moved}}
        if current.other is None:
            changed |= {"tip": record, "tip_root": None}
        return changed

    amend(copy, "merge", amendment)
    return found[0] if found else None


class _Merge(PulledWrite):
    """The commit of what both branches have, with both tips as its parents.

    Where commits of the other branch have expired that ours would still retain, its tip is no
    parent: nobody could follow it. The next merge then goes by an older common commit, and agrees
    about all that is in both.
    """

    op = "merge"
    journals = False

    def __init__(
        self, copy: WorkingCopy, name: str, message: str, conflict: ConflictPolicy
    ) -> None:
        super().__init__(copy, message or f"merge branch {name!r}", force=False, conflict=conflict)
        self._name = name
        self._theirs: Commit | None = None

    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        copy = self.copy
        if base is None:
            raise RemoteMissingError(
                "cannot merge: there is no database here any more", op="merge", key=copy.db_key
            )
        check_nothing_pending(copy, "merge")
        line, theirs = _other(copy, base, self._name, copy.sealer)
        relation = ancestry(copy, base, line, theirs)
        if _holds(relation, line):
            return Outcome(Covered(), nothing_to_do(base), None)
        with explaining(copy):
            meetings = _meetings(copy, relation.commit, base.root, theirs.root)
        answers = _answers(copy, meetings, self.conflict, self._name)
        self._theirs = theirs
        self.merged = (line.commit.id,) if relation.whole else ()
        self.lengths |= {row.sid: row.length for row in theirs.segs}
        self.segment_kinds |= {row.sid: row.kind for row in theirs.segs}
        uploader = self._uploader(base)
        try:
            draft = self._draft(base, base.root, uploader, self.placed)
            edits = list(_edits(copy, meetings, answers, uploader))
            with explaining(copy):
                root = draft.build(edits) if edits else base.root
            head = self._next_head(base, draft, root, uploader, replacing=False)
            self._finish(uploader)
        finally:
            uploader.close()
        self.landed = self._land(head, base, draft)
        n_deleted = sum(entry is None for _, entry in edits)
        n_set = len(edits) - n_deleted
        result = self._pushed(self.landed, uploader, n_set=n_set, n_deleted=n_deleted)
        logger.info("merged branch %r as commit %d: %d keys", self._name, result.seq, len(edits))
        return Outcome(Covered(), result, None)

    def _kept_keys(self, last: Head | None) -> Sequence[str]:
        theirs = () if self._theirs is None else self._theirs.key_ids
        return tuple({*super()._kept_keys(last), *theirs})

    def _metadata_fields(self, uploader: SegmentUploader) -> Mapping[str, object]:
        return {}


def _other(
    copy: WorkingCopy, current: Snapshot, name: str, sealer: DatabaseSealer
) -> tuple[Branch, Commit]:
    """The branch that is to be merged, as the head that stands has it, and its tip."""
    line = find_branch(current.head, name, copy.db_key)
    if name == current.branch:
        raise ValueError(
            f"cannot merge {name!r} into itself: open the branch that is to take it in"
        )
    if line.commit.id == current.head.branch.commit.id:
        return line, current.head.tip
    record = read_record(copy.reachable_remote(), copy.db_key, line.commit)
    check_record(record, sealer)
    return line, record


def _holds(relation: Ancestry, line: Branch) -> bool:
    """Whether the branch that is open has all that the other one has."""
    return relation.nearest is not None and relation.nearest.id == line.commit.id


def _meetings(
    copy: WorkingCopy, parted: Commit | None, ours: NodeRef | None, theirs: NodeRef | None
) -> list[Meeting]:
    """What the other branch has changed, beside what ours has.

    Where nobody can tell any more what both started from, all that differs.
    """
    scan = copy.nodes.scan
    if parted is not None:
        try:
            here = {
                change.key: change.new
                for changes in scan(diff(parted.root, ours, times=True))
                for change in changes
            }
            return [
                _met(c.key, c.old, here.get(c.key, c.old), c.new, base_known=True)
                for changes in scan(diff(parted.root, theirs, times=True))
                for c in changes
            ]
        except ObjectNotFound:
            pass  # its record outlived its nodes
    return [
        _met(c.key, None, c.old, c.new, base_known=False)
        for changes in scan(diff(ours, theirs, times=True))
        for c in changes
    ]


def _met(
    key: str, base: Entry | None, ours: Entry | None, theirs: Entry | None, *, base_known: bool
) -> Meeting:
    moment = None if ours is None else ours.timestamp
    return Meeting(key, base, ours, theirs, base_known, moment)


def _edits(
    copy: WorkingCopy,
    meetings: Iterable[Meeting],
    answers: Mapping[str, Answer],
    uploader: SegmentUploader,
) -> Iterator[Edit]:
    """What changes in ours, in key order."""
    for met in meetings:
        verdict = met.verdict
        answer: Answer = "ours" if verdict is merge.Verdict.APPLY else "theirs"
        if verdict is merge.Verdict.CONFLICT:
            answer = answers[met.key]
        if answer == "ours" or state_of(met.ours) == state_of(met.theirs):
            continue
        if isinstance(answer, Merged):
            yield met.key, lay_merged(copy, met.key, answer.value, uploader)
        elif (
            met.ours is not None and met.theirs is not None and met.ours.digest == met.theirs.digest
        ):
            yield met.key, met.ours._replace(timestamp=met.theirs.timestamp)
        else:
            yield met.key, met.theirs


def _answers(
    copy: WorkingCopy, meetings: Iterable[Meeting], policy: ConflictPolicy, name: str
) -> dict[str, Answer]:
    """Decide all keys that are in conflict.

    Raises:
        ConflictError: some are left open.
        Exception: what a hook, or the caller's function, raised.
    """
    answers, left = find_answers(copy, meetings, policy)
    if left:
        raise ConflictError(
            f"{describe(left)} changed both here and in branch {name!r}; nothing was merged: merge "
            "with conflict='ours' to keep what is here, with conflict='theirs' to take that branch's, "
            "or with a function that decides",
            keys=left,
            op="merge",
        )
    return answers
