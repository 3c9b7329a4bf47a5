"""Attaching: bringing a local half that was just opened into step with the remote."""

from __future__ import annotations

import warnings
from dataclasses import replace

from ebooklet.core.callers import stacklevel
from ebooklet.core.journal import ABSENT
from ebooklet.errors import EncryptionError
from ebooklet.ports.local_store import Condition
from ebooklet.services.afresh import newest
from ebooklet.services.confirming import settle_landed
from ebooklet.services.conflicts import UNRELATED
from ebooklet.services.founding import (
    have_sealed,
    is_to_be_sealed,
    join,
    make_founder,
    store_type,
)
from ebooklet.services.headless import find_headless, warn_headless
from ebooklet.services.metadata import take_metadata
from ebooklet.services.misplacing import look_around, settle_in
from ebooklet.services.pull import check_advance, take_in
from ebooklet.services.rebasing import drop_differing, rebase_unknown
from ebooklet.services.reconcile import reconcile, verify
from ebooklet.services.removal import let_go, was_deleted_here
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.switching import settle_branch
from ebooklet.services.working_copy import WorkingCopy


def attach(
    copy: WorkingCopy, current: Snapshot | None, condition: Condition, *, writes: bool
) -> None:
    """Learn what is pending, and take in what the remote has by now.

    Args:
        copy: its local half open, its journal not read yet.
        current: the head that stands; None when there is none, or nobody was asked.
        condition: how the local half was found.
        writes: whether this is for a writer, who may outlive a remote that is gone.

    Raises:
        EncryptionError: nothing was pushed yet, it is to be encrypted, and no key was given.
    """
    joined = writes and current is not None and join(copy, current)
    _take_over(copy, current, condition, writes=writes, joined=joined)
    _settle_encryption(copy, writes=writes)


def _take_over(
    copy: WorkingCopy,
    current: Snapshot | None,
    condition: Condition,
    *,
    writes: bool,
    joined: bool,
) -> None:
    local = copy.local
    if condition == "new":
        store_type(local, copy.settings.type)
        if writes and current is None and copy.asks_remote:
            make_founder(local, copy.journal.place.here)
    proto = copy.proto
    copy.reload()
    look_around(copy, current, writes=writes)
    if copy.elsewhere is not None:
        copy.proto = proto  # of the place that is asked; the base came from another
    gone = current is None and copy.asks_remote and copy.elsewhere is None
    if gone and (copy.base is not None or condition == "new"):
        headless = None if was_deleted_here(copy) else find_headless(copy)
        if headless is not None:
            warn_headless(copy, headless, writes=writes)
            _have_read_first(copy)
        elif writes and copy.base is not None:
            _outlive_remote(copy, condition)
            return
    # Without a base nothing says that what is stored here is fresh, however orderly the end was;
    # but of a founder's half nothing can have been fetched.
    baseless = copy.base is None and current is not None and condition != "new" and not joined
    if baseless or condition in ("edited", "crashed") or not copy.journal.intact:
        with local.exclusive(copy.lock_timeout):
            copy.reload()
            current = current and newest(copy, current)
            lost_base = copy.journal.lost_base
            # What the log does not name was not changed here, if it is whole and the file as we left
            # it: the log is written before the mark that says so.
            is_older = False
            names_all = condition == "clean" and copy.journal.intact and not local.changed_elsewhere
            if baseless and current is not None:
                check_advance(copy, current)
                settle_landed(copy, current)
            if copy.base is None and current is not None:
                current = settle_branch(copy, current, writes=writes) or current
                # A deletion of what was absent says nothing, and the key would come back unasked.
                rebase_unknown(copy, ABSENT, of_deletions=UNRELATED)
                copy.set_base(current)
                if lost_base and names_all:
                    _drop_stale(copy, current)
                else:
                    is_older = reconcile(copy, current, condition, related=False)
                copy.journal.write_base(current)
            elif lost_base and names_all and copy.base is not None:
                _drop_stale(copy, copy.base)
            else:
                is_older = reconcile(copy, copy.base, condition, related=True)
        if lost_base and not names_all:
            _warn_lost_base(copy)
        if is_older:
            _warn_older(copy)
    if condition in ("clean", "crashed") and local.writable:
        _finish_deletions(copy, condition)
    current = settle_branch(copy, current, writes=writes)
    if current is not None:
        verify(copy)
        take_in(copy, current)
        settle_in(copy)
    if copy.pending.replace:
        warnings.warn(
            "an earlier session opened this database with flag 'n' or cleared it, and has not "
            "pushed since: the next push replaces the whole remote. discard() cancels that",
            UserWarning,
            stacklevel=stacklevel(),
        )


