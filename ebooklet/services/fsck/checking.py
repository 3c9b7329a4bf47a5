"""One head against the objects that were listed: what is missing, damaged or unreadable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ebooklet.core.advance import LiveBytes
from ebooklet.core.audit import Expectations
from ebooklet.core.head import MAX_HEAD_BYTES, Head, decode_head
from ebooklet.core.names import alternate_key, parse_sid, segment_key, segment_prefix
from ebooklet.core.retention import RetainedSegments
from ebooklet.core.sealing import PLAIN
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError, UnsupportedFormatError
from ebooklet.services.fsck.auditing import audit_segments, read_kinds
from ebooklet.services.fsck.counting import true_rows, wrong_counters, wrong_rows
from ebooklet.services.fsck.losing import LostValues
from ebooklet.services.fsck.report import LostRange
from ebooklet.services.fsck.usage import TreeWalk
from ebooklet.services.place import RemotePlace
from ebooklet.services.retained import HistoryReader


class HeadCheck:
    """One head against the objects that were listed."""

    def __init__(
        self, place: RemotePlace, head: Head, listed: Mapping[bytes, int], *, walk: bool, read: bool
    ) -> None:
        self._place = place
        self._head = head
        self._listed = listed
        self._read = read
        # Without a key the trees cannot be walked. All else can be told.
        self.keyless = head.encrypted and not place.keyring.wanted
        sealer = PLAIN if self.keyless else place.keyring.sealer_of(head)
        self._history = HistoryReader(place.store, place.db_key, head, sealer)
        self._expectations = Expectations(sealer) if read else None
        self._trees: TreeWalk | None = None
        self._log: TreeWalk | None = None
        if walk and not self.keyless:
            self._trees = TreeWalk(self._history.nodes, place.db_key, self._expectations)
        if walk:
            self._log = TreeWalk(self._history.log_nodes, place.db_key, self._expectations)
        self._sealer = sealer
        self.tally: LiveBytes | None = None  # of the newest commit, if all of its tree was read
        self.rows = head.tip.segs  # of the newest commit, as its segments themselves have it
        self.segments = RetainedSegments(head)
        self.dropped: set[bytes] = set()  # by gc, and waiting for their grace to end
        self.n_commits = 0
        self.missing: list[bytes] = []
        self.missing_heads: list[str] = []
        self.damaged: dict[str, str] = {}
        self.unreadable: list[str] = []
        self.lost: list[str] = []
        self.lost_ranges: list[LostRange] = []
        self.counters: list[str] = []
        self.behind: list[str] = []

    def run(self) -> None:
        """Find out everything."""
        if reason := self._head.read_only_reason:
            self.unreadable.append(f"what it needs is not known to this version: {reason}")
        if self._head.proto.mode == "lock":
            self._compare_heads()
        self._read_history()
        present = self._compare_sizes()
        self._check_table(dict(present), walk=self._log is not None)
        if self._expectations is not None:
            for sid, what in self._audited(present, self._expectations):
                self._report(sid, what)
        if self._trees is not None:
            self._find_lost(self._trees)

    def _compare_heads(self) -> None:
        """Where heads are moved under a lock there are two, each of them whole."""
        seqs: dict[str, int] = {}
        for key in (self._place.db_key, alternate_key(self._place.db_key)):
            try:
                body = self._place.store.get(key, stop=MAX_HEAD_BYTES + 1).body
                seqs[key] = decode_head(body, key=key).seq
            except ObjectNotFound:
                self.missing_heads.append(key)
            except (RemoteIntegrityError, UnsupportedFormatError) as exc:
                self.damaged[key] = str(exc.args[0])
        self.behind += (key for key, seq in seqs.items() if seq < max(seqs.values()))

    def _read_history(self) -> None:
        head, trees, expectations = self._head, self._trees, self._expectations
        if trees is not None:
            self._walk_tip(trees)
        for ref, commit in self._history.commits():
            self.n_commits += 1
            self.segments.add(ref, commit)
            if expectations is not None:
                expectations.block(ref.block)
            if trees is not None:
                trees.walk(commit.root, {row.sid for row in commit.segs}, f"commit {commit.seq}")
        self.segments.hold(ref.block.sid for ref in self._history.unread)
        self.segments.hold(self._history.log_segments())
        self.dropped = self._history.dropped() - self.segments.sizes.keys()
        self.unreadable += (str(problem) for problem in self._history.problems)
        if self._log is not None:
            self._log.walk(head.log, head.held(), "the log")
            self.damaged.update(self._log.problems)
        if trees is not None:
            self.damaged.update(trees.problems)
        if expectations is not None:
            for block in head.blocks():
                expectations.block(block)

    def _walk_tip(self, trees: TreeWalk) -> None:
        """Before the others, so that all of its tree is visited and counted under its name."""
        tip, tally = self._head.tip, LiveBytes()
        broken = trees.walk(tip.root, {row.sid for row in tip.segs}, f"commit {tip.seq}", tally)
        self.lost_ranges += (LostRange(at.after, at.last, at.ref.count) for at in broken)
        if not broken:
            self.tally = tally
            self.counters += wrong_counters(tip, self._head.params, tally)

    def _check_table(self, present: Mapping[bytes, int], *, walk: bool) -> None:
        """What the newest commit says of its segments, against what they say of themselves."""
        place, rows = self._place, self._head.tip.segs
        sids = [row.sid for row in rows if row.sid in present] if walk else []
        kinds = read_kinds(place.store, place.db_key, self._head, sids)
        self.rows = true_rows(rows, present, kinds)
        self.counters += wrong_rows(rows, self.rows)

    def _find_lost(self, trees: TreeWalk) -> None:
        """Name the keys of the newest commit whose values went with a segment."""
        prefix = segment_prefix(self._place.db_key)
        names = (key.removeprefix(prefix) for key in self.damaged if key.startswith(prefix))
        damaged = {parse_sid(name) for name in names}
        if damaged or self.missing:
            values = LostValues(
                self._place.store,
                self._place.db_key,
                self._sealer,
                missing=self.missing,
                damaged=damaged,
            )
            self.lost += values.of(trees.leaves(self._head.tip.root))

    def _compare_sizes(self) -> list[tuple[bytes, int]]:
        """Note what is missing or cut short; return the segments that are neither, by their sizes.

        One that has another size than a commit says is whole where its own ends and checksums say
        so: then it is the commit that is wrong.
        """
        present: dict[bytes, int] = {}
        doubtful: dict[bytes, int] = {}
        newest = {row.sid: (row.length,) for row in self._head.tip.segs}
        for sid in self.segments.sizes:
            # Of two words the newest commit's counts; what an older one says cannot be corrected.
            stated = newest.get(sid) or self.segments.stated(sid)
            actual = self._listed.get(sid)
            if actual is None or (stated and actual not in stated):
                actual = self._asked(sid)  # a list may be behind
            if actual is None:
                self.missing.append(sid)
            elif stated and actual not in stated:
                doubtful[sid] = actual
            else:
                present[sid] = actual
        self.missing.sort()
        sizes = sorted(doubtful.items())
        for sid, what in self._audited(sizes, Expectations(self._sealer)):
            said = " or ".join(map(str, newest.get(sid) or sorted(self.segments.stated(sid))))
            self._report(sid, f"it has {doubtful.pop(sid)} bytes instead of {said}: {what}")
        return sorted((present | doubtful).items())

    def _asked(self, sid: bytes) -> int | None:
        try:
            return self._place.store.head(segment_key(self._place.db_key, sid)).size
        except ObjectNotFound:
            return None

    def _audited(
        self, sizes: list[tuple[bytes, int]], expectations: Expectations
    ) -> Iterator[tuple[bytes, str]]:
        place = self._place
        return audit_segments(place.store, place.db_key, self._head, sizes, expectations)

    def _report(self, sid: bytes, what: str) -> None:
        self.damaged.setdefault(segment_key(self._place.db_key, sid), what)
