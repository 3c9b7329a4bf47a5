"""One logical write, attempted until the head has moved or somebody has to decide (FORMAT §6)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from ebooklet.core.head import Head, Proto, encode_head
from ebooklet.core.refs import NodeRef
from ebooklet.errors import (
    ConflictError,
    RemoteMissingError,
    ReplaceConflict,
)
from ebooklet.ports.hooks import HookFailure
from ebooklet.services.backoff import pause_after_race
from ebooklet.services.clashes import clashes_named
from ebooklet.services.committing import Attempt, compose_head, stored_metadata
from ebooklet.services.confirming import settle_landed
from ebooklet.services.creating import begin_anew, look_before
from ebooklet.services.dictionaries import learn
from ebooklet.services.draft import Draft
from ebooklet.services.fencing import check_fence
from ebooklet.services.founding import join
from ebooklet.services.headless import Segments
from ebooklet.services.heads import HeadMoved
from ebooklet.services.misplacing import begin_here
from ebooklet.services.pending import Covered
from ebooklet.services.placed import PlacedValues
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.pull import Settle, advance_base, report_all, report_none
from ebooklet.services.resolving import looks_at_values
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.turns import ending_turns, queue_again, take_courtesy, take_turn
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

_LOST_RACES: Final = 50
_COURTEOUS_AFTER: Final = 5  # lost races


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did. True only if something was committed and nothing failed.

    Attributes:
        updated: whether a commit happened.
        failures: key to message, for keys that could not be pushed and stay pending.
        seq: sequence number of the commit: of the new one or, where there was nothing to do, of the
            one that has it already; 0 if nothing was ever pushed.
        commit: its id in hexadecimal; "" without one.
        n_set: keys written.
        n_deleted: keys deleted. Where the whole content was replaced, by `clear()` or flag "n", all
            that there were, those that are set anew included.
        bytes_up: bytes of the new segments.
        hook_failures: hooks that raised once nothing could be stopped any more.
    """

    updated: bool
    failures: Mapping[str, str] = field(default_factory=dict)
    seq: int = 0
    commit: str = ""
    n_set: int = 0
    n_deleted: int = 0
    bytes_up: int = 0
    hook_failures: tuple[HookFailure, ...] = ()

    def __bool__(self) -> bool:
        return self.updated and not self.failures


