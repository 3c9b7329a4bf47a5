"""Reverting: a commit that restores what an older one held."""

from __future__ import annotations

from ebooklet.core.advance import LiveBytes
from ebooklet.core.head import Head
from ebooklet.core.notes import check_record
from ebooklet.core.refs import CommitRef
from ebooklet.errors import ReplaceConflict, SnapshotExpired
from ebooklet.services.attempts import Outcome, PulledWrite, PushResult, carry_out, nothing_to_do
from ebooklet.services.commits import CommitReader
from ebooklet.services.explaining import explaining
from ebooklet.services.guards import nothing_pushed
from ebooklet.services.history import line
from ebooklet.services.hooking import asked_before_push, telling_evictions
from ebooklet.services.pending import Covered
from ebooklet.services.placed import PlacedValues
from ebooklet.services.push import told_hooks
from ebooklet.services.readiness import check_nothing_pending, check_ready
from ebooklet.services.retained import HistoryReader
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.tallying import tally
from ebooklet.services.versions import VersionLike, check_version, find_commit
from ebooklet.services.working_copy import WorkingCopy


def revert(copy: WorkingCopy, version: VersionLike, *, message: str = "") -> PushResult:
    """Commit the content of an older version anew, on top of what this copy stands on.

    Nothing but a record is uploaded: the index and the values are those of the version. Local
    copies that then are stale are dropped. The user's metadata, which are no part of commits, stay.

    Args:
        copy: the working copy, writable.
        version: what to restore.
        message: of the commit, at most 4 KiB of UTF-8.

    Returns:
        As of a push; false if the content is that of the version already.

    Raises:
        UnknownVersionError: nothing is called so.
        SnapshotExpired: the version is no longer retained.
        PendingChangesError: something is pending.
        Exception: what a hook raised to refuse it; nothing was committed.
        ReplaceConflict: another commit landed since this copy was last in step.
        EBookletError: see `push`.
    """
    check_ready(copy, "revert", message)
    check_version(version)
    with telling_evictions(copy) as failures:
        result = carry_out(
            copy,
            lambda: _Revert(copy, version, message),
            before=lambda: asked_before_push(copy, message),
        )
    return told_hooks(copy, result, failures)


class _Revert(PulledWrite):
    """The write whose snapshot is a retained one.

    It never rebases: what it does away with has to be what its caller saw.
    """

    op = "revert"

    def __init__(self, copy: WorkingCopy, version: VersionLike, message: str) -> None:
        super().__init__(copy, message, force=False, conflict="ours")
        if self.before is None:
            raise nothing_pushed("revert", copy.location, copy.db_key)
        check_nothing_pending(copy, "revert")
        with explaining(copy):
            self._ref = find_commit(copy.log_nodes, self.before.head, version)
        with explaining(copy, self._ref):
            self._target = CommitReader(copy.segments, copy.db_key).read_around(self._ref)
        check_record(self._target.commit, copy.sealer)

    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        copy = self.copy
        assert base is not None  # noqa: S101 - a deleted remote raises before this
        if self.before is None or base.ref.id != self.before.ref.id:
            raise ReplaceConflict(
                "the database is to go back to an older version, but another commit landed since "
                "it was last looked at: look at it, and revert again if it is to go, too",
                op="revert",
                key=copy.db_key,
            )
        check_nothing_pending(copy, "revert")
        target = self._target.commit
        if target.fingerprint == base.commit.fingerprint:
            return Outcome(Covered(), nothing_to_do(base), None)
        # The head may name only what the last one retains (I3), whatever an older one did.
        _check_retained(copy, base, self._ref)
        counted = tally(copy.nodes, base.commit, target)
        uploader = self._uploader(base)
        try:
            draft = self._draft(base, target.root, uploader, PlacedValues())
            draft.live = LiveBytes.of(target.segs, target.value_bytes)
            root_node = self._target.root_node()
            if target.root is not None and root_node is not None:
                draft.node_data[target.root.block] = root_node
            head = self._next_head(base, draft, target.root, uploader, replacing=False)
            self._finish(uploader)
        finally:
            uploader.close()
        self.landed = self._land(head, base, draft)
        return Outcome(Covered(), self._pushed(self.landed, uploader, **counted._asdict()), None)

    def _kept_keys(self, last: Head | None) -> tuple[str, ...]:
        return tuple({*super()._kept_keys(last), *self._target.commit.key_ids})


def _check_retained(copy: WorkingCopy, base: Snapshot, ref: CommitRef) -> None:
    """Refuse a commit that the head about to be replaced does not retain.

    Raises:
        SnapshotExpired: it does not.
        EBookletError: part of the history cannot be read, so that it cannot be told.
    """
    if any(named.id == ref.id for named in base.head.commits()):
        return
    for each, _ in line(copy, base):
        if each.id == ref.id:
            return
        if each.seq < ref.seq:
            break
    history = HistoryReader(copy.reachable_remote(), copy.db_key, base.head)
    if history.floor_of(ref) is not None:
        return
    for problem in history.problems:
        raise problem
    raise SnapshotExpired(
        f"commit {ref.seq} is no longer retained; revert to one that is",
        op="revert",
        key=copy.db_key,
    )
