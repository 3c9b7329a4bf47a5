"""Rescuing: a new head for a database whose own is lost, from the commit records in its segments.

What must never fall (I2) is chosen so high that no head before can have been higher. The seq goes
on a million above every record, as heads that only say something else leave none; so does the epoch.
The fence is asked of the lock above the time in ms. The gc floor is now: a push that is under way
uploads anew what it had minted, in case a collection has deleted it. The head names a commit of its own,
so that another rescue finds these numbers in turn. What it does not need counts as dropped by a
collection, and stays for the grace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from ebooklet.core.advance import LiveBytes, first_head
from ebooklet.core.commit import Commit
from ebooklet.core.descent import FoundCommit
from ebooklet.core.head import (
    MAX_HEAD_BYTES,
    Branch,
    DatabaseType,
    DictionaryRef,
    Gc,
    Head,
    PendingBatch,
    Proto,
    encode_head,
)
from ebooklet.core.headfields import MAX_DICTIONARIES
from ebooklet.core.lines import lines_of
from ebooklet.core.names import (
    alternate_key,
    segment_prefix,
    sid_ms,
    sid_text,
)
from ebooklet.core.params import TreeParams
from ebooklet.core.sealing import PLAIN
from ebooklet.core.segment import join_sids
from ebooklet.errors import ObjectNotFound, SerializationError
from ebooklet.ports.lock_service import Lease
from ebooklet.services.clashes import check_above
from ebooklet.services.fsck.beginning import begin
from ebooklet.services.fsck.counting import true_rows
from ebooklet.services.fsck.examining import Found, judge, look
from ebooklet.services.fsck.finding import Records, find_records
from ebooklet.services.fsck.recording import minted, record
from ebooklet.services.fsck.repairing import table_of
from ebooklet.services.fsck.report import FsckReport
from ebooklet.services.fsck.sampling import sample
from ebooklet.services.fsck.usage import TreeWalk
from ebooklet.services.fsck.wholeness import Wholeness
from ebooklet.services.heads import HeadMoved
from ebooklet.services.locking import write_lock
from ebooklet.services.nodes import NodeReader
from ebooklet.services.place import RemotePlace
from ebooklet.services.retained import retained_segments
from ebooklet.services.upload import SegmentUploader

_ABOVE: Final = 1 << 20  # head writes since the newest record that nothing tells of, at most
_MAX_BRANCHES: Final = 32
_MAX_NAMED: Final = 8
_UNKNOWN: Final = (
    "tags, and branches without a commit of their own; branches that had been deleted may be back",
    "the user's metadata: set them again",
    "how long commits are to be kept, which is the default now, and what was in the trash",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a head says of its database, and nothing but a head.

    Attributes:
        value_serializer: the name that its values are serialised under; "" if it was not said.
        type: whether it is a connection group.
        uuid: which one is meant where segments of several lie; None if there is one.
        version: of the library.
        reads: raises `SerializationError` for what is no value of that serializer, running no code;
            None: nothing tells.
        only_form: `reads` makes no value, and looks at the form only.
    """

    value_serializer: str = ""
    reads: Callable[[bytes], object] | None = None
    only_form: bool = False
    type: DatabaseType = "database"
    uuid: UUID | None = None
    version: str = ""


def rescue(
    place: RemotePlace, described: Described, *, min_age_ms: int, lock_timeout: float
) -> FsckReport:
    """Where there is no whole head, make one that names the newest whole commit; delete nothing.

    Args:
        place: of the database.
        described: what the segments do not tell.
        min_age_ms: younger orphans count as such in the report.
        lock_timeout: seconds to wait for the lock.

    Returns:
        What is there then; `repaired` says what was made of what, `not_known` what is lost with
        the head, `not_repaired` why there is no new one.

    Raises:
        ReadOnlyError: the place can only be read.
        LockTimeout, LockLostError: another has, or took, the lock.
        UnsupportedFormatError: what stands in the head's place is not ours.
        ValueError: there is something to rescue, and the serializer was not said.
        EBookletError: a request failed; there is a new head, or none.
    """
    found = begin(place)
    if found.snapshot is not None or not found.listed:
        return _untouched(place, found, min_age_ms)
    if not described.value_serializer:
        raise ValueError(
            "rescue needs value_serializer, which only the head knew: the one that open() was given "
            "where the database was created, or remote_conn_group=True. A wrong one makes all "
            "values useless: look it up there, or in the program that reads them"
        )
    proto = _proto(place)
    now_ms = place.store.server_time_ms() or place.clock.now_us() // 1000
    with write_lock(place, proto, fence=now_ms, timeout=lock_timeout, purpose="fsck") as lease:
        found = look(place)
        if found.snapshot is not None:
            return _untouched(place, found, min_age_ms)
        return _Rescue(place, described, found, proto, lease).run(min_age_ms)


def _untouched(place: RemotePlace, found: Found, min_age_ms: int) -> FsckReport:
    report = judge(place, found, min_age_ms, walk=False, read=False).report
    if found.snapshot is not None:
        return report  # there is a whole head, and nothing to rescue
    return replace(report, not_repaired="there are no segments to find commits in")


