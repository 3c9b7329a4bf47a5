"""Comparing a remote database with the objects that are there, and sweeping what nobody needs.

An object is swept by the rule of FORMAT §8 and §9: first a head is committed whose gc floor lies at
or above the time the object was minted, and which does not need it; only then is it deleted. A
writer in the middle of a push, with or without the lock, meets that head before its own can land,
and uploads anew what it had minted below the floor. That is why nothing is swept where there is no
head to say so, however old it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ebooklet.core.advance import amended
from ebooklet.core.audit import Expectations
from ebooklet.core.head import MAX_HEAD_BYTES, Head, decode_head, encode_head
from ebooklet.core.names import (
    alternate_key,
    check_db_key,
    parse_sid,
    segment_key,
    segment_prefix,
    sid_ms,
)
from ebooklet.core.retention import RetainedSegments
from ebooklet.errors import (
    ObjectNotFound,
    ReadOnlyError,
    RemoteIntegrityError,
    RemoteUnavailable,
    UnsupportedFormatError,
)
from ebooklet.ports.lock_service import Lease
from ebooklet.services.auditing import audit_segments
from ebooklet.services.heads import HeadMoved
from ebooklet.services.locking import write_lock
from ebooklet.services.place import RemotePlace
from ebooklet.services.retained import HistoryReader
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.usage import TreeWalk

__all__ = ["FsckReport", "examine", "sweep"]

DEFAULT_MIN_AGE_MS: Final = 24 * 3600 * 1000
_LOOKS: Final = 3  # at a database that others commit to meanwhile
_ROUNDS: Final = 50
_DELETED_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What was found at a database's place. Objects are named by their whole keys, sorted.

    Attributes:
        location: where it is.
        db_object_exists: there is a head, sound or not.
        seq: number of the head that was looked at; 0 without one.
        n_commits: commits that it retains.
        n_segments: segments that those need.
        orphans: segments that nothing needs: of pushes and copies that failed, or are under way.
        skipped_young: those of the orphans that are younger than `min_age`.
        claimed_but_missing: segments that are needed and not there.
        damaged: objects that are not what they should be, with a sentence each.
        strangers: objects among the segments whose names are none; never touched.
        unreadable: what kept this from being the whole truth. While there is anything, no segment
            counts as an orphan.
        swept: orphans that were deleted.
        not_swept: why nothing was deleted although it was asked for; "" otherwise.
    """

    location: str
    db_object_exists: bool
    seq: int = 0
    n_commits: int = 0
    n_segments: int = 0
    orphans: tuple[str, ...] = ()
    skipped_young: tuple[str, ...] = ()
    claimed_but_missing: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()
    not_swept: str = ""

    @property
    def ok(self) -> bool:
        """Nothing of the database is missing, damaged or unreadable; orphans do no harm."""
        return not (self.claimed_but_missing or self.damaged or self.unreadable)


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is, and the head that says what of it is needed."""

    listed: dict[bytes, int]  # sid -> bytes
    strangers: tuple[str, ...]
    snapshot: Snapshot | None
    damage: str  # of the head


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
        found = _look(place)
        report, _ = _judge(place, found, min_age_ms, walk=check_objects, read=check_objects)
        if report.ok or not _moved(place, found.snapshot):
            break  # what was missing may have been collected since the head was read
    return report


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
    check_db_key(place.db_key)
    if not place.store.capabilities.writable:
        raise ReadOnlyError(
            f"{place.location} can only be read: pass a connection with credentials to sweep",
            op="fsck",
        )
    found = _look(place)
    if found.snapshot is None:
        report, _ = _judge(place, found, min_age_ms, walk=False, read=False)
        return replace(report, not_swept=_no_head(report))
    head = found.snapshot.head
    if reason := head.read_only_reason:
        raise UnsupportedFormatError(
            f"{place.location} cannot be swept by this version: {reason}",
            op="fsck",
            key=place.db_key,
        )
    with write_lock(
        place, head.proto, fence=head.fence, timeout=lock_timeout, purpose="fsck"
    ) as lease:
        return _swept(place, lease, min_age_ms, check_objects=check_objects)


def _swept(
    place: RemotePlace, lease: Lease | None, min_age_ms: int, *, check_objects: bool
) -> FsckReport:
    for _ in range(_ROUNDS):
        found = _look(place)
        report, old = _judge(place, found, min_age_ms, walk=True, read=check_objects)
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
        return replace(report, swept=_delete(place, old, lease))
    raise RemoteUnavailable(
        "others commit faster than this can look: sweep again when fewer write",
        op="fsck",
        key=place.db_key,
    )


def _look(place: RemotePlace) -> _Found:
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
    return _Found(listed, tuple(sorted(strangers)), snapshot, damage)


def _moved(place: RemotePlace, snapshot: Snapshot | None) -> bool:
    try:
        current = place.heads().read()
    except RemoteIntegrityError:
        return False
    return (current.head.write_id if current else None) != (
        snapshot.head.write_id if snapshot else None
    )


def _judge(
    place: RemotePlace, found: _Found, min_age_ms: int, *, walk: bool, read: bool
) -> tuple[FsckReport, list[bytes]]:
    """What is wrong, by what one head says; and the orphans that are old enough to be swept."""
    if found.snapshot is None:
        listed = sorted(found.listed)
        return (
            FsckReport(
                location=place.location,
                db_object_exists=bool(found.damage),
                orphans=() if found.damage else _names(place, listed),
                strangers=found.strangers,
                unreadable=(found.damage,) if found.damage else (),
            ),
            [],
        )
    head = found.snapshot.head
    check = _Check(place, head, found.listed, walk=walk, read=read)
    check.run()
    orphans: list[bytes] = []
    if not check.unreadable:
        orphans = sorted(found.listed.keys() - check.segments.sizes.keys() - check.dropped)
    floor = _floor(place, head, min_age_ms)
    old = [sid for sid in orphans if sid_ms(sid) <= floor]
    return (
        FsckReport(
            location=place.location,
            db_object_exists=True,
            seq=head.seq,
            n_commits=check.n_commits,
            n_segments=len(check.segments.sizes),
            orphans=_names(place, orphans),
            skipped_young=_names(place, sorted(set(orphans).difference(old))),
            claimed_but_missing=(*check.missing_heads, *_names(place, check.missing)),
            damaged=dict(sorted(check.damaged.items())),
            strangers=found.strangers,
            unreadable=tuple(dict.fromkeys(check.unreadable)),
        ),
        old,
    )


class _Check:
    """One head against the objects that were listed."""

    def __init__(
        self, place: RemotePlace, head: Head, listed: Mapping[bytes, int], *, walk: bool, read: bool
    ) -> None:
        self._place = place
        self._head = head
        self._listed = listed
        self._read = read
        self._history = HistoryReader(place.store, place.db_key, head)
        self._expectations = Expectations() if read else None
        nodes = self._history.nodes
        self._trees = TreeWalk(nodes, place.db_key, self._expectations) if walk else None
        self.segments = RetainedSegments(head)
        self.dropped: set[bytes] = set()  # by gc, and waiting for their grace to end
        self.n_commits = 0
        self.missing: list[bytes] = []
        self.missing_heads: list[str] = []
        self.damaged: dict[str, str] = {}
        self.unreadable: list[str] = []

    def run(self) -> None:
        """Find out everything."""
        if reason := self._head.read_only_reason:
            self.unreadable.append(f"what it needs is not known to this version: {reason}")
        if self._head.proto.mode == "lock":
            self._compare_heads()
        self._read_history()
        present = self._compare_sizes()
        if self._expectations is not None:
            self._read_segments(present, self._expectations)

    def _compare_heads(self) -> None:
        """Where heads are moved under a lock there are two, each of them whole."""
        for key in (self._place.db_key, alternate_key(self._place.db_key)):
            try:
                decode_head(self._place.store.get(key, stop=MAX_HEAD_BYTES + 1).body, key=key)
            except ObjectNotFound:
                self.missing_heads.append(key)
            except (RemoteIntegrityError, UnsupportedFormatError) as exc:
                self.damaged[key] = str(exc.args[0])

    def _read_history(self) -> None:
        head, trees, expectations = self._head, self._trees, self._expectations
        for ref, commit in self._history.commits():
            self.n_commits += 1
            try:
                self.segments.add(ref, commit)
            except RemoteIntegrityError as exc:
                self.unreadable.append(str(exc.args[0]))
            if expectations is not None:
                expectations.block(ref.block)
            if trees is not None:
                trees.walk(commit.root, {row.sid for row in commit.segs}, f"commit {commit.seq}")
        self.segments.hold(self._history.unread)
        self.segments.hold(self._history.log_segments())
        self.dropped = self._history.dropped() - self.segments.sizes.keys()
        self.unreadable += (str(problem) for problem in self._history.problems)
        if trees is not None:
            trees.walk(head.log, head.held(), "the log")
            self.damaged.update(trees.problems)
        if expectations is not None:
            for block in head.blocks():
                expectations.block(block)

    def _compare_sizes(self) -> list[tuple[bytes, int]]:
        """Note what is missing or of another size; return the segments that are neither."""
        present: list[tuple[bytes, int]] = []
        for sid, size in sorted(self.segments.sizes.items()):
            actual = self._listed.get(sid)
            if actual is None or (size is not None and actual != size):
                actual = self._asked(sid)  # a list may be behind
            if actual is None:
                self.missing.append(sid)
            elif size is not None and actual != size:
                self._report(sid, f"it has {actual} bytes instead of {size}")
            else:
                present.append((sid, actual))
        return present

    def _asked(self, sid: bytes) -> int | None:
        try:
            return self._place.store.head(segment_key(self._place.db_key, sid)).size
        except ObjectNotFound:
            return None

    def _read_segments(self, present: list[tuple[bytes, int]], expectations: Expectations) -> None:
        place = self._place
        for sid, what in audit_segments(
            place.store, place.db_key, self._head, present, expectations
        ):
            self._report(sid, what)

    def _report(self, sid: bytes, what: str) -> None:
        self.damaged.setdefault(segment_key(self._place.db_key, sid), what)


def _floor(place: RemotePlace, head: Head, min_age_ms: int) -> int:
    """Up to which minting time a segment is old enough; never back, and by the server's clock."""
    now = place.store.server_time_ms()
    return head.gc.floor if now is None else max(head.gc.floor, now - min_age_ms)


