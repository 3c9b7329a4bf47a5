"""Planning a garbage collection: what one head retains, and what nothing needs any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ebooklet.core.head import Branch, Head, PendingBatch
from ebooklet.core.keeping import Keep
from ebooklet.core.names import MAX_MS, segment_key, sid_ms
from ebooklet.core.refs import CommitRef
from ebooklet.core.retention import RetainedSegments
from ebooklet.errors import (
    EBookletError,
    ObjectNotFound,
    RemoteIntegrityError,
    RemoteMissingError,
)
from ebooklet.services.fsck.examining import Found
from ebooklet.services.guards import nothing_pushed
from ebooklet.services.maintenance.lineage import Lineage
from ebooklet.services.maintenance.verifying import UsedSegments
from ebooklet.services.place import RemotePlace
from ebooklet.services.retained import HistoryReader, read_batch
from ebooklet.services.snapshot import Snapshot

_DAMAGE: Final = (RemoteIntegrityError, ObjectNotFound)


class Batch(NamedTuple):
    """Segments that were dropped together."""

    row: PendingBatch
    sids: tuple[bytes, ...]
    due: bool  # their grace has passed


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about one head."""

    snapshot: Snapshot  # that was looked at
    after: Head  # the same with what is too old no longer retained
    n_before: int  # commits retained
    n_after: int
    dropped: tuple[bytes, ...]  # needed before, and not afterwards
    batches: tuple[Batch, ...]
    finished: tuple[bytes, ...]  # of due batches, and needed by nothing
    orphans: tuple[bytes, ...]  # never needed by any head, and old enough
    floor: int  # of gc, from then on
    now_ms: int  # by the server's clock
    left: str = ""  # why no more is done


class _Still(NamedTuple):
    """What a head needs that retains no more than another."""

    sids: frozenset[bytes]
    n_commits: int  # that it retains
    unread: list[CommitRef]  # those of them that may need anything


class _Needs:
    """What one head needs, and what another would that retains no more than this one."""

    def __init__(self, place: RemotePlace, head: Head) -> None:
        self._place = place
        self._epoch = head.gc.epoch
        history = HistoryReader(place.store, place.db_key, head, place.keyring.sealer_of(head))
        self._trees = UsedSegments(history.nodes)
        self.lineage = Lineage(history.times)
        segments = RetainedSegments(head)
        for ref, commit in history.commits():
            self.lineage.add(ref, commit)
            segments.add(ref, commit)
        for ref in history.unread:
            self.lineage.add_unread(ref)
            segments.hold((ref.block.sid,))
        self.unread = history.unread
        self._log = history.log_segments()
        segments.hold(self._log)
        for problem in history.problems:
            if problem not in history.unread.values() or not isinstance(problem, _DAMAGE):
                raise problem
        self._require(UsedSegments(history.log_nodes).unlisted(head.log, head.held()), "the log")
        self.before = frozenset(segments.sizes)

    def still(self, after: Head) -> _Still:
        """What `after` needs.

        Only what stays is verified: a segment that a tree of an expiring commit uses, and its table
        leaves out, is needed by nothing that stays, or listed there (decision 0039).
        """
        sids, n_commits = {*after.held(), *self._log}, 0
        unread: list[CommitRef] = []
        for row in self.lineage.retained(after):
            n_commits += 1
            sids |= {row.ref.block.sid, *row.listed}
            if not row.read:
                unread.append(row.ref)
            elif row.ref.seq >= self._epoch:  # the last collection looked through those before
                self._require(self._trees.unlisted(row.root, row.listed), f"commit {row.ref.seq}")
        return _Still(frozenset(sids), n_commits, unread)

    def _require(self, unlisted: Collection[bytes], owner: str) -> None:
        if unlisted:
            raise RemoteIntegrityError(
                f"{owner} uses {len(unlisted)} segments that it does not list; run fsck, which "
                "repairs the newest commit, and let older ones expire",
                op="gc",
                key=segment_key(self._place.db_key, min(unlisted)),
            )


@dataclass(frozen=True, slots=True)
class Rules:
    """How long things are kept."""

    grace_ms: int  # what is dropped stays so long, and an orphan has to be so old
    branch: str = ""  # of which ...
    keep: Keep | None = None  # ... so much is retained from now on; None: as the head says


