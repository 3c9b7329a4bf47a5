"""Pushing: new immutable segments, then one atomic move of the head (FORMAT §6)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Final, TypeVar

from ebooklet.ports.hooks import HookFailure
from ebooklet.services.attempts import Outcome, PushResult, Write, carry_out, nothing_to_do
from ebooklet.services.hooking import asked_before_push, telling_evictions
from ebooklet.services.maintenance.compaction import compact_after_push
from ebooklet.services.maintenance.minor import build_compacting
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.readiness import check_ready
from ebooklet.services.settling import settle_conflicts
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.push")

Result = TypeVar("Result", bound=PushResult)

_WRITTEN_AGAIN: Final = "written again while its conflict was decided; push again"


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
        force: commit even without changes, replace even a head that moved, and create the
            database here although the copy was last in step with another place, or segments of one
            without a head lie here.
        conflict: what to do with keys that changed on both sides; None uses the handle's own.

    Raises:
        ConflictError: keys changed on both sides; nothing was committed, all stay pending.
        ReplaceConflict: the database is to be replaced, but its head moved.
        RemoteMissingError: there is none here, and the copy was last in step elsewhere, or the
            segments of one whose head was lost are here.
        OfflineError: the database was opened offline.
        PluginError: a hook of this very push called it.
        Exception: what a hook raised before the commit; nothing was committed, all stay pending.
        LockLostError, RemoteDeleted, RemoteUnavailable, OutcomeUnknown and others: nothing is
            lost; what is pending stays so, and the next push finds out what happened.
    """
    check_ready(copy, "push", message, conflict)
    with telling_evictions(copy) as failures:
        result = carry_out(
            copy,
            lambda: Push(copy, message, force, conflict or copy.settings.conflict),
            before=lambda: asked_before_push(copy, message),
        )
    result = told_hooks(copy, result, failures)
    if result.updated:
        compact_after_push(copy)
    return result


def told_hooks(copy: WorkingCopy, result: Result, failures: Sequence[HookFailure]) -> Result:
    """Tell the hooks of a commit; the result, with all that hooks failed at."""
    if copy.hooks is None:
        return result
    return replace(result, hook_failures=(*failures, *copy.hooks.after_push(result)))


class Push(Write):
    """The write of everything that is pending."""

    def _settles_pending(self) -> bool:
        return True

    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        copy = self.copy
        # May drop changes that turn out to be none, so the keys are taken only after it.
        held_back = settle_conflicts(copy, self.conflict, self.before)
        with copy.lock:
            sets = sorted(key for key in copy.pending.sets if key not in held_back)
            deletes = frozenset(copy.pending.deletes) - held_back
        failures = dict.fromkeys(held_back, _WRITTEN_AGAIN)
        uploader = self._uploader(base)
        try:
            draft = self._draft(base, copy.view_root, uploader, self.placed)
            edits = draft.edits(sets, deletes)
            first = next(edits, None)
            if first is None and not (metadata or replacing or self.force or base is None):
                return Outcome(draft.covered, nothing_to_do(base, failures=failures), None)
            edits = chain(() if first is None else (first,), edits)
            root = build_compacting(
                copy, draft, edits, None if copy.view_root is None else base, uploader
            )
            head = self._next_head(base, draft, root, uploader, replacing=replacing)
            self._finish(uploader)
        finally:
            uploader.close()
        snapshot = self._land(head, base, draft)
        n_deleted = base.count if replacing and base is not None else draft.n_deleted
        result = self._pushed(
            snapshot, uploader, failures=failures, n_set=draft.n_set, n_deleted=n_deleted
        )
        logger.info(
            "pushed commit %d: %d keys set, %d deleted", result.seq, result.n_set, result.n_deleted
        )
        return Outcome(draft.covered, result, snapshot)
