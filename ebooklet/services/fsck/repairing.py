"""Repairing: putting right what the rest of the bucket tells.

Two things are: a copy of the head, from the other one, and what the newest commit says of its own
size and segments, from its tree. Neither changes a key or a value. A value, a node or a record whose
segment is gone is in no other place of the bucket.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ebooklet.core.advance import LiveBytes
from ebooklet.core.commit import SegmentRow
from ebooklet.core.head import encode_head
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.names import segment_key
from ebooklet.core.segment import HEADER_BYTES, check_header
from ebooklet.errors import ObjectNotFound, RemoteUnavailable
from ebooklet.ports.lock_service import Lease
from ebooklet.services.fsck.beginning import begin
from ebooklet.services.fsck.examining import DEFAULT_MIN_AGE_MS, Found, judge, look
from ebooklet.services.fsck.recording import record
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.heads import HeadMoved
from ebooklet.services.locking import write_lock
from ebooklet.services.place import RemotePlace, place_of
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_ROUNDS: Final = 50


def repair(
    place: RemotePlace,
    *,
    min_age_ms: int,
    check_objects: bool = False,
    lock_timeout: float,
    lease: Lease | None = None,
) -> FsckReport:
    """`examine` under the lock, with every tree walked, and put right what can be.

    Args:
        place: of the database.
        min_age_ms: younger orphans count as such.
        check_objects: read every segment that is needed, too.
        lock_timeout: seconds to wait for the lock.
        lease: the write lock, if the caller holds it; otherwise it is taken.

    Returns:
        What is wrong still, and what was repaired.

    Raises:
        ReadOnlyError: the place can only be read.
        LockTimeout, LockLostError: another has, or took, the lock.
        UnsupportedFormatError: the database may not be written by this version.
        EBookletError: see `examine`; what was repaired before stays so.
    """
    found = begin(place)
    if found.snapshot is None:
        report = judge(place, found, min_age_ms, walk=False, read=False).report
        return replace(report, not_repaired=_why_not(report))
    head = found.snapshot.head
    with write_lock(
        place, head.proto, fence=head.fence, timeout=lock_timeout, purpose="fsck", held=lease
    ) as held:
        return _repaired(place, held, min_age_ms, check_objects=check_objects)


def repair_remote(copy: WorkingCopy, *, check_objects: bool = False) -> FsckReport:
    """`repair` of the remote that a working copy follows, under the lock that it holds.

    The copy meets the new head with its next push or pull, as it meets any other's.

    Raises:
        ReadOnlyError, OfflineError: the handle can only be read, or makes no requests.
        PushInProgressError: a push is under way on this handle.
        EBookletError: see `repair`.
    """
    copy.require_writable("fsck")
    copy.require_online("fsck")
    with copy.pushing("fsck"):
        if copy.lease is not None:
            copy.lease.check()
        return repair(
            place_of(copy),
            min_age_ms=DEFAULT_MIN_AGE_MS,
            check_objects=check_objects,
            lock_timeout=copy.lock_timeout,
            lease=copy.lease,
        )


def _repaired(
    place: RemotePlace, lease: Lease | None, min_age_ms: int, *, check_objects: bool
) -> FsckReport:
    done: list[str] = []
    if lease is not None:
        mended = place.heads().copies.mend(lease)
        done += (f"{key} was written anew from the other copy of the head" for key in mended)
    corrected = False
    for _ in range(_ROUNDS):
        found = look(place)
        report, _, tally, rows = judge(place, found, min_age_ms, walk=True, read=check_objects)
        if found.snapshot is None or tally is None or not report.counters or corrected:
            return replace(report, repaired=tuple(done), not_repaired=_why_not(report))
        try:
            _correct(place, found.snapshot, table_of(place, found, rows, tally), tally, lease)
        except HeadMoved:
            continue  # whoever committed may have corrected it, or counted on
        except ObjectNotFound:  # a segment that is used, not listed and not there
            return replace(report, repaired=tuple(done), not_repaired=_why_not(report))
        corrected = True
        done += (f"commit {report.seq}: {what}; corrected" for what in report.counters)
    raise RemoteUnavailable(
        "others commit faster than this can look: repair again when fewer write",
        op="fsck",
        key=place.db_key,
    )


def _correct(
    place: RemotePlace,
    snapshot: Snapshot,
    table: tuple[SegmentRow, ...],
    tally: LiveBytes,
    lease: Lease | None,
) -> None:
    """Commit the same content with counters that are so."""
    head, tip = snapshot.head, snapshot.head.tip
    write_id = place.clock.token_bytes(16)
    commit = replace(
        tip,
        seq=head.seq + 1,
        parents=(head.branch.commit.id,),
        ms=place.clock.now_us() // 1000,
        author="",
        message="what the last commit said of its size and segments, corrected by fsck",
        value_bytes=tally.value_bytes,
        segs=table,
        fingerprint=fingerprint(head.params, tip.root),
        op="repair",
        write_id=write_id,
        notes=None,
    )
    sealer = place.keyring.sealer_of(head)
    new = record(place, head, commit, head.recent, sealer, lease)
    place.heads().commit(new, encode_head(new), snapshot, lease)


def table_of(
    place: RemotePlace, found: Found, rows: tuple[SegmentRow, ...], tally: LiveBytes
) -> tuple[SegmentRow, ...]:
    """The table of the segments that a tree uses.

    Args:
        place: of the database.
        found: what is there.
        rows: what is known of them; what is not among these is read.
        tally: of its tree.
    """
    lengths = {row.sid: row.length for row in rows}
    kinds = {row.sid: row.kind for row in rows}
    for sid in tally.rows.keys() - lengths.keys():
        key = segment_key(place.db_key, sid)
        start = place.store.get(key, stop=HEADER_BYTES).body
        kinds[sid] = int(check_header(start, None, sid).kind)
        lengths[sid] = found.listed.get(sid) or place.store.head(key).size
    return tally.table(lengths, kinds)


def _why_not(report: FsckReport) -> str:
    if not report.db_object_exists:
        return "there is no head: rescue=True looks for commits in the segments" * bool(
            report.orphans
        )
    if not report.seq:
        return (
            "the head is damaged: restore an older version of that object, or look for commits in "
            "the segments with rescue=True"
        )
    if report.ok:
        return ""
    if report.not_checked:
        return "the database is encrypted, and without its key nothing can be counted"
    nowhere = (
        "what is missing or damaged is in no other place of the bucket: restore the objects, where "
        "the bucket keeps versions"
    )
    if report.lost_ranges:
        return (
            f"{nowhere}. Where index nodes are gone, lost keys cannot be named: go back to an older "
            "commit that is whole (db.log() lists them) by db.revert(version), and set anew what "
            "came after it"
        )
    if report.lost:
        return f"{nowhere}, or set the lost keys anew, or delete them, and push"
    return f"{nowhere}. No key of the newest commit is known to be lost"
