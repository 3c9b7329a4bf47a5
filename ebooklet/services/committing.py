"""Committing: the record of a commit, and the head that then names it (FORMAT §2, §5).

Nothing here moves a head: what is laid down is seen by nobody until that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ebooklet.core.advance import FIRST_BRANCH, first_head, next_head
from ebooklet.core.commit import Commit, commit_id, encode_commit
from ebooklet.core.head import Head, Proto, Recent, Trash, spill
from ebooklet.core.index.fingerprint import fingerprint
from ebooklet.core.index.update import update
from ebooklet.core.notes import seal_notes
from ebooklet.core.refs import BlockRef, CommitRef, NodeRef
from ebooklet.core.sealing import Content, Sealer
from ebooklet.core.segment import BlockType, SegmentWriter
from ebooklet.services.dictionaries import dictionaries_of
from ebooklet.services.draft import Draft
from ebooklet.services.log import log_entries, log_params, log_segments
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

MAX_INLINE_ROOT: Final = 16 * 1024  # bytes of an encoded root node that the head carries
MAX_INLINE_METADATA: Final = 64 * 1024
_FIXPOINT_ROUNDS: Final = 100
_PATIENT_ROUNDS: Final = 8  # enough wherever the size settles by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one attempt of a write has laid down, and is to say of it."""

    copy: WorkingCopy
    base: Snapshot | None  # that the new head is to replace
    proto: Proto
    draft: Draft
    root: NodeRef | None
    uploader: SegmentUploader
    write_id: bytes
    op: str  # what the commit says it is
    message: str
    replacing: bool  # the commit takes the place of the base's, which goes to the trash
    metadata: Mapping[str, object]  # fields of the head, where they change
    kept_keys: Sequence[str]  # ids of keys that what is kept of the base may lie under
    lengths: Mapping[bytes, int]  # of the segments of earlier attempts, in bytes
    segment_kinds: Mapping[bytes, int]  # and what they hold
    merged: Sequence[bytes] = ()  # ids of commits it takes in, parents beside the base's


def stored_metadata(
    metadata: tuple[bytes, int] | None, sealer: Sealer, uploader: SegmentUploader
) -> Mapping[str, object]:
    """The head's fields of the user's metadata: in it while small, else in a block of their own.

    Args:
        metadata: encoded, and their timestamp in µs; None changes nothing.
        sealer: of the database.
        uploader: where the block goes.
    """
    if metadata is None:
        return {}
    data, timestamp = metadata
    data = bytes(sealer.seal(Content.METADATA, data))
    inline = len(data) <= MAX_INLINE_METADATA
    return {
        "metadata": data if inline else None,
        "metadata_ref": None if inline else uploader.add_metadata(data),
        "metadata_timestamp": timestamp,
    }


