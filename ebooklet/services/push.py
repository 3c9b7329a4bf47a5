"""Pushing: new immutable segments, then one atomic move of the head (FORMAT §6)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from ebooklet.core.advance import first_head, next_head
from ebooklet.core.commit import Commit, commit_id, encode_commit
from ebooklet.core.entry import Entry
from ebooklet.core.head import Head, Proto, Recent, Trash, encode_head, spill
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.index.update import update
from ebooklet.core.keyring import protected, sealed_record
from ebooklet.core.refs import BlockRef, CommitRef, NodeRef
from ebooklet.core.sealing import Kind
from ebooklet.core.segment import BlockType
from ebooklet.errors import (
    ConflictError,
    PushInProgressError,
    ReadOnlyError,
    RemoteDeleted,
    RemoteMissingError,
    ReplaceConflict,
    UnsupportedFormatError,
)
from ebooklet.ports.hooks import HookFailure
from ebooklet.services.backoff import chance
from ebooklet.services.clashes import clashes_named
from ebooklet.services.confirming import settle_landed
from ebooklet.services.dictionaries import dictionaries_of, learn
from ebooklet.services.draft import Draft
from ebooklet.services.fencing import check_fence
from ebooklet.services.heads import HeadMoved
from ebooklet.services.hooking import asked_before_push, check_reentry, telling_evictions
from ebooklet.services.log import log_entries, log_params, log_segments
from ebooklet.services.pull import advance_base, report_all, report_none
from ebooklet.services.settling import has_rules, settle_conflicts
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import ConflictPolicy, WorkingCopy, check_policy

logger = logging.getLogger("ebooklet.push")

MAX_INLINE_ROOT: Final = 16 * 1024  # bytes of an encoded root node that the head carries
MAX_MESSAGE_BYTES: Final = 4096
MAX_INLINE_METADATA: Final = 64 * 1024
_LOST_RACES: Final = 50
_FIXPOINT_ROUNDS: Final = 100


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did. True only if something was committed and nothing failed.

    Attributes:
        updated: whether a commit happened.
        failures: key to message, for keys that could not be pushed and stay pending.
        seq: sequence number of the commit; 0 without one.
        commit: its id in hexadecimal; "" without one.
        n_set: keys written.
        n_deleted: keys deleted.
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


def push(
    copy: WorkingCopy,
    *,
    message: str = "",
    force: bool = False,
    conflict: ConflictPolicy | None = None,
) -> PushResult:
    """Commit everything pending in one atomic step.

    Args:
        copy: the working copy, writable.
        message: the commit's message, at most 4 KiB of UTF-8.
        force: commit even without changes, and replace even a head that moved.
        conflict: what to do with keys that changed on both sides; None uses the handle's own.

    Raises:
        ConflictError: keys changed on both sides; nothing was committed, all stay pending.
        ReplaceConflict: the database is to be replaced, but its head moved.
        OfflineError: the database was opened offline.
        PluginError: a hook of this very push called it.
        Exception: what a hook raised before the commit; nothing was committed, all stay pending.
        LockLostError, RemoteDeleted, RemoteUnavailable, OutcomeUnknown and others: nothing is
            lost; what is pending stays so, and the next push finds out what happened.
    """
    copy.require_writable("push")
    copy.require_online("push")
    if conflict is not None:
        check_policy(conflict)
    check_message(message)
    check_target(copy)
    check_reentry(copy, "push")
    with telling_evictions(copy) as failures:
        result = carry_out(
            copy,
            lambda: Push(copy, message, force, conflict or copy.settings.conflict),
            before=lambda: asked_before_push(copy, message),
        )
    if copy.hooks is not None:
        failures += copy.hooks.after_push(result)
        result = replace(result, hook_failures=tuple(failures))
    return result


def check_message(message: object) -> None:
    """Refuse what cannot be the message of a commit."""
    if not isinstance(message, str):
        raise TypeError(f"a commit message is a str, not {type(message).__name__}")
    if len(message.encode()) > MAX_MESSAGE_BYTES:
        raise ValueError("a commit message may have 4 KiB of UTF-8 at most")


def check_target(copy: WorkingCopy) -> None:
    """Raise unless there is a remote, and it can be written to."""
    if copy.remote is None:
        raise RemoteMissingError(
            "this database was opened without a remote; open it with one to push", op="push"
        )
    if not copy.remote.capabilities.writable:
        raise ReadOnlyError(
            "this remote can only be read; pass a connection with credentials", op="push"
        )


def carry_out(
    copy: WorkingCopy, make: Callable[[], Push], *, before: Callable[[], object] = lambda: None
) -> PushResult:
    """Run one logical write, alone on this handle.

    Args:
        copy: the working copy.
        make: the write, on the base that then stands.
        before: called first.

    Raises:
        PushInProgressError: another thread writes.
        EBookletError: see `push`.
    """
    if not copy.push_lock.acquire(blocking=False):
        raise PushInProgressError("another thread is pushing this database", op="push")
    try:
        before()
        with copy.base_lock:
            write = make()
            if copy.base is not None:
                return write.run()
            with clashes_named(copy.reachable_remote(), copy.db_key, copy.clock):
                return write.run()
    finally:
        copy.push_lock.release()


class Push:
    """One logical write: one write id over all its attempts.

    Attributes:
        op: what its commit says it is.
    """

    op = "push"

    def __init__(
        self, copy: WorkingCopy, message: str, force: bool, conflict: ConflictPolicy
    ) -> None:
        self.copy = copy
        self.message = message
        self.force = force
        self.conflict = conflict
        self.before = copy.base  # what keys that come into conflict now were based on
        self.write_id = copy.clock.token_bytes(16)
        self.placed: dict[str, Entry] = {}  # uploaded by an earlier attempt
        self.lengths: dict[bytes, int] = {}  # of the segments of earlier attempts
        self.kinds: dict[bytes, int] = {}
        self.metadata: tuple[bytes, int] | None = None  # as the last attempt wrote them

    def run(self) -> PushResult:
        """Try until the head has moved, or somebody has to decide."""
        copy = self.copy
        copy.sync()
        if copy.lease is not None:
            copy.lease.check()
            if copy.base is None:
                copy.lease.verify()  # no head yet in which a later holder could have left word
        in_step = copy.base is not None and copy.base.etag and not copy.journal.unanswered()
        if not in_step or not copy.settings.exclusive:
            self._meet(copy.heads.read())
        learn(copy)
        for attempt in range(_LOST_RACES):
            if attempt:
                pause = min(1.0, 0.02 * 2 ** min(attempt, 5))
                copy.clock.sleep(pause * chance(copy.clock))
            try:
                return self._attempt()
            except HeadMoved as moved:
                current = moved.current
            # Outside, so that what it raises does not drag an inner exception along.
            self._meet(current)
        raise ConflictError(
            "other writers won the race for the head every time; push again",
            op="push",
            key=copy.db_key,
        )

    def _meet(self, current: Snapshot | None) -> None:
        """Take in a head that this working copy has not built on yet."""
        copy = self.copy
        base = copy.base
        if current is None:
            if base is not None:
                raise RemoteDeleted(
                    "the remote database was deleted meanwhile; local data are kept. Open it "
                    "with flag 'c' to create it anew",
                    op="push",
                    key=copy.db_key,
                )
            return
        check_fence(current, copy.lease, copy.db_key)
        settle_landed(copy, current)
        base = copy.base
        moved = base is None or base.head.write_id != current.head.write_id
        if moved and copy.pending.replace and not self.force:
            raise ReplaceConflict(
                "the database is to be replaced, but another commit landed since it was opened; "
                "look at it first, or push with force_push=True",
                op="push",
                key=copy.db_key,
            )
        # Where hooks decide, a warning would come too early: they are asked before the commit.
        settle = report_none if has_rules(copy) else report_all
        advance_base(copy, current, settle, over_replacement=True)

    def _attempt(self) -> PushResult:
        copy = self.copy
        base = copy.base
        if base is not None and (reason := base.head.read_only_reason):
            raise UnsupportedFormatError(
                f"this database can only be read: {reason}", op="push", key=copy.db_key
            )
        with copy.lock:
            copy.pending.begin_push()
            replacing, metadata = copy.pending.replace, copy.pending.metadata
        outcome: Outcome | None = None
        try:
            outcome = self._write(base, replacing=replacing, metadata=metadata)
        finally:
            with copy.lock:
                copy.pending.end_push(outcome.covered if outcome is not None else {})
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
                    copy.journal.stored(key for key in done if outcome.covered[key] is not None)
                    copy.journal.settled(done)
        return outcome.result

    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        """Lay down what is new and move the head to it."""
        copy = self.copy
        # May drop changes that turn out to be none, so the keys are taken only after it.
        settle_conflicts(copy, self.conflict, self.before)
        with copy.lock:
            sets, deletes = sorted(copy.pending.sets), frozenset(copy.pending.deletes)
        uploader = self._uploader(base)
        try:
            draft = Draft(
                local=copy.local,
                nodes=copy.nodes,
                base=base,
                root=copy.view_root,
                params=copy.params,
                sealer=copy.sealer,
                uploader=uploader,
                placed=self.placed,
            )
            edits = draft.edits(sets, deletes)
            first = next(edits, None)
            if first is None and not (metadata or replacing or self.force or base is None):
                return Outcome(draft.covered, PushResult(updated=False), None)
            root = draft.build(chain(() if first is None else (first,), edits))
            head = self._next_head(base, draft, root, uploader, replacing=replacing)
            uploader.finish()
            self.lengths |= uploader.lengths()
            self.kinds |= uploader.kinds()
        finally:
            uploader.close()
        copy.journal.push_started(self.write_id, head.seq)
        snapshot = copy.heads.commit(head, encode_head(head), base, copy.lease)
        copy.nodes.remember(draft.node_data)
        result = PushResult(
            updated=True,
            seq=head.seq,
            commit=head.branch.commit.id.hex(),
            n_set=draft.n_set,
            n_deleted=draft.n_deleted,
            bytes_up=uploader.bytes_sent,
        )
        logger.info(
            "pushed commit %d: %d keys set, %d deleted", result.seq, result.n_set, result.n_deleted
        )
        return Outcome(draft.covered, result, snapshot)

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

    def _uploader(self, base: Snapshot | None) -> SegmentUploader:
        copy = self.copy
        remote = copy.reachable_remote()
        if (known := base or copy.former) is not None:
            copy.minter.floor_ms = known.head.gc.floor

        def mint() -> bytes:
            now_ms = remote.server_time_ms() or copy.clock.now_us() // 1000
            return copy.minter.mint(now_ms, copy.clock.token_bytes(10))

        return SegmentUploader(
            remote, copy.db_key, uuid=copy.uuid, write_id=self.write_id, mint=mint
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
        """Lay down the commit record and say what the head then says."""
        copy = self.copy
        now_us = copy.clock.now_us()
        now_ms = now_us // 1000
        last = base.head if base else None
        # A database that was deleted goes on counting where it had come to.
        former = copy.former.head if last is None and copy.former is not None else None
        known = last or former
        seq = known.seq + 1 if known else 1
        branch_name = last.default_branch if last else "main"
        # The new row names the commit's record, which comes after the log's nodes: these are laid
        # down once it is known what spills, and the row needs its place before it is there.
        kept, spilled = spill(known.recent if known else (), coming=1)
        log = last.log if last else None
        if spilled:
            log = copy.log_nodes.run(
                update(log, log_entries(spilled), log_params(copy.params), draft.place_log_node)
            ).root
            log_sids = log_segments(copy.log_nodes, log, draft.log_data)
        else:
            log_sids = set(last.hsegs) if last else set()
        metadata = self._metadata_fields(uploader)
        kept_ref = metadata.get("metadata_ref", last.metadata_ref if last else None)
        if isinstance(kept_ref, BlockRef):
            log_sids.add(kept_ref.sid)  # the head itself points there
        kept_keys = self._kept_keys(last)
        dictionaries = dictionaries_of(copy, last, uploader, anew=not kept_keys)
        log_sids.update(row.block.sid for row in dictionaries)
        commit = Commit(
            seq=seq,
            parents=(last.branch.commit.id,) if last else (),
            ms=now_ms,
            author=copy.settings.author,
            message=self.message,
            root=root,
            count=root.count if root else 0,
            value_bytes=draft.live.value_bytes,
            segs=(),
            fingerprint=fingerprint(copy.params, root),
            op="replace" if replacing and last else self.op,
            write_id=self.write_id,
        )
        commit, commit_ref = self._lay_commit(commit, kept_keys, draft, uploader)
        recent = (*kept, Recent(self.write_id, seq, now_ms, branch_name, commit_ref))
        fields = {
            "seq": seq,
            "write_id": self.write_id,
            "fence": max(known.fence if known else 0, copy.lease.token if copy.lease else 0),
            "tip": commit,
            "tip_root": self._inline_root(root, draft, last),
            "ms": now_ms,
            "version": copy.settings.version,
            **metadata,
            "dictionaries": dictionaries,
        }
        if last is None:
            last = first_head(
                uuid=copy.uuid,
                kind=copy.settings.kind,
                key_serializer=copy.settings.key_serializer,
                value_serializer=copy.settings.value_serializer,
                proto=self._proto(),
                params=copy.params,
                tip=commit,
                name=copy.db_key,
                former=former,
            )
        elif replacing:
            dropped = Trash(branch_name, last.branch.commit, now_ms)
            fields["trash"] = (*last.trash, dropped)
        head = next_head(
            last, tip_ref=commit_ref, recent=recent, log=log, log_sids=log_sids, **fields
        )
        return protected(head, copy.sealer)

    def _kept_keys(self, last: Head | None) -> Sequence[str]:
        """Ids of the keys that what is kept of the last head may lie under, metadata and dictionaries too."""
        return () if last is None else last.tip.key_ids

    def _metadata_fields(self, uploader: SegmentUploader) -> dict[str, object]:
        """The user's metadata: in the head while small, else in a block of their own."""
        copy = self.copy
        stored = copy.local.get_metadata() if copy.pending.metadata else None
        self.metadata = stored
        if stored is None:
            return {}
        data, timestamp = stored
        data = bytes(copy.sealer.seal(Kind.METADATA, data))
        inline = len(data) <= MAX_INLINE_METADATA
        return {
            "metadata": data if inline else None,
            "metadata_ref": None if inline else uploader.add_metadata(data),
            "metadata_timestamp": timestamp,
        }

    def _inline_root(self, root: NodeRef | None, draft: Draft, last: Head | None) -> bytes | None:
        if root is None:
            return None
        data = draft.node_data.get(root.block)
        if data is None and last is not None and last.tip.root == root:
            data = last.tip_root
        return data if data is not None and len(data) <= MAX_INLINE_ROOT else None

    def _lay_commit(
        self, commit: Commit, key_ids: Iterable[str], draft: Draft, uploader: SegmentUploader
    ) -> tuple[Commit, CommitRef]:
        """Complete the record's segment table, seal its words, and lay it down.

        `key_ids` are those of the keys that what is kept of the last snapshot lies under.

        The table holds the size of the very segment that the record ends, which depends on the
        record's own bytes: repeat until both agree.
        """
        writer = uploader.commit_writer()
        lengths = self.lengths | uploader.lengths()
        for _ in range(_FIXPOINT_ROUNDS):
            commit = replace(commit, segs=draft.live.table(lengths, self.kinds | uploader.kinds()))
            sealed = sealed_record(commit, self.copy.sealer, key_ids)
            data = encode_commit(sealed)
            size = writer.finished_size(BlockType.COMMIT, data)
            if lengths.get(writer.sid) == size:
                block = writer.add_block(BlockType.COMMIT, data)
                return sealed, CommitRef(block, commit_id(data), commit.seq)
            lengths[writer.sid] = size
        raise AssertionError("the size of a commit's segment does not settle")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to."""

    covered: Mapping[str, Entry | None]  # keys whose change is settled, and what the base now has
    result: PushResult
    snapshot: Snapshot | None  # None when there was nothing to commit
