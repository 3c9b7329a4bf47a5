"""Pulling: taking in what others committed, without touching what is pending here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from ebooklet.core.callers import stacklevel
from ebooklet.core.journal import UNKNOWN
from ebooklet.errors import RemoteMissingError, RemoteRewound, UUIDMismatchError
from ebooklet.ports.hooks import HookFailure
from ebooklet.services.afresh import newest
from ebooklet.services.confirming import confirm_writes, settle_landed
from ebooklet.services.conflicts import describe, find_conflicts, standing_conflicts
from ebooklet.services.dictionaries import take_dictionaries
from ebooklet.services.founding import join
from ebooklet.services.headless import REMEDY, describe_headless, find_headless
from ebooklet.services.hooking import check_reentry, telling_evictions
from ebooklet.services.lostheads import is_lost, put_back
from ebooklet.services.metadata import committed_metadata, take_metadata
from ebooklet.services.rebasing import leave_base
from ebooklet.services.resolving import has_rules
from ebooklet.services.settling import settle_pulled
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull found.

    Attributes:
        updated: whether the remote had moved.
        n_changed: keys that differ from what this copy knew. Of values, only those stored locally
            are dropped, to be fetched again when they are read.
        conflicts: keys that changed both here and there, by now or before; they stay pending.
        seq: sequence number of the commit this copy now stands on; 0 without a remote.
        hook_failures: hooks that raised, which stopped nothing.
    """

    updated: bool
    n_changed: int = 0
    conflicts: tuple[str, ...] = ()
    seq: int = 0
    hook_failures: tuple[HookFailure, ...] = ()

    def __bool__(self) -> bool:
        return self.updated


# Given the keys in conflict, does what is to be done, and says which are to be warned of.
Settle: TypeAlias = Callable[[list[str]], list[str]]


def report_all(conflicts: list[str]) -> list[str]:
    """Leave all conflicts as they are."""
    return conflicts


def report_none(_: list[str]) -> list[str]:
    """Leave all conflicts as they are, for somebody who will settle them in a moment."""
    return []


def pull(copy: WorkingCopy) -> PullResult:
    """Bring this copy up to the remote's newest commit; pending changes stay.

    Raises:
        RemoteMissingError: this copy had a remote, and it is gone.
        RemoteRewound: the remote shows an older head than one seen before.
        OfflineError: the database was opened offline.
        ReadOnlyError: it was opened at a version, which stays what it is.
        PluginError: a hook of this very pull called it.
        Exception: what a hook raised about a conflict. The pull has happened; the conflicts it met
            stay.
    """
    copy.require_online("pull")
    copy.require_following("pull")
    check_reentry(copy, "pull")
    with telling_evictions(copy) as failures:
        result = _pull(copy)
    if copy.hooks is not None:
        failures += copy.hooks.after_pull(result)
        result = replace(result, hook_failures=tuple(failures))
    return result


def _pull(copy: WorkingCopy) -> PullResult:
    # A head read before another thread moved the base would look like a rewound remote.
    with copy.base_lock:
        current = copy.heads.read()
        if current is None:
            if copy.base is not None:
                raise RemoteMissingError(_why_missing(copy), op="pull", key=copy.db_key)
            return PullResult(updated=False)
        copy.stand_off(None)
        if copy.settings.writable:
            join(copy, current)
        settle = partial(settle_pulled, copy, before=copy.base) if has_rules(copy) else report_all
        result = take_in(copy, current, settle)
        if result.updated:
            return result
        return replace(result, conflicts=tuple(sorted(standing_conflicts(copy))))


def _why_missing(copy: WorkingCopy) -> str:
    if copy.elsewhere is not None:
        return (
            f"there is no database at {copy.location}: this copy was last in step with "
            f"{copy.elsewhere}; open it with that"
        )
    if (found := find_headless(copy)) is not None:
        return f"{describe_headless(copy, found)}: {REMEDY}. Local data are kept"
    return "the remote database is gone; local data are kept"


def take_in(copy: WorkingCopy, current: Snapshot, settle: Settle = report_all) -> PullResult:
    """`advance_base`, borrowing the local store from other readers where that is needed."""
    base = copy.base
    if copy.local.writable:
        return advance_base(copy, current, settle)
    if base is not None and base.is_as(current):
        check_advance(copy, current)
        with copy.lock:
            copy.set_base(current)
        return PullResult(updated=False, seq=current.commit.seq)
    with copy.local.exclusive(copy.lock_timeout):
        copy.reload()
        return advance_base(copy, newest(copy, current), settle)