def nothing_to_do(
    base: Snapshot | None, *, failures: Mapping[str, str] | None = None
) -> PushResult:
    """What is said where all that was asked for is in the commit that stands."""
    return PushResult(
        updated=False,
        failures={} if failures is None else failures,
        seq=0 if base is None else base.ref.seq,
        commit="" if base is None else base.ref.id.hex(),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to."""

    covered: Covered  # keys whose change is settled
    result: PushResult
    snapshot: Snapshot | None  # None when there was nothing to commit


def carry_out(
    copy: WorkingCopy, make: Callable[[], Write], *, before: Callable[[], object] = lambda: None
) -> PushResult:
    """Run one logical write, alone on this handle.

    Args:
        copy: the working copy.
        make: the write, on the base that then stands.
        before: called first.

    Raises:
        PushInProgressError: another thread writes.
        EBookletError: see `push.push`.
    """
    with copy.pushing("push"):
        before()
        with copy.base_lock, ending_turns(copy):
            write = make()
            if copy.base is not None and copy.elsewhere is None:
                return write.run()
            with clashes_named(copy.reachable_remote(), copy.db_key, copy.clock):
                return write.run()


class Write(ABC):
    """One logical write: one write id over all its attempts.

    Attributes:
        op: what its commit says it is.
        journals: whether its head write is journalled; not where nothing that is pending here is
            settled by it.
        lock_timeout: seconds to wait for a turn; None: as long as the copy waits for locks.
    """

    op = "push"
    journals = True
    lock_timeout: float | None = None

    def __init__(
        self, copy: WorkingCopy, message: str, force: bool, conflict: ConflictPolicy
    ) -> None:
        self.copy = copy
        self.message = message
        self.force = force
        self.conflict = conflict
        self.before = copy.base  # what keys that come into conflict now were based on
        self.write_id = copy.clock.token_bytes(16)
        self.placed = PlacedValues()  # uploaded by an earlier attempt
        self.lengths: dict[bytes, int] = {}  # of the segments of earlier attempts
        self.segment_kinds: dict[bytes, int] = {}
        self.merged: tuple[bytes, ...] = ()  # ids of commits that are taken in
        self._sealed_under: str | None = None  # the current key when the last attempt began
        self.metadata: tuple[bytes, int] | None = None  # as the last attempt wrote them

    def run(self) -> PushResult:
        """Try until the head has moved, or somebody has to decide."""
        copy = self.copy
        copy.sync()
        if copy.lease is not None:
            copy.lease.check()
        in_step = copy.base is not None and copy.base.etag and not copy.journal.unanswered()
        if copy.base is None:
            self._meet(*look_before(copy, force=self.force))
        elif not in_step or not copy.settings.exclusive:
            self._meet(copy.heads.read())
        learn(copy)
        with ExitStack() as courtesy:
            for attempt in range(_LOST_RACES):
                pause_after_race(copy.clock, attempt)
                try:
                    return self._attempt()
                except HeadMoved as moved:
                    current: Snapshot | None = moved.current
                # Outside, so that what it raises does not drag an inner exception along.
                if attempt + 1 == _COURTEOUS_AFTER and (lease := take_courtesy(copy)) is not None:
                    courtesy.callback(lease.release)
                    current = copy.heads.read()
                self._meet(current)
        raise ConflictError(
            "other writers won the race for the head every time; push again",
            op="push",
            key=copy.db_key,
        )

    def _meet(self, current: Snapshot | None, segments: Segments | None = None) -> None:
        """Take in a head that this working copy has not built on yet."""
        copy = self.copy
        if current is None:
            if copy.elsewhere is not None:
                begin_here(copy, force=self.force)
            begin_anew(copy, segments, force=self.force)
            return
        copy.stand_off(None)
        if join(copy, current):
            self._forget_attempts()  # segments of the database that is not to be
        queue_again(copy, current)
        check_fence(current, copy.lease, copy.db_key)
        settle_landed(copy, current)
        base = copy.base
        # Another branch, or a tag, is no part of what is to be replaced.
        moved = base is None or base.ref.id != current.ref.id
        if moved and copy.pending.replace and not self.force:
            raise ReplaceConflict(
                "the database is to be replaced, but another commit landed since it was opened; "
                "look at it first, or push with force_push=True",
                op="push",
                key=copy.db_key,
            )
        # What is settled before the commit is no longer pending, whatever a warning would say now.
        settle = report_none if self._settles_pending() else report_all
        advance_base(copy, current, settle, over_replacement=True)

    def _settles_pending(self) -> bool:
        """Whether conflicts of what is pending here are decided, or refused, before the commit."""
        return looks_at_values(self.copy, self.conflict)

    def _attempt(self) -> PushResult:
        copy = self.copy
        base = copy.base
        if base is not None:
            base.head.require_writable("push", copy.location, copy.db_key)
        current = copy.sealer.current
        if current != self._sealed_under:
            # The record names the keys that its snapshot lies under, and not one that was left.
            self._forget_attempts()
            self._sealed_under = current
        with copy.lock:
            copy.pending.begin_push()
            replacing, metadata = copy.pending.replace, copy.pending.metadata
        outcome: Outcome | None = None
        try:
            outcome = self._write(base, replacing=replacing, metadata=metadata)
        finally:
            with copy.lock:
                copy.pending.end_push(outcome.covered if outcome is not None else Covered())
                if outcome is not None and outcome.snapshot is not None:
                    self._moved_to(outcome.snapshot, replacing=replacing, metadata=metadata)
                    copy.journal.committed(
                        copy.pending,
                        outcome.covered,
                        outcome.snapshot,
                        proven=self._is_proof(),
                        metadata=self.metadata is not None,
                        replaced=replacing,
                    )
                elif outcome is not None:
                    done = [key for key in outcome.covered if key not in copy.pending]
                    copy.journal.stored(k for k in outcome.covered.sets if k not in copy.pending)
                    copy.journal.settled(done)
        return outcome.result

    def _forget_attempts(self) -> None:
        """Lay down anew what earlier attempts did: it is no part of what the next one writes."""
        self.placed = PlacedValues()

    @abstractmethod
    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        """Lay down what is new and move the head to it."""

    def _draft(
        self,
        base: Snapshot | None,
        root: NodeRef | None,
        uploader: SegmentUploader,
        placed: PlacedValues,
    ) -> Draft:
        """What is to be laid down over the tree of `root`, as this database stores it."""
        copy = self.copy
        return Draft(
            local=copy.local,
            nodes=copy.nodes,
            base=base,
            root=root,
            params=copy.params,
            sealer=copy.sealer,
            uploader=uploader,
            placed=placed,
        )

    def _finish(self, uploader: SegmentUploader) -> None:
        """See that all segments have arrived, and remember them for attempts that may follow."""
        uploader.finish()
        self.lengths |= uploader.lengths()
        self.segment_kinds |= uploader.segment_kinds()

    def _land(self, head: Head, base: Snapshot | None, draft: Draft) -> Snapshot:
        """Move the head to what has been laid down."""
        copy = self.copy
        take_turn(copy, self.op, timeout=self.lock_timeout)
        if copy.lease is not None and copy.lease.token > head.fence:
            head = replace(head, fence=copy.lease.token)
        if self.journals:
            copy.journal.push_started(self.write_id, head.seq)
        snapshot = copy.heads.commit(head, encode_head(head), base, copy.lease)
        copy.nodes.remember(draft.node_data)
        return snapshot

    def _pushed(
        self,
        snapshot: Snapshot,
        uploader: SegmentUploader,
        *,
        failures: Mapping[str, str] | None = None,
        n_set: int = 0,
        n_deleted: int = 0,
    ) -> PushResult:
        """What is said of a write that has landed."""
        return PushResult(
            updated=True,
            failures={} if failures is None else failures,
            seq=snapshot.head.seq,
            commit=snapshot.ref.id.hex(),
            n_set=n_set,
            n_deleted=n_deleted,
            bytes_up=uploader.bytes_sent,
        )

    def _is_proof(self) -> bool:
        """Whether an acknowledged head write is proof: in mode lock only a later read is."""
        return self._proto().mode == "cas"

    def _proto(self) -> Proto:
        proto = self.copy.proto
        if proto is None:
            raise RemoteMissingError("this database has no remote to push to", op="push")
        return proto

    def _moved_to(self, snapshot: Snapshot, *, replacing: bool, metadata: bool) -> None:
        copy = self.copy
        stored = copy.local.get_metadata()
        if metadata and stored is not None and stored == self.metadata:
            copy.pending.metadata = False
        if replacing:
            copy.pending.replace = False
        copy.set_base(snapshot)

    def _uploader(self, base: Snapshot | None, *, large: bool = False) -> SegmentUploader:
        copy = self.copy
        remote = copy.reachable_remote()
        if (known := base or copy.former) is not None:
            copy.minter.floor_ms = known.head.gc.floor

        def mint() -> bytes:
            now_ms = remote.server_time_ms() or copy.clock.now_us() // 1000
            return copy.minter.mint(now_ms, copy.clock.token_bytes(10))

        return SegmentUploader(
            remote, copy.db_key, uuid=copy.uuid, write_id=self.write_id, mint=mint, large=large
        )

    def _next_head(
        self,
        base: Snapshot | None,
        draft: Draft,
        root: NodeRef | None,
        uploader: SegmentUploader,
        *,
        replacing: bool,
    ) -> Head:
        head = compose_head(
            Attempt(
                copy=self.copy,
                base=base,
                proto=self._proto(),
                draft=draft,
                root=root,
                uploader=uploader,
                write_id=self.write_id,
                op="replace" if replacing and base is not None else self.op,
                message=self.message,
                replacing=replacing,
                metadata=self._metadata_fields(uploader),
                kept_keys=self._kept_keys(None if base is None else base.head),
                lengths=self.lengths,
                segment_kinds=self.segment_kinds,
                merged=self.merged,
            )
        )
        return head if base is None else self._following(base.head, head)

    def _following(self, last: Head, head: Head) -> Head:
        """What is to stand in the place of `last`, given all that the write says by itself."""
        return head

    def _kept_keys(self, last: Head | None) -> Sequence[str]:
        """Ids of the keys that what is kept of the last head may lie under."""
        base = self.copy.base
        if last is None or base is None:
            return ()
        return tuple({*last.tip.key_ids, *base.commit.key_ids})

    def _metadata_fields(self, uploader: SegmentUploader) -> Mapping[str, object]:
        """What the head says of the user's metadata, where that is to change."""
        copy = self.copy
        self.metadata = copy.local.get_metadata() if copy.pending.metadata else None
        return stored_metadata(self.metadata, copy.sealer, uploader)


class PulledWrite(Write):
    """A write of nothing that is pending: its commit is taken in afterwards, as by a pull.

    So its outcomes have no snapshot.

    Attributes:
        landed: the commit, once it has.
    """

    landed: Snapshot | None = None

    def run(self) -> PushResult:
        """Commit, and then bring the local half into step."""
        before = self.copy.base
        result = super().run()
        if self.landed is not None:
            advance_base(self.copy, self.landed, self._settle(before))
        return result

    def _settle(self, before: Snapshot | None) -> Settle:
        """What is done about what was written here meanwhile, and conflicts with the commit."""
        return report_all
