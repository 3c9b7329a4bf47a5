"""Collecting garbage (FORMAT §8): what nothing retained needs any more is deleted, in two steps.

First a head is committed that says so: it retains no commit that is too old, notes the segments
that only those needed, and raises the floor at or below which a writer may not refer to what it has
uploaded. Only then is anything deleted, and what was noted only when its grace has passed, for the
sake of readers that still hold an older head. What is needed is told by the tables of retained
commits, never by a counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from ebooklet.core.advance import amended
from ebooklet.core.head import Gc, PendingBatch, encode_head
from ebooklet.core.headfields import MAX_PENDING_BATCHES
from ebooklet.core.minting import SidMinter
from ebooklet.core.segment import join_sids
from ebooklet.errors import EBookletError, LockLostError, RemoteUnavailable
from ebooklet.ports.lock_service import Lease
from ebooklet.services.deleting import delete_segments
from ebooklet.services.fsck.examining import look, names_of
from ebooklet.services.guards import nothing_pushed
from ebooklet.services.heads import HeadMoved
from ebooklet.services.locking import write_lock
from ebooklet.services.maintenance.planning import Batch, Plan, Rules, plan_collection
from ebooklet.services.maintenance.report import GcReport
from ebooklet.services.place import RemotePlace, place_of
from ebooklet.services.readiness import check_may_change
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

_ROUNDS: Final = 50


def gc(copy: WorkingCopy, *, dry_run: bool, grace_ms: int) -> GcReport:
    """Collect the garbage of a working copy's remote; what is pending is left alone.

    Raises:
        ReadOnlyError, OfflineError, RemoteMissingError: there is nothing this handle can collect.
        PushInProgressError: another thread pushes.
        LockTimeout, LockLostError: another has, or took, the lock.
        EBookletError: a request failed; nothing that is needed is gone.
    """
    copy.require_online("gc")
    place, base = place_of(copy), copy.base
    rules = Rules(grace_ms, "" if base is None else base.branch, copy.settings.keep)
    if dry_run:
        return would_collect(place, rules)

    def moved(old: Snapshot, new: Snapshot) -> None:
        """Stay in step with a head that says the same of the content."""
        with copy.lock:
            base = copy.base
            if base is not None and base.head.write_id == old.head.write_id:
                copy.set_base(replace(base, head=new.head, data=new.data, etag=new.etag))

    with _excluding_others(copy, place) as lease:
        return Collection(place, lease, rules, moved).run()


@contextmanager
def _excluding_others(copy: WorkingCopy, place: RemotePlace) -> Iterator[Lease | None]:
    """Let nobody else push or pull by this handle, or write to the remote under the lock."""
    check_may_change(copy, "gc")
    with copy.pushing("gc"), copy.base_lock:
        if copy.proto is None or copy.base is None:
            raise nothing_pushed("gc", copy.location, copy.db_key)
        if copy.lease is not None:
            copy.lease.check()
        with write_lock(
            place,
            copy.proto,
            fence=copy.base.head.fence,
            timeout=copy.lock_timeout,
            purpose="gc",
            held=copy.lease,
        ) as lease:
            yield lease


def would_collect(place: RemotePlace, rules: Rules) -> GcReport:
    """What a collection would do now; changes nothing and takes no lock."""
    found = look(place)
    plan = plan_collection(place, found, rules)
    if isinstance(plan, str):
        return GcReport(place.location, dry_run=True, refused=plan)
    condemned = [*plan.finished, *plan.orphans]
    if not rules.grace_ms:
        condemned += plan.dropped
    return GcReport(
        place.location,
        dry_run=True,
        seq=plan.snapshot.head.seq,
        n_commits=plan.n_after,
        n_expired=plan.n_before - plan.n_after,
        dropped=names_of(place, list(plan.dropped)),
        bytes_dropped=_size_of(plan.dropped, found.listed),
        n_waiting=sum(len(batch.sids) for batch in plan.batches if not batch.due),
        deleted=names_of(place, condemned),
        bytes_freed=_size_of(condemned, found.listed),
        left=plan.left,
    )


def _size_of(sids: Iterable[bytes], listed: Mapping[bytes, int]) -> int:
    return sum(listed.get(sid, 0) for sid in sids)


class Collection:
    """One garbage collection, under the write lock.

    Args:
        place: of the database.
        lease: the lock; None where writers take none.
        rules: how long things are kept.
        moved: told of each head that was committed: in whose place, and the new one.
    """

    def __init__(
        self,
        place: RemotePlace,
        lease: Lease | None,
        rules: Rules,
        moved: Callable[[Snapshot, Snapshot], None] = lambda *_: None,
    ) -> None:
        self._place = place
        self._lease = lease
        self._rules = rules
        self._moved = moved
        self._deleted: dict[bytes, int] = {}  # with their sizes
        self._dropped: list[bytes] = []
        self._bytes_dropped = 0
        self._n_expired = 0
        self._failed: list[str] = []

    def run(self) -> GcReport:
        """Collect.

        Raises:
            RemoteUnavailable: others commit too fast.
            EBookletError: see `gc`.
        """
        for _ in range(_ROUNDS):
            found = look(self._place)
            plan = plan_collection(self._place, found, self._rules)
            if isinstance(plan, str):
                return GcReport(self._place.location, refused=plan, failed=tuple(self._failed))
            done = self._delete(plan.finished, found.listed)
            batches = [batch for batch in plan.batches if not (batch.due and done)]
            try:
                snapshot = self._commit(plan, batches)
            except HeadMoved:
                continue  # whoever committed may need what was an orphan: look again
            self._dropped += plan.dropped
            self._bytes_dropped += _size_of(plan.dropped, found.listed)
            self._n_expired += plan.n_before - plan.n_after
            self._delete(plan.orphans, found.listed)
            if plan.dropped and not self._rules.grace_ms and not self._failed:
                continue  # their grace has passed already
            waiting = sum(len(batch.sids) for batch in batches)
            return self._report(snapshot.head.seq, plan, waiting)
        raise RemoteUnavailable(
            "others commit faster than this can look: collect again when fewer write",
            op="gc",
            key=self._place.db_key,
        )

    def _report(self, seq: int, plan: Plan, n_waiting: int) -> GcReport:
        return GcReport(
            self._place.location,
            seq=seq,
            n_commits=plan.n_after,
            n_expired=self._n_expired,
            dropped=names_of(self._place, self._dropped),
            bytes_dropped=self._bytes_dropped,
            n_waiting=n_waiting,
            deleted=names_of(self._place, list(self._deleted)),
            bytes_freed=sum(self._deleted.values()),
            failed=tuple(self._failed),
            left=plan.left,
        )

    def _commit(self, plan: Plan, batches: Sequence[Batch]) -> Snapshot:
        """Commit a head that says what is to go, unless there is nothing to say."""
        old, after = plan.snapshot, plan.after
        head = old.head
        if not plan.dropped and (len(batches), plan.floor, after) == (
            len(plan.batches),
            head.gc.floor,
            head,
        ):
            return old
        write_id = self._place.clock.token_bytes(16)
        pending = self._pending(plan, batches, write_id)
        # Unless something was left alone, all that stays has been looked through (decision 0039).
        epoch = head.gc.epoch if plan.left else head.seq + 1
        new = amended(
            after,
            write_id=write_id,
            ms=self._place.clock.now_us() // 1000,
            gc=Gc(epoch, plan.floor, pending),
            fence=max(head.fence, self._lease.token if self._lease is not None else 0),
        )
        snapshot = self._place.heads().commit(new, encode_head(new), old, self._lease)
        self._moved(old, snapshot)
        return snapshot

    def _pending(
        self, plan: Plan, batches: Sequence[Batch], write_id: bytes
    ) -> tuple[PendingBatch, ...]:
        """What stays to be deleted later; the oldest batches become one when they are too many."""
        pending = [batch.row for batch in batches]
        if not plan.dropped:
            return tuple(pending)
        place = self._place
        minter = SidMinter(plan.floor)
        uploader = SegmentUploader(
            place.store,
            place.db_key,
            uuid=plan.snapshot.head.uuid,
            write_id=write_id,
            mint=lambda: minter.mint(plan.now_ms, place.clock.token_bytes(10)),
        )
        try:
            if len(pending) >= MAX_PENDING_BATCHES:
                one, other = batches[:2]
                sids = uploader.add_sids(join_sids((*one.sids, *other.sids)))
                pending[:2] = [PendingBatch(max(one.row.ms, other.row.ms), sids)]
            sids = uploader.add_sids(join_sids(plan.dropped))
            pending.append(PendingBatch(plan.now_ms, sids))
            uploader.finish()
        finally:
            uploader.close()
        return tuple(pending)

    def _delete(self, sids: Sequence[bytes], listed: Mapping[bytes, int]) -> bool:
        """Delete segments; whether all are gone. What fails is left for the next time."""
        try:
            for part in delete_segments(self._place, sids, self._lease):
                self._deleted.update((sid, listed[sid]) for sid in part if sid in listed)
        except LockLostError:
            raise
        except EBookletError as exc:
            self._failed.append(str(exc))
            return False
        return True


__all__ = ["Collection", "gc", "would_collect"]