def _proto(place: RemotePlace) -> Proto:
    """How heads are moved: two copies tell that it is under the lock, else the server is asked."""
    try:
        place.store.head(alternate_key(place.db_key))
    except ObjectNotFound:
        check_above(place.store, place.db_key, place.clock)
        return place.probe()
    return Proto("lock", probed_ms=place.clock.now_us() // 1000)


class _Rescue:
    """One rescue, under the lock."""

    def __init__(
        self,
        place: RemotePlace,
        described: Described,
        found: Found,
        proto: Proto,
        lease: Lease | None,
    ) -> None:
        self._place = place
        self._described = described
        self._found = found
        self._proto = proto
        self._lease = lease
        self._records = find_records(place, found.listed)
        self._whole = Wholeness(place, found.listed, self._records.uuids)
        self._not_known: list[str] = [
            f"what the segment {name} holds: {why}"
            for name, why in sorted(self._records.unreadable.items())
        ]

    def run(self, min_age_ms: int) -> FsckReport:
        """Choose, write, and look at what is there then."""
        why = ""
        done: list[str] = []
        mine = self._candidates()
        if isinstance(mine, str):
            why = mine
        elif (tip := self._tip(mine)) is None:
            why = "no commit is whole; see `not_known`"
        elif isinstance(tried := self._tried(tip), str):
            why = tried
        else:
            try:
                done = [*self._write(tip, mine), *tried]
            except HeadMoved:
                why = "a whole head came meanwhile"
        report = judge(self._place, look(self._place), min_age_ms, walk=True, read=False).report
        return replace(
            report,
            repaired=tuple(done),
            not_repaired=why,
            not_known=(*(_UNKNOWN if done else ()), *self._not_known),
        )

    def _candidates(self) -> dict[bytes, FoundCommit] | str:
        """The commits of the database that is meant, or why that cannot be told."""
        found = self._records.commits.values()
        wanted = self._described.uuid
        uuids = sorted({each.uuid for each in found})
        if not uuids:
            return "no commit record was found in the segments"
        if wanted is None and len(uuids) > 1:
            names = ", ".join(str(UUID(bytes=uuid)) for uuid in uuids)
            return f"segments of several databases lie there, say which is meant by uuid=: {names}"
        uuid = uuids[0] if wanted is None else wanted.bytes
        mine = {each.ref.id: each for each in found if each.uuid == uuid}
        if not mine:
            return f"no commit record of database {wanted} was found"
        if any(each.commit.key_ids for each in mine.values()):
            return (
                "the database is encrypted, and a key without which nothing can be told was in the "
                "head alone: restore an older version of that object"
            )
        return mine

    def _tip(self, mine: dict[bytes, FoundCommit]) -> FoundCommit | None:
        """The newest of the default branch that is whole; where there is none, of all."""
        newest = sorted(
            mine.values(), key=lambda one: (not one.commit.branch, one.age), reverse=True
        )
        for each in newest:
            if self._whole.of(each):
                return each
            if len(self._not_known) < _MAX_NAMED + len(self._records.unreadable):
                self._not_known.append(
                    f"commit {each.commit.seq} ({each.ref.id.hex()[:12]}), newer than what was "
                    f"found whole: {self._whole.reasons[each.ref.id]}"
                )
        return None

    def _tried(self, tip: FoundCommit) -> list[str] | str:
        """Try a few values: a head that names another serializer would make all of them useless.

        Returns:
            A list of what was found so, or why it cannot be that serializer.
        """
        reads, name = self._described.reads, self._described.value_serializer
        if reads is None:
            self._not_known.append(
                f"whether values are of the serializer {name!r}: none was tried, as that may run "
                "code, or needs a dictionary"
            )
            return []
        n_tried = 0
        for key, value in sample(self._place, tip.commit.root):
            try:
                reads(value)
            except SerializationError as exc:
                return f"the value of {key!r} is none of the serializer {name!r}: {exc.args[0]}"
            n_tried += 1
        if not n_tried:
            self._not_known.append(f"whether values are of the serializer {name!r}: none was found")
            return []
        how = "have the form of" if self._described.only_form else "can be read with"
        unloaded = "; none was loaded, as that may run code" if self._described.only_form else ""
        return [
            f"the first {n_tried} values {how} the serializer {name!r}, which is noted{unloaded}"
        ]

    def _write(self, tip: FoundCommit, mine: dict[bytes, FoundCommit]) -> list[str]:
        place = self._place
        lines = lines_of(tip, mine, self._whole.may_stay, limit=_MAX_BRANCHES)
        self._not_known += (
            f"commit {each.commit.seq} ({number.hex()[:12]}), which is whole and does not list all "
            "that it uses: it is not retained"
            for number, each in mine.items()
            if self._whole.of(each) and not self._whole.lists_all(each)
        )
        if lines.n_branches > len(lines.branches):
            self._not_known.append(
                f"which of {lines.n_branches} lines of commits were branches: "
                f"{len(lines.branches)} of them are"
            )
        seq = max(each.commit.seq for each in mine.values()) + _ABOVE
        tally = self._tally(tip)
        commit = self._commit(tip, seq, tally)
        before = self._before(tip, commit, lines.branches, tally)
        head = record(place, before, commit, lines.rows, PLAIN, self._lease)
        oldest_seq = lines.main.oldest_seq if self._whole.lists_all(tip) else commit.seq
        main = replace(head.branch, oldest_seq=oldest_seq)
        head = replace(head, branches={**head.branches, head.default_branch: main})
        head = self._with_leftovers(head)
        kept = self._keep_damaged(head.gc.floor)
        data = encode_head(head)
        if self._found.damage:
            place.heads().replace_damaged(head, data, self._lease)
        else:
            place.heads().commit(head, data, None, self._lease)
        n_kept = sum(each.commit.seq >= oldest_seq for each in lines.main.commits)
        return [
            (
                f"a head was made that goes on from commit {tip.commit.seq} ({tip.ref.id.hex()[:12]}), "
                f"the newest that is whole of its branch; {n_kept} commits of its history are retained"
            ),
            *(
                f"branch {name!r} is at commit {branch.commit.seq} ({branch.commit.id.hex()[:12]})"
                for name, branch in lines.branches.items()
            ),
            *kept,
        ]

    def _tally(self, tip: FoundCommit) -> LiveBytes:
        tally = LiveBytes()
        nodes = NodeReader(self._place.store, self._place.db_key)
        TreeWalk(nodes, self._place.db_key).walk(
            tip.commit.root, self._found.listed.keys(), f"commit {tip.commit.seq}", tally
        )
        return tally

    def _commit(self, tip: FoundCommit, seq: int, tally: LiveBytes) -> Commit:
        """A commit of what the tip holds, that says of the rescue what a later one has to know."""
        lengths = {sid: self._found.listed[sid] for sid in self._records.uuids}
        rows = true_rows(tip.commit.segs, lengths, {})
        return replace(
            tip.commit,
            seq=seq,
            parents=(tip.ref.id,),
            ms=self._place.clock.now_us() // 1000,
            author="",
            message=f"the head was lost, and made anew from commit {tip.ref.id.hex()[:12]}",
            value_bytes=tally.value_bytes,
            segs=table_of(self._place, self._found, rows, tally),
            op="rescue",
            write_id=self._place.clock.token_bytes(16),
            branch="",
        )

    def _before(
        self,
        tip: FoundCommit,
        commit: Commit,
        branches: dict[str, Branch],
        tally: LiveBytes,
    ) -> Head:
        """The head, but for the commit that it is to name."""
        now_ms = self._place.store.server_time_ms() or self._place.clock.now_us() // 1000
        head = first_head(
            uuid=UUID(bytes=tip.uuid),
            database_type=self._described.type,
            key_serializer="str",
            value_serializer=self._described.value_serializer,
            proto=self._proto,
            params=TreeParams(),
            tip=commit,
            name=self._place.db_key,
        )
        return replace(
            head,
            version=self._described.version,
            branches=branches,
            gc=Gc(epoch=commit.seq, floor=now_ms),
            origins=_origins(self._records, tip, tally),
            dictionaries=tuple(self._dictionaries(tip.uuid)[-MAX_DICTIONARIES:]),
        )

    def _dictionaries(self, uuid: bytes) -> list[DictionaryRef]:
        return [row for owner, row in self._records.dictionaries if owner == uuid]

    def _with_leftovers(self, head: Head) -> Head:
        """Have what the head does not need wait for its grace, as what a collection drops does.

        Under so high a floor it would pass for old otherwise, and be swept with whatever may yet
        serve to repair what was not found whole.
        """
        place, floor = self._place, head.gc.floor
        needed = retained_segments(place.store, place.db_key, head).sizes
        left = [sid for sid in self._found.listed if sid not in needed and sid_ms(sid) <= floor]
        if not left:
            return head
        uploader = SegmentUploader(
            place.store,
            place.db_key,
            uuid=head.uuid,
            write_id=head.write_id,
            mint=lambda: minted(place, floor),
        )
        try:
            sids = uploader.add_sids(join_sids(left))
            uploader.finish()
        finally:
            uploader.close()
        return replace(head, gc=replace(head.gc, pending=(PendingBatch(floor, sids),)))

    def _keep_damaged(self, floor_ms: int) -> list[str]:
        """Put what is left of the old head aside: it may yet tell somebody something."""
        if not self._found.damage:
            return []
        place = self._place
        body = place.store.get(place.db_key, stop=MAX_HEAD_BYTES + 1).body
        name = f"{segment_prefix(place.db_key)}{sid_text(minted(place, floor_ms))}.head"
        place.store.put(name, body)
        return [f"what was left of the old head lies at {name}, which nothing deletes"]


def _origins(records: Records, tip: FoundCommit, tally: LiveBytes) -> tuple[bytes, ...]:
    """Uuids of other databases in whose segments the tip's content lies: it is a copy."""
    used = {records.uuids[sid] for sid in tally.rows if sid in records.uuids}
    return tuple(sorted(used - {tip.uuid}))
