"""Examining: what the head needs against what is there; changes nothing and takes no lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ebooklet.core.advance import LiveBytes
from ebooklet.core.commit import SegmentRow
from ebooklet.core.head import MAGIC_BYTES, Head, looks_like_head
from ebooklet.core.names import check_db_key, parse_sid, segment_key, segment_prefix, sid_ms
from ebooklet.errors import RemoteIntegrityError, UnsupportedFormatError
from ebooklet.services.fsck.checking import HeadCheck
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.place import RemotePlace
from ebooklet.services.snapshot import Snapshot

DEFAULT_MIN_AGE_MS: Final = 24 * 3600 * 1000
_LOOKS: Final = 3  # at a database that others commit to meanwhile


@dataclass(frozen=True, slots=True)
class Found:
    """What there is, and the head that says what of it is needed."""

    listed: dict[bytes, int]  # sid -> bytes
    strangers: tuple[str, ...]
    snapshot: Snapshot | None
    damage: str  # of the head


class Judgement(NamedTuple):
    """What is wrong, by what one head says."""

    report: FsckReport
    old: list[bytes]  # the orphans that are old enough to be swept
    tally: LiveBytes | None = None  # of the newest commit, where all of its tree was read
    rows: tuple[SegmentRow, ...] = ()  # of its table, as its segments themselves have it


def examine(place: RemotePlace, *, min_age_ms: int, check_objects: bool = False) -> FsckReport:
    """Compare what the head needs with what is there; changes nothing and takes no lock.

    Args:
        place: of the database.
        min_age_ms: younger orphans count as such.
        check_objects: read every segment that is needed, and compare it with its checksums and
            with what the index says of it.

    Raises:
        UnsupportedFormatError: the object in the head's place is not ours.
        UnsupportedOperation: the place cannot be listed.
        RemoteUnavailable, AccessDenied: it cannot be read.
    """
    check_db_key(place.db_key)
    for _ in range(_LOOKS):
        found = look(place)
        report = judge(place, found, min_age_ms, walk=check_objects, read=check_objects).report
        if report.ok or not _moved(place, found.snapshot):
            break  # what was missing may have been collected since the head was read
    return report


def look(place: RemotePlace) -> Found:
    """List the objects, then read the head: what is committed between the two was listed before."""
    prefix = segment_prefix(place.db_key)
    listed: dict[bytes, int] = {}
    strangers = []
    for meta in place.store.list(prefix):
        try:
            listed[parse_sid(meta.key.removeprefix(prefix))] = meta.size
        except ValueError:
            strangers.append(meta.key)
    damage = ""
    try:
        snapshot = place.heads().read()
    except RemoteIntegrityError as exc:
        snapshot, damage = None, str(exc.args[0])
    except UnsupportedFormatError as exc:
        if not listed or looks_like_head(place.store.get(place.db_key, stop=MAGIC_BYTES).body):
            raise
        raise UnsupportedFormatError(
            f"what stands at {place.location} is no head, and {len(listed)} segments of a database "
            "lie beside it. If something was written over the head, restore an older version of "
            "that object. Where there is none, delete it, and run fsck with rescue=True, or with "
            "repair=True where a second copy of the head is left",
            op="fsck",
            key=place.db_key,
        ) from exc
    return Found(listed, tuple(sorted(strangers)), snapshot, damage)


def judge(
    place: RemotePlace, found: Found, min_age_ms: int, *, walk: bool, read: bool
) -> Judgement:
    """What is wrong, by what one head says.

    Args:
        place: of the database.
        found: what is there.
        min_age_ms: younger orphans count as such.
        walk: visit every tree of every retained commit.
        read: read every segment that is needed.
    """
    if found.snapshot is None:
        listed = sorted(found.listed)
        return Judgement(
            FsckReport(
                location=place.location,
                db_object_exists=bool(found.damage),
                orphans=() if found.damage else names_of(place, listed),
                strangers=found.strangers,
                unreadable=(found.damage,) if found.damage else (),
            ),
            [],
        )
    head = found.snapshot.head
    check = HeadCheck(place, head, found.listed, walk=walk, read=read)
    check.run()
    orphans: list[bytes] = []
    if not check.unreadable:
        orphans = sorted(found.listed.keys() - check.segments.sizes.keys() - check.dropped)
    floor = _floor(place, head, min_age_ms)
    old = [sid for sid in orphans if sid_ms(sid) <= floor]
    return Judgement(
        FsckReport(
            location=place.location,
            db_object_exists=True,
            seq=head.seq,
            n_commits=check.n_commits,
            n_segments=len(check.segments.sizes),
            orphans=names_of(place, orphans),
            skipped_young=names_of(place, sorted(set(orphans).difference(old))),
            claimed_but_missing=(*check.missing_heads, *names_of(place, check.missing)),
            damaged=dict(sorted(check.damaged.items())),
            lost=tuple(sorted(check.lost)),
            lost_ranges=tuple(check.lost_ranges),
            counters=tuple(check.counters),
            behind=tuple(check.behind),
            strangers=found.strangers,
            unreadable=tuple(dict.fromkeys(check.unreadable)),
            depth="bytes" if read else "index" if walk and not check.keyless else "lengths",
            not_checked=_not_checked(check, walk=walk, read=read),
        ),
        old,
        check.tally,
        check.rows,
    )


def _not_checked(check: HeadCheck, *, walk: bool, read: bool) -> tuple[str, ...]:
    if not (check.keyless and walk):
        return ()
    trees = "which segments the index uses: it is encrypted, and no key was given"
    values = "whether values match their digests, beyond the checksums of their segments"
    return (trees, values) if read else (trees,)


def _floor(place: RemotePlace, head: Head, min_age_ms: int) -> int:
    """Up to which minting time a segment is old enough; never back, and by the server's clock."""
    now = place.store.server_time_ms()
    return head.gc.floor if now is None else max(head.gc.floor, now - min_age_ms)


def _moved(place: RemotePlace, snapshot: Snapshot | None) -> bool:
    try:
        current = place.heads().read()
    except RemoteIntegrityError:
        return False
    return (current.head.write_id if current else None) != (
        snapshot.head.write_id if snapshot else None
    )


def names_of(place: RemotePlace, sids: list[bytes]) -> tuple[str, ...]:
    """The whole keys of segments."""
    return tuple(segment_key(place.db_key, sid) for sid in sids)