def compose_head(attempt: Attempt) -> Head:
    """Lay down the commit record and say what the head then says."""
    copy, draft, root, uploader = attempt.copy, attempt.draft, attempt.root, attempt.uploader
    now_ms = copy.clock.now_us() // 1000
    last = attempt.base.head if attempt.base else None
    # A database that was deleted goes on counting where it had come to.
    former = copy.former.head if last is None and copy.former is not None else None
    known = last or former
    seq = known.seq + 1 if known else 1
    branch = attempt.base.branch if attempt.base else FIRST_BRANCH
    moves_default = last is None or branch == last.default_branch
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
    kept_ref = attempt.metadata.get("metadata_ref", last.metadata_ref if last else None)
    if isinstance(kept_ref, BlockRef):
        log_sids.add(kept_ref.sid)  # the head itself points there
    dictionaries = dictionaries_of(copy, last, uploader, anew=not attempt.kept_keys)
    log_sids.update(row.block.sid for row in dictionaries)
    commit = Commit(
        seq=seq,
        parents=(attempt.base.ref.id, *attempt.merged) if attempt.base else (),
        ms=now_ms,
        author=copy.settings.author,
        message=attempt.message,
        root=root,
        count=root.count if root else 0,
        value_bytes=draft.live.value_bytes,
        segs=(),
        fingerprint=fingerprint(copy.params, root),
        op=attempt.op,
        write_id=attempt.write_id,
        branch="" if moves_default else branch,
    )
    commit, commit_ref = _lay_commit(commit, attempt)
    now_ms = commit.ms
    copy.heads.know(commit_ref, commit)
    recent = (*kept, Recent(attempt.write_id, seq, now_ms, branch, commit_ref))
    fields = {
        "seq": seq,
        "write_id": attempt.write_id,
        "fence": max(known.fence if known else 0, copy.lease.token if copy.lease else 0),
        "ms": now_ms,
        "version": copy.settings.version,
        **attempt.metadata,
        "dictionaries": dictionaries,
    }
    if moves_default:
        fields |= {"tip": commit, "tip_root": _inline_root(root, draft, last)}
    if last is None:
        last = first_head(
            uuid=copy.uuid,
            database_type=copy.settings.type,
            key_serializer=copy.settings.key_serializer,
            value_serializer=copy.settings.value_serializer,
            proto=attempt.proto,
            params=copy.params,
            tip=commit,
            name=copy.db_key,
            former=former,
        )
    elif attempt.replacing:
        dropped = Trash(branch, last.branches[branch].commit, now_ms)
        fields["trash"] = (*last.trash, dropped)
    head = next_head(
        last,
        tip_ref=commit_ref,
        branch=branch,
        keep=copy.settings.keep,
        recent=recent,
        log=log,
        log_sids=log_sids,
        **fields,
    )
    return copy.sealer.protect(head)


def _inline_root(root: NodeRef | None, draft: Draft, last: Head | None) -> bytes | None:
    if root is None:
        return None
    data = draft.node_data.get(root.block)
    if data is None and last is not None and last.tip.root == root:
        data = last.tip_root
    return data if data is not None and len(data) <= MAX_INLINE_ROOT else None


def _lay_commit(commit: Commit, attempt: Attempt) -> tuple[Commit, CommitRef]:
    """Complete the record's segment table, seal its words, and lay it down."""
    uploader, live = attempt.uploader, attempt.draft.live
    writer = uploader.commit_writer()
    lengths = {**attempt.lengths, **uploader.lengths()}
    kinds = {**attempt.segment_kinds, **uploader.segment_kinds()}

    def completed(commit: Commit, size: int) -> Commit:
        table = live.table({**lengths, writer.sid: size}, kinds)
        return seal_notes(replace(commit, segs=table), attempt.copy.sealer, attempt.kept_keys)

    return lay_record(commit, writer, completed)


def lay_record(
    commit: Commit, writer: SegmentWriter, completed: Callable[[Commit, int], Commit]
) -> tuple[Commit, CommitRef]:
    """Lay down a commit record that says how long the segment is that it ends.

    That depends on the record's own bytes, by the checksum in the segment's footer too: where it is
    a small number, it takes fewer bytes. Once in 60,000 records two sizes lead to one another for
    ever; such a record is dated a millisecond later, which gives it another checksum.

    Args:
        commit: all but what depends on the size.
        writer: of the segment.
        completed: the record as it is stored, if the segment is so many bytes long.

    Returns:
        The record as it was stored, and where.
    """
    size = 0
    for turn in range(_FIXPOINT_ROUNDS):
        stored = completed(commit, size)
        data = encode_commit(stored)
        said, size = size, writer.finished_size(BlockType.COMMIT, data)
        if size == said:
            block = writer.add_block(BlockType.COMMIT, data)
            return stored, CommitRef(block, commit_id(data), commit.seq)
        if turn >= _PATIENT_ROUNDS:
            commit = replace(commit, ms=commit.ms + 1)
    raise AssertionError("the size of a commit's segment does not settle")
