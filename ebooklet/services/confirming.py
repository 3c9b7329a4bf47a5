"""What became of head writes whose answer this copy never saw, or must not trust (FORMAT §6).

Every head write is journalled before it is sent. If its answer is lost, or the process with it,
the next head read tells: a write that landed is part of the history that the head names. What it
covered is then settled as if the answer had come, however many others have committed since.
"""

from __future__ import annotations

from ebooklet.core.advance import as_of
from ebooklet.core.head import Head, Recent, encode_head
from ebooklet.core.journal import UNKNOWN
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError
from ebooklet.services.commits import read_record
from ebooklet.services.entries import equal_here
from ebooklet.services.log import find_row
from ebooklet.services.metadata import committed_metadata, take_metadata
from ebooklet.services.pending import Covered
from ebooklet.services.rebasing import leave_base
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


def settle_landed(copy: WorkingCopy, current: Snapshot) -> None:
    """Make the newest write of ours that landed unnoticed the base; what it covered is settled.

    Without this a later commit of somebody else's on the same key would look like a conflict with
    changes that were pushed long ago.
    """
    if not copy.journal.unanswered():
        return
    copy.adopt(current)
    rows = [
        row
        for write_id, seq in copy.journal.unanswered().items()
        if (row := _find(copy, current.head, seq, write_id)) is not None
    ]
    newest = max(rows, key=lambda row: row.seq, default=None)
    base = copy.base
    if newest is None or (base is not None and base.head.seq > newest.seq):
        return
    landed = _snapshot(copy, current, newest)
    if landed is not None:
        _settle(copy, landed)


def confirm_writes(copy: WorkingCopy, current: Snapshot, *, moves: bool = True) -> list[str]:
    """Note which head writes in doubt stand in the history of a head just read.

    Args:
        copy: the working copy.
        current: that head.
        moves: the caller makes it the base. Otherwise writes that are lost stay in doubt: that they
            were lost has to be known when the base is left, which may be one of them. And so do those
            that landed unanswered: what they covered is settled by `settle_landed` alone.

    Returns:
        Keys of lost writes, pending again (mode lock).
    """
    if not copy.journal.in_doubt:
        return []
    landed: dict[bytes, bool] = {}
    for write_id, seq in copy.journal.in_doubt.items():
        if _find(copy, current.head, seq, write_id) is not None:
            if moves or copy.journal.awaits(write_id):
                landed[write_id] = True
        elif moves and (current.head.proto.mode == "lock" or current.head.seq >= seq):
            landed[write_id] = False
        # Else the head that it was to replace still stands, and it may yet arrive.
    base = copy.base
    with copy.lock:
        copy.pending.absorb()
        # An earlier session's write was lost after it became the base: whatever it covered is
        # still pending, on a base that is no part of history.
        orphaned = (
            base is not None
            and landed.get(base.head.write_id) is False
            and not copy.journal.awaits(base.head.write_id)
        )
        lost = copy.journal.confirm(copy.pending, landed)
        if orphaned:
            tables = (copy.pending.sets, copy.pending.deletes)
            lost += [k for table in tables for k, known in table.items() if known is UNKNOWN]
        return list(dict.fromkeys(lost))


def _find(copy: WorkingCopy, head: Head, seq: int, write_id: bytes) -> Recent | None:
    row = head.find_write(write_id)
    if row is None and head.seq > seq:
        row = find_row(copy.log_nodes, head, seq, write_id)
    return row


def _snapshot(copy: WorkingCopy, current: Snapshot, row: Recent) -> Snapshot | None:
    """The snapshot that a write of ours made; None when it cannot be told any more."""
    head = current.head
    if row.branch != current.branch:
        return None
    if head.write_id == row.write_id:
        return current
    try:
        record = read_record(copy.reachable_remote(), copy.db_key, row.commit)
    except (ObjectNotFound, RemoteIntegrityError):
        # No longer retained, or damaged, which must not stop all pushes: every key is compared.
        return None
    then = as_of(head, row, record)
    data = encode_head(then)
    if current.other is None:
        return Snapshot(then, data, "")
    return Snapshot(then, data, "", current.other, record)


def _settle(copy: WorkingCopy, landed: Snapshot) -> None:
    """Take over what a push would have, had its answer come."""
    base, pending = copy.base, copy.pending
    again = base is not None and base.is_as(landed)
    with copy.moving():
        if not again:
            leave_base(copy, base, landed)
        with copy.lock:
            pending.begin_push()
            sets, deletes = sorted(pending.sets), sorted(pending.deletes)
        try:
            entries = copy.nodes.lookup(landed.root, (*sets, *deletes))
            covered = Covered(
                [*equal_here(copy, sets, entries)], [key for key in deletes if key not in entries]
            )
            theirs = committed_metadata(copy, landed.head) if pending.metadata else None
        except BaseException:
            with copy.lock:
                pending.end_push(Covered())
            raise
        with copy.lock:
            pending.absorb()
            # Keys of it of which nothing is pending were cleared since. Then what is pending is all
            # that is to be left, and none of it is settled, however equal.
            known = sum(key in pending for key in entries)
            pending.replace = pending.replace and known < landed.count
            if pending.replace:
                covered = Covered()
            pending.end_push(covered)
            # Whatever else is pending was changed after that write, so it stands on it.
            rest = [*pending.sets, *pending.deletes]
            pending.set_bases(rest, UNKNOWN)
            if pending.metadata and copy.local.get_metadata() == theirs:
                pending.metadata = False
            pending.shape += 1
            if not pending.metadata:
                # Discarded since, or settled: what is stored must not pass for a change later.
                take_metadata(copy, landed.head)
                copy.local.sync()
            copy.set_base(landed)
            copy.journal.committed(pending, covered, landed, proven=True)
            copy.journal.rebased(pending, rest)
