"""Conflicts settled: key by key as hooks say, and what they leave open by the policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from ebooklet.core import merge
from ebooklet.core.journal import UNKNOWN
from ebooklet.errors import (
    ConflictError,
    EBookletError,
    ObjectNotFound,
    RemoteIntegrityError,
    SnapshotExpired,
)
from ebooklet.ports.hooks import Conflict, Resolution
from ebooklet.services.conflicts import describe, drop_changes, find_conflicts, ours_of
from ebooklet.services.entries import base_entries
from ebooklet.services.fetching import fetch_values
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import ConflictPolicy, WorkingCopy

_BATCH_KEYS: Final = 100  # whose values are held at once


class Decision(NamedTuple):
    """What a hook said of one key, and what the key was here when it said so."""

    answer: Resolution
    ours: merge.State


Decisions: TypeAlias = Mapping[str, Decision]


def has_rules(copy: WorkingCopy) -> bool:
    """Whether hooks decide conflicts of this copy; a reader has none to decide."""
    hooks = copy.hooks
    return hooks is not None and "on_conflict" in hooks.wanted and copy.settings.writable


def decide(copy: WorkingCopy, keys: Sequence[str], before: Snapshot | None) -> Decisions:
    """Ask the hooks about keys in conflict; what they raise comes out, and nothing has changed.

    Args:
        copy: the working copy, of whose locks none is held but the one on the base.
        keys: which, sorted.
        before: a snapshot that was the base before these keys came into conflict, if there is one.

    Returns:
        Those that a hook decided, by key.
    """
    hooks = copy.hooks
    decided: dict[str, Decision] = {}
    if hooks is None or not has_rules(copy):
        return decided
    for at in range(0, len(keys), _BATCH_KEYS):
        for conflict, ours in _conflicts(copy, keys[at : at + _BATCH_KEYS], before):
            answer = hooks.on_conflict(conflict)
            copy.require_writable("settle conflicts")  # a hook may have closed it
            if answer is not None:
                decided[conflict.key] = Decision(answer, ours)
    return decided


def take_theirs(copy: WorkingCopy, decided: Decisions) -> None:
    """Drop the changes decided for the remote, but for those changed again since."""
    with copy.lock:
        drop_changes(copy, _unchanged(copy, decided, "theirs"))


def settle_pulled(copy: WorkingCopy, keys: Sequence[str], before: Snapshot | None) -> list[str]:
    """Ask about conflicts that a pull met, and do as the hooks say.

    What is kept stays pending as a change of what the remote has now, and is no conflict any more.

    Returns:
        Those that nobody decided.
    """
    decided = decide(copy, keys, before)
    with copy.lock:
        kept = _unchanged(copy, decided, "ours")
        copy.pending.set_bases(kept, UNKNOWN)
        copy.journal.rebased(copy.pending, kept)
        take_theirs(copy, decided)
    return [key for key in keys if key not in decided]


def settle_conflicts(
    copy: WorkingCopy, policy: ConflictPolicy, before: Snapshot | None = None
) -> None:
    """Settle conflicts before a push writes anything: as hooks say, the others by the policy.

    Raises:
        ConflictError: the policy is "error" and conflicts are left; everything stays pending.
    """
    found = find_conflicts(copy)
    decided = decide(copy, found, before)
    conflicts = [key for key in found if key not in decided]
    if conflicts and policy == "error":
        raise ConflictError(
            f"{describe(conflicts)} changed both here and in the remote; push with "
            "conflict='ours' to keep yours, or with conflict='theirs', or discard() the changes here, "
            "to take the remote's",
            keys=conflicts,
            op="push",
        )
    take_theirs(copy, decided)
    if policy == "theirs":
        drop_changes(copy, conflicts)


def _unchanged(copy: WorkingCopy, decided: Decisions, answer: Resolution) -> list[str]:
    copy.pending.absorb()
    return [
        key
        for key, decision in decided.items()
        if decision.answer == answer and key in copy.pending and ours_of(copy, key) == decision.ours
    ]


def _conflicts(
    copy: WorkingCopy, keys: Sequence[str], before: Snapshot | None
) -> Iterator[tuple[Conflict, merge.State]]:
    entries = base_entries(copy, keys)
    theirs: dict[str, bytes] = {}
    for entry, value in fetch_values(copy, entries.values()):
        if isinstance(value, EBookletError):
            raise value
        theirs[entry.key] = value
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
        )
        yield conflict, state


def _bases(copy: WorkingCopy, keys: Sequence[str], before: Snapshot | None) -> dict[str, bytes]:
    """What both sides started from, as far as the snapshot `before` still tells."""
    if before is None:
        return {}
    with copy.lock:
        digests = {k: copy.pending.sets.get(k, copy.pending.deletes.get(k)) for k in keys}
    try:
        entries = [
            entry
            for entry in copy.nodes.lookup(before.root, keys).values()
            if entry.digest == digests[entry.key]
        ]
        values = list(fetch_values(copy, entries))
    except (ObjectNotFound, RemoteIntegrityError, SnapshotExpired):
        return {}  # swept since
    return {entry.key: value for entry, value in values if isinstance(value, bytes)}
