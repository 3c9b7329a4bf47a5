"""Conflicts settled: each as `resolving` decides it, once all are decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from ebooklet.core import merge
from ebooklet.core.journal import ABSENT, UNKNOWN
from ebooklet.core.refs import NodeRef
from ebooklet.errors import (
    ConflictError,
    ObjectNotFound,
    RemoteIntegrityError,
    SnapshotExpired,
)
from ebooklet.ports.hooks import Conflict
from ebooklet.services.commits import read_record
from ebooklet.services.conflicts import (
    UNRELATED,
    describe,
    drop_changes,
    find_conflicts,
    ours_of,
)
from ebooklet.services.entries import base_entries
from ebooklet.services.fetching import fetch_values, values_of
from ebooklet.services.marking import may_be_here
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.resolving import Answer, Merged, looks_at_values, resolve
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

_BATCH_KEYS: Final = 100  # whose values are held at once


class Decision(NamedTuple):
    """What one key in conflict is to be, and what it was here when that was decided."""

    answer: Answer
    ours: merge.State


Decisions: TypeAlias = Mapping[str, Decision]


def decide(
    copy: WorkingCopy,
    keys: Sequence[str],
    before: Snapshot | None,
    policy: ConflictPolicy = "error",
) -> Decisions:
    """Ask hooks, and the caller's function, about keys in conflict.

    What they raise comes out, and nothing has changed.

    Args:
        copy: the working copy, of whose locks none is held but the one on the base.
        keys: which, sorted.
        before: a snapshot that was the base before these keys came into conflict, if there is one.
        policy: what decides where no hook does.

    Returns:
        Those that were decided, by key.
    """
    decided: dict[str, Decision] = {}
    if not looks_at_values(copy, policy):
        return decided
    for at in range(0, len(keys), _BATCH_KEYS):
        for conflict, ours in _conflicts(copy, keys[at : at + _BATCH_KEYS], before):
            answer = resolve(copy, conflict, policy)
            if answer is not None:
                decided[conflict.key] = Decision(answer, ours)
    return decided


def settle_pulled(copy: WorkingCopy, keys: Sequence[str], before: Snapshot | None) -> list[str]:
    """Ask hooks about conflicts that a pull met, and do as they say.

    What is kept stays pending as a change of what the remote has now, and is no conflict any more.

    Returns:
        Those that nobody decided.
    """
    decided = decide(copy, keys, before)
    with copy.lock:
        standing = _standing(copy, decided)
        kept = [key for key, answer in standing.items() if answer == "ours"]
        copy.pending.set_bases(kept, UNKNOWN)
        copy.journal.rebased(copy.pending, kept)
        _take_theirs(copy, standing)
    return [key for key in keys if key not in decided]


def settle_conflicts(
    copy: WorkingCopy, policy: ConflictPolicy, before: Snapshot | None = None
) -> frozenset[str]:
    """Settle conflicts before a push writes anything: as hooks say, the others by the policy.

    Returns:
        Keys that were written again while they were decided: pending, in conflict, and not to be
        pushed now.

    Raises:
        ConflictError: the policy is "error" and conflicts are left; everything stays pending.
        Exception: what a hook, or the caller's function, raised; everything stays pending.
    """
    found = find_conflicts(copy)
    decided = decide(copy, found, before, policy if callable(policy) else "error")
    conflicts = [key for key in found if key not in decided]
    if conflicts and policy == "error":
        raise ConflictError(
            f"{describe(conflicts)} changed both here and in the remote; push with "
            "conflict='ours' to keep yours, or with conflict='theirs', or discard() the changes here, "
            "to take the remote's",
            keys=conflicts,
            op="push",
        )
    with copy.lock:
        standing = _standing(copy, decided)
        _take_theirs(copy, standing)
        _keep_merged(
            copy,
            {key: answer.value for key, answer in standing.items() if isinstance(answer, Merged)},
        )
    if policy == "theirs":
        drop_changes(copy, conflicts)
    return frozenset(decided.keys() - standing.keys())


def _standing(copy: WorkingCopy, decided: Decisions) -> dict[str, Answer]:
    """The answers about keys that are still what they were when these were given."""
    copy.pending.absorb()
    return {
        key: decision.answer
        for key, decision in decided.items()
        if key in copy.pending and ours_of(copy, key) == decision.ours
    }


def _take_theirs(copy: WorkingCopy, answers: Mapping[str, Answer]) -> None:
    drop_changes(copy, [key for key, answer in answers.items() if answer == "theirs"])


def _keep_merged(copy: WorkingCopy, merged: Mapping[str, bytes | None]) -> None:
    """Store what was made of both sides (None = absent) as a change of what the remote has now.

    A crash on the way must not leave ours on the new base, which would give up theirs without a
    word, nor the merged value on the old one, to be merged with theirs a second time. In between
    the base is nobody's, and what is stored a conflict.
    """
    if not merged:
        return
    keys = list(merged)
    copy.pending.set_bases(keys, UNRELATED)
    copy.journal.rebased(copy.pending, keys)
    copy.sync()
    moment = copy.clock.now_us()
    gone = [key for key, value in merged.items() if value is None]
    values = {key: value for key, value in merged.items() if value is not None}
    # What is noted is what is stored then, also where a full disk, say, ends it half way.
    try:
        if gone:
            for key in gone:
                copy.pending.become(key, deleted_at=moment)
            copy.journal.deleted(copy.pending, gone)
            copy.local.delete(gone)
        copy.local.set_many((key, value, moment) for key, value in values.items())
    finally:
        for key in keys:
            if may_be_here(copy, key):
                copy.pending.become(key, deleted_at=None)
    copy.sync()
    copy.pending.set_bases(keys, UNKNOWN)
    copy.journal.rebased(copy.pending, keys)


def _conflicts(
    copy: WorkingCopy, keys: Sequence[str], before: Snapshot | None
) -> Iterator[tuple[Conflict, merge.State]]:
    entries = base_entries(copy, keys)
    theirs = values_of(copy, entries.values())
    bases = _bases(copy, keys, before)
    for key in keys:
        with copy.lock:
            copy.pending.absorb()
            state = ours_of(copy, key)
            found = None if state is merge.ABSENT else copy.local.get_entry(key)
            deleted = copy.pending.delete_times.get(key)
        conflict = Conflict(
            key=key,
            base=bases.get(key),
            ours=found.value if found is not None else None,
            theirs=theirs.get(key),
            ours_timestamp=found.timestamp if found is not None else deleted,
            theirs_timestamp=entries[key].timestamp if key in entries else None,
            base_known=key in bases,
        )
        yield conflict, state


def _bases(
    copy: WorkingCopy, keys: Sequence[str], before: Snapshot | None
) -> dict[str, bytes | None]:
    """What both sides started from, None = absent, as far as it can still be told."""
    with copy.lock:
        digests = {k: copy.pending.sets.get(k, copy.pending.deletes.get(k)) for k in keys}
    bases: dict[str, bytes | None] = {k: None for k, digest in digests.items() if digest == ABSENT}
    sought = {k for k, digest in digests.items() if digest not in (ABSENT, UNKNOWN, UNRELATED)}
    for root in _earlier_roots(copy, before):
        if not sought:
            break
        try:
            entries = [
                entry
                for entry in copy.nodes.lookup(root, sorted(sought)).values()
                if entry.digest == digests[entry.key]
            ]
            values = list(fetch_values(copy, entries))
        except (ObjectNotFound, RemoteIntegrityError, SnapshotExpired):
            continue  # swept since
        bases.update((entry.key, value) for entry, value in values if isinstance(value, bytes))
        sought -= bases.keys()
    return bases


def _earlier_roots(copy: WorkingCopy, before: Snapshot | None) -> Iterator[NodeRef | None]:
    """Roots of snapshots that keys may have been based on, the likeliest first.

    Those of the head's recent commits cost a request each, so they are asked for one by one.
    """
    if before is not None:
        yield before.root
    if copy.base is None:
        return
    base = copy.base
    for row in sorted(base.head.recent, key=lambda row: row.seq, reverse=True):
        if row.branch == base.branch and row.commit != base.ref:
            try:
                yield read_record(copy.reachable_remote(), copy.db_key, row.commit).root
            except (ObjectNotFound, RemoteIntegrityError):
                continue  # swept since
