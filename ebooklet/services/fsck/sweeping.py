"""Sweeping: deleting, under the lock, the orphans that are old enough.

An object is swept by the rule of FORMAT §8 and §9: first a head is committed whose gc floor lies at
or above the time the object was minted, and which does not need it; only then is it deleted. A
writer in the middle of a push, with or without the lock, meets that head before its own can land,
and uploads anew what it had minted below the floor. That is why nothing is swept where there is no
head to say so, however old it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ebooklet.core.advance import amended
from ebooklet.core.head import encode_head
from ebooklet.core.names import sid_ms
from ebooklet.errors import RemoteUnavailable
from ebooklet.ports.lock_service import Lease
from ebooklet.services.deleting import delete_segments
from ebooklet.services.fsck.beginning import begin
from ebooklet.services.fsck.examining import judge, look, names_of
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.heads import HeadMoved
from ebooklet.services.locking import write_lock
from ebooklet.services.place import RemotePlace
from ebooklet.services.snapshot import Snapshot

_ROUNDS: Final = 50


def sweep(
    place: RemotePlace, *, min_age_ms: int, check_objects: bool = False, lock_timeout: float
) -> FsckReport:
    """`examine` under the lock, then delete the orphans that are old enough.

    Every tree of every retained commit is walked before: a segment that one of them uses and none
    lists would otherwise count as an orphan.

    Raises:
        ReadOnlyError: the place can only be read.
        LockTimeout, LockLostError: another has, or took, the lock.
        UnsupportedFormatError: the database may not be written by this version.
        EBookletError: see `examine`; a deletion that fails leaves the rest for the next time.
    """
    found = begin(place)
    if found.snapshot is None:
        report = judge(place, found, min_age_ms, walk=False, read=False).report
        return replace(report, not_swept=_no_head(report))
    head = found.snapshot.head
    with write_lock(
        place, head.proto, fence=head.fence, timeout=lock_timeout, purpose="fsck"
    ) as lease:
        return _swept(place, lease, min_age_ms, check_objects=check_objects)


def _swept(
    place: RemotePlace, lease: Lease | None, min_age_ms: int, *, check_objects: bool
) -> FsckReport:
    for _ in range(_ROUNDS):
        found = look(place)
        report, old, *_ = judge(place, found, min_age_ms, walk=True, read=check_objects)
        snapshot = found.snapshot
        if snapshot is None:
            return replace(report, not_swept=_no_head(report))
        if why := _why_not(place, report):
            return replace(report, not_swept=why)
        floor = max(map(sid_ms, old), default=0)
        if floor > snapshot.head.gc.floor:
            try:
                _raise_floor(place, snapshot, floor, lease)
            except HeadMoved:
                continue  # whoever committed may need what was an orphan: look again
        for _ in delete_segments(place, old, lease):
            pass
        return replace(report, swept=names_of(place, old))
    raise RemoteUnavailable(
        "others commit faster than this can look: sweep again when fewer write",
        op="fsck",
        key=place.db_key,
    )


def _raise_floor(place: RemotePlace, snapshot: Snapshot, floor: int, lease: Lease | None) -> None:
    head = amended(
        snapshot.head,
        write_id=place.clock.token_bytes(16),
        ms=place.clock.now_us() // 1000,
        gc=replace(snapshot.head.gc, floor=floor),
        fence=max(snapshot.head.fence, lease.token if lease is not None else 0),
    )
    place.heads().commit(head, encode_head(head), snapshot, lease)


def _why_not(place: RemotePlace, report: FsckReport) -> str:
    if report.not_checked:
        return "the database is encrypted, and without its key nothing is known to be unneeded"
    if report.unreadable:
        return "what the database needs is not known as a whole; see `unreadable`"
    if report.damaged or report.claimed_but_missing:
        return "the database is damaged, and what seems unneeded may serve to repair it"
    if report.orphans and place.store.server_time_ms() is None:
        return (
            "this driver does not tell the server's time, so nothing is known to be old enough: "
            "sweep through another, such as boto3"
        )
    return ""


def _no_head(report: FsckReport) -> str:
    if report.db_object_exists:
        return "the head is damaged, so that nothing is known to be unneeded"
    if not report.orphans:
        return ""
    return (
        "there is no head here: a first push may be under way, or the head was lost, and rescue=True "
        "makes a new one. If neither is so, create a database here and sweep then"
    )