def advance_base(
    copy: WorkingCopy,
    current: Snapshot,
    settle: Settle = report_all,
    *,
    over_replacement: bool = False,
) -> PullResult:
    """Make `current` the base: drop local copies that are stale, keep what is pending.

    A crash at any point leaves a state in which every value stored locally is pending, or equal
    in the old base and in the new one.
    """
    if (base := copy.base) is not None and is_lost(copy, current):
        found = put_back(copy, current)
        if found is None:
            return PullResult(updated=False, seq=base.commit.seq)
        current = found
    check_advance(copy, current)
    settle_landed(copy, current)
    lost = confirm_writes(copy, current)
    base = copy.base
    if base is not None and base.is_as(current):
        with copy.lock:
            copy.set_base(current)
        take_dictionaries(copy, current)
        return PullResult(updated=False, seq=current.commit.seq)
    ahead = base is not None and current.head.seq > base.head.seq
    if base is not None and ahead and copy.pending.replace and not over_replacement:
        # A replacement never rebases: what it was decided on has to stand, or be looked at again.
        return PullResult(updated=False, seq=base.commit.seq)
    copy.adopt(current)
    metadata_met = _meet_metadata(copy, base, current)
    with copy.moving():
        moved = leave_base(copy, base, current)
        with copy.lock:
            if base is not None and ahead and copy.pending.replace and not over_replacement:
                # Cleared by another thread since: what it saw is not what would be replaced.
                return PullResult(updated=False, seq=base.commit.seq)
            lost = [key for key in lost if key in copy.pending]
            copy.pending.set_bases(lost, UNKNOWN)
            copy.journal.rebased(copy.pending, lost)
            _settle_on(copy, current, reshaped=moved.reshaped)
    if metadata_met:
        warnings.warn(
            "the user's metadata changed both here and in the remote; a push puts yours in the place "
            "of the remote's, which discard() before it takes",
            UserWarning,
            stacklevel=stacklevel(),
        )
    conflicts = settle(find_conflicts(copy))
    if conflicts:
        warnings.warn(
            f"{describe(conflicts)} changed both here and in the remote; your changes stay pending "
            "until they are discarded or pushed with conflict='ours'",
            UserWarning,
            stacklevel=stacklevel(),
        )
    return PullResult(
        updated=True, n_changed=moved.n_changed, conflicts=tuple(conflicts), seq=current.commit.seq
    )


def _settle_on(copy: WorkingCopy, current: Snapshot, *, reshaped: bool) -> None:
    """Make `current` the base, in memory and on disk."""
    copy.pending.shape += reshaped
    if not copy.pending.metadata:
        take_metadata(copy, current.head)
    take_dictionaries(copy, current)
    copy.pending.absorb()
    copy.journal.flush(copy.pending)
    copy.local.sync()
    copy.set_base(current)
    copy.journal.write_base(current)


def check_advance(copy: WorkingCopy, current: Snapshot) -> None:
    """Refuse a head of another database, and one older than this copy has already seen.

    Raises:
        UUIDMismatchError: it is another database's.
        RemoteRewound: it is older; in mode lock, where that can happen, a warning instead.
    """
    head = current.head
    if head.uuid != copy.uuid:
        raise UUIDMismatchError(
            f"the local data belong to database {copy.uuid}, the remote is {head.uuid}; nothing "
            "was changed. Open the remote with another file_path and set there what is only here; "
            "flag 'n' would replace the remote database at its next push",
            op="pull",
            key=copy.db_key,
        )
    if copy.base is None or not current.is_behind(copy.base):
        return
    seen = copy.base.head
    if head.proto.mode == "lock":
        # A delayed write can undo a later commit here; what was pushed is pending again by now.
        warnings.warn(
            f"the remote fell back from commit {seen.seq} to {head.seq}: this server does not "
            "honour conditional writes. What this copy had pushed is pending again",
            UserWarning,
            stacklevel=stacklevel(),
        )
        return
    shown, known = head.seq, seen.seq
    if head.encrypted and head.tip.seq < seen.tip.seq:  # which nobody can make up
        shown, known = head.tip.seq, seen.tip.seq
    raise RemoteRewound(
        f"the remote shows commit {shown}, but this copy has already seen {known}: a stale or "
        "restored head; nothing was changed. Try again first, and if it stays so, look at the "
        f"remote with fsck. Only if it was restored on purpose, remove {copy.local.location}.ebk "
        "to accept it, which gives up the record of what is pending: deletions are forgotten, and "
        "every value stored here that differs from the remote's counts as a change",
        op="pull",
        key=copy.db_key,
    )


def _meet_metadata(copy: WorkingCopy, base: Snapshot | None, current: Snapshot) -> bool:
    """Whether pending metadata meet others than those they were changed from; equal ones settle."""
    if not copy.pending.metadata:
        return False
    before, now = (
        (None, None, None)
        if snapshot is None
        else (snapshot.head.metadata, snapshot.head.metadata_ref, snapshot.head.metadata_timestamp)
        for snapshot in (base, current)
    )
    if before == now:
        return False
    theirs = committed_metadata(copy, current.head)
    with copy.lock:
        ours = copy.local.get_metadata()
        if ours is None or theirs is None or ours[0] != theirs[0]:
            return True
        copy.pending.metadata = False
        copy.journal.metadata(pending=False)
    return False