def _raise_floor(place: RemotePlace, snapshot: Snapshot, floor: int, lease: Lease | None) -> None:
    head = amended(
        snapshot.head,
        write_id=place.clock.token_bytes(16),
        ms=place.clock.now_us() // 1000,
        gc=replace(snapshot.head.gc, floor=floor),
        fence=max(snapshot.head.fence, lease.token if lease is not None else 0),
    )
    place.heads().commit(head, encode_head(head), snapshot, lease)


def _delete(place: RemotePlace, sids: list[bytes], lease: Lease | None) -> tuple[str, ...]:
    names = _names(place, sids)
    for at in range(0, len(names), _DELETED_AT_ONCE):
        if lease is not None:
            lease.check()
        place.store.delete(names[at : at + _DELETED_AT_ONCE])
    return names


def _why_not(place: RemotePlace, report: FsckReport) -> str:
    if report.unreadable:
        return "what the database needs is not known as a whole; see `unreadable`"
    if report.damaged or report.claimed_but_missing:
        return "the database is damaged, and what seems unneeded may serve to repair it"
    if report.orphans and place.store.server_time_ms() is None:
        return "the store does not tell the time, so nothing is known to be old enough"
    return ""


def _no_head(report: FsckReport) -> str:
    if report.db_object_exists:
        return "the head is damaged, so that nothing is known to be unneeded"
    if not report.orphans:
        return ""
    return "there is no database here, so that a first push may be under way: create one and sweep then"


def _names(place: RemotePlace, sids: list[bytes]) -> tuple[str, ...]:
    return tuple(segment_key(place.db_key, sid) for sid in sids)