def plan_collection(place: RemotePlace, found: Found, rules: Rules) -> Plan | str:
    """Work out what may be dropped and deleted; or say why nothing may.

    Args:
        place: of the database.
        found: the objects there are, and then the head.
        rules: how long things are kept.

    Raises:
        RemoteMissingError: there is no database.
        UnsupportedFormatError: this version may not write to it.
        EBookletError: a request failed.
    """
    snapshot = found.snapshot
    if snapshot is None:
        if found.damage:
            raise RemoteMissingError(found.damage, op="gc", key=place.db_key)
        raise nothing_pushed("gc", place.location, place.db_key)
    head = snapshot.head
    head.require_writable("gc", place.location, place.db_key)
    now = place.store.server_time_ms()
    if now is None:
        return (
            "this driver does not tell the server's time, so nothing is known to be old enough: "
            "collect through another, such as boto3"
        )
    oldest = now - rules.grace_ms
    try:
        needs = _Needs(place, head)
        # With no grace all are due: two answers may tell times that go back by a moment.
        batches = tuple(_batches(place, head, oldest if rules.grace_ms else MAX_MS))
        after = replace(
            head,
            branches=needs.lineage.aged(_ruled(head.branches, rules), now),
            trash=tuple(row for row in head.trash if row.ms > oldest),
        )
        still = needs.still(after)
        if still.unread:
            after, still = head, needs.still(head)
    except RemoteIntegrityError as exc:
        return f"what the database needs is not known as a whole: {exc}"
    except ObjectNotFound as exc:
        return f"what the database needs is not there: {exc}; run fsck"
    readable = still.sids - {ref.block.sid for ref in still.unread}
    if missing := _missing(place, readable - found.listed.keys()):
        return f"{len(missing)} segments that are needed are missing, as {missing[0]}; run fsck"
    waiting = {sid for batch in batches for sid in batch.sids}
    # The segments that the batches are written in were never any commit's: they end as orphans.
    own = {batch.row.sids.sid for batch in batches}
    dropped = needs.before - still.sids - own
    unknown = found.listed.keys() - needs.before - waiting
    if still.unread:
        unknown = set()
    orphans = {sid for sid in unknown if sid_ms(sid) <= max(head.gc.floor, oldest)}
    floor = max((head.gc.floor, *map(sid_ms, orphans)))
    if needs.unread:  # what only these needed is among the orphans, and has its grace as well
        dropped, orphans = dropped | orphans, set()
    return Plan(
        snapshot=snapshot,
        after=after,
        n_before=len(needs.lineage),
        n_after=still.n_commits,
        dropped=tuple(sorted(dropped)),
        batches=batches,
        finished=tuple(
            sid for batch in batches if batch.due for sid in batch.sids if sid not in needs.before
        ),
        orphans=tuple(sorted(orphans)),
        floor=floor,
        now_ms=now,
        left="".join(_left(ref, needs.unread[ref], place.db_key) for ref in still.unread[:1]),
    )


def _left(ref: CommitRef, why: EBookletError, db_key: str) -> str:
    return (
        f"commit {ref.seq} ({ref.id.hex()[:12]}) is retained, and its record in "
        f"{segment_key(db_key, ref.block.sid)} cannot be read: {why.args[0]}. It may need any "
        "segment and any older commit, so that no commit was let go, and nothing deleted but what "
        "had been dropped before. Restore the object, or let go of the commit: by a smaller "
        "history=, or delete_tag or delete_branch of what names it"
    )


def _ruled(branches: Mapping[str, Branch], rules: Rules) -> Mapping[str, Branch]:
    line, keep = branches.get(rules.branch), rules.keep
    if line is None or keep is None:
        return branches
    return {**branches, rules.branch: replace(line, keep_n=keep.n, keep_ms=keep.ms)}


def _batches(place: RemotePlace, head: Head, due_ms: int) -> list[Batch]:
    return [
        Batch(row, read_batch(place.store, place.db_key, row), row.ms <= due_ms)
        for row in head.gc.pending
    ]


def _missing(place: RemotePlace, unlisted: Collection[bytes]) -> list[str]:
    """Those of the segments that are not there; a list may be behind."""
    missing = []
    for sid in sorted(unlisted):
        key = segment_key(place.db_key, sid)
        try:
            place.store.head(key)
        except ObjectNotFound:
            missing.append(key)
    return missing


__all__ = ["Batch", "Plan", "Rules", "plan_collection"]