def attach_anew(copy: WorkingCopy, current: Snapshot | None) -> None:
    """Start from nothing, over a remote that stays as it is until the next push replaces it."""
    if current is not None:
        check_advance(copy, current)
    store_type(copy.local, copy.settings.type)
    make_founder(copy.local, None)
    copy.journal.place.forget()
    copy.reload()
    if not copy.owns_local:  # built by the caller, and so not made anew by the open
        with copy.lock:
            copy.pending.clear()
            copy.pending.replace = copy.pending.metadata = False
            copy.journal.forget_base()
            copy.set_base(None)
            copy.journal.rewrite(copy.pending)
            copy.journal.all_gone()
            copy.local.clear()
    if current is not None:
        with copy.lock:
            copy.pending.replace = True
            copy.journal.rewrite(copy.pending)
            copy.set_base(current)
            copy.journal.write_base(current)
            copy.local.sync()
    else:
        have_sealed(copy.local, sealed=False)
    _settle_encryption(copy, writes=True)


def _settle_encryption(copy: WorkingCopy, *, writes: bool) -> None:
    """Where no head says so: see that the first push seals what was meant to be sealed."""
    if copy.base is not None or copy.sealer.seals:
        return
    if copy.keyring.wanted:
        if writes:
            copy.begin_sealing()
            have_sealed(copy.local, sealed=True)
    elif is_to_be_sealed(copy.local):
        raise EncryptionError(
            f"{copy.local.location} was made for an encrypted database that was not pushed yet: pass "
            "its encryption again, or make a new file without",
            op="open",
            key=copy.db_key,
        )


def _finish_deletions(copy: WorkingCopy, condition: Condition) -> None:
    """Remove what a killed `delete` or `clear` had journalled but not yet removed.

    After a crash what is stored may have been set since a `clear`, and is kept.
    """
    pending = copy.pending
    left = [key for key in pending.deletes if copy.local.contains(key)]
    if pending.replace and condition == "clean":
        stored = copy.local.keys()
        left += [key for key in stored if key not in pending.sets]
    if left:
        copy.journal.gone(left)
        copy.local.delete(left)
        copy.local.sync()


def _drop_stale(copy: WorkingCopy, base: Snapshot) -> None:
    """Drop local copies of a commit that nobody remembers, unless `base` has the same.

    A crash on the way leaves it to `reconcile`, which takes some that are left for changes.
    """
    if not copy.pending.replace:  # or else nothing but changes is stored here
        drop_differing(copy, base)
    if not copy.pending.metadata:
        take_metadata(copy, base.head)
    copy.local.sync()


def _warn_lost_base(copy: WorkingCopy) -> None:
    warnings.warn(
        f"what {copy.local.location} was last in step with is not known, as a file in "
        f"{copy.local.location}.ebk is damaged: values stored here that differ from the remote's "
        "count as changes made here, and may be old copies instead. Look through changes(), and "
        "discard() with flag 'w' what was not changed here; or begin with another file_path",
        UserWarning,
        stacklevel=stacklevel(),
    )


def _warn_older(copy: WorkingCopy) -> None:
    warnings.warn(
        f"{copy.local.location} looks like an older copy, beside a newer {copy.local.location}.ebk: "
        "values in it are older than those that it was in step with, or the latest keys are gone. "
        "All of that counts as changed with plain Booklet, and the next push brings the remote back "
        "to it. Look through changes(); if it is a copy, discard() takes what the remote has",
        UserWarning,
        stacklevel=stacklevel(),
    )


def _have_read_first(copy: WorkingCopy) -> None:
    """Have a push look at what stands by then, in place of the head that is known not to."""
    if copy.base is not None:
        copy.set_base(replace(copy.base, etag=""))


def _outlive_remote(copy: WorkingCopy, condition: Condition) -> None:
    """Go on from what is stored here: the remote that had the rest is gone."""
    base = copy.base
    if base is None:
        return
    if condition != "edited":  # or else somebody has put them there again with plain Booklet
        _finish_deletions(copy, condition)
    let_go(copy, base)
    n_kept = len(copy.pending.sets)
    n_lost = base.count - n_kept
    lost = f"; at least {n_lost} that were never fetched are lost with it" if n_lost > 0 else ""
    warnings.warn(
        f"the remote database {copy.location} is gone. The next push creates it anew from the "
        f"{n_kept} keys stored here{lost}",
        UserWarning,
        stacklevel=stacklevel(),
    )
