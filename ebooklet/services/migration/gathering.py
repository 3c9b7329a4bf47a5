"""Reading an old database whole into the new local file."""

from __future__ import annotations

from dataclasses import dataclass

from ebooklet.services.metadata import set_metadata
from ebooklet.services.migration.localfile import (
    LocalState,
    OldFile,
    find_pending,
    found_in_journal,
    local_values,
    pending_values,
    read_state,
)
from ebooklet.services.migration.newfile import NewFile
from ebooklet.services.migration.olddatabase import OldDatabase
from ebooklet.services.migration.remote import OldRemote
from ebooklet.services.migration.report import Findings, PendingFound
from ebooklet.services.migration.values import fetch_values
from ebooklet.services.working_copy import WorkingCopy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller wants."""

    apply_pending: bool
    strict: bool
    message: str
    threads: int


def gather(old: OldDatabase, copy: WorkingCopy, wishes: Wishes) -> Findings:
    """Take in all there is, durably; tell what there is not.

    Raises:
        SnapshotExpired: the old remote was changed meanwhile.
        EBookletError: an outage, or damage that leaves nothing to be trusted; what was read by then
            is kept.
    """
    state = read_state(old.file) if old.file is not None else None
    notes: list[str] = [] if state is None else state.notes
    with NewFile(copy) as new:
        if old.remote is None:
            metadata = state.metadata if state is not None else None
            found = _read_file(old, state, new)
        else:
            metadata = old.remote.metadata
            notes = old.remote.notes + notes
            found = _read_remote(old.remote, old.file, state, new, wishes)
            if found.metadata and wishes.apply_pending and state is not None:
                metadata = state.metadata
    if old.file is not None and old.file.damage:
        notes.append(
            f"{old.file.damage} bytes of the local file are damaged: what was in them is lost"
        )
    if metadata is not None:
        try:
            set_metadata(copy, *metadata)
        except (TypeError, ValueError) as exc:
            notes.append(f"the user's metadata were left out: {exc}")
    copy.sync()
    if old.remote is not None:
        old.remote.check_unchanged()
    return Findings(new.failures, tuple(notes), found)


def _read_file(old: OldDatabase, state: LocalState | None, new: NewFile) -> PendingFound:
    """Take all that the local file has, pending or not: nothing else was given."""
    if old.file is None or state is None:
        raise ValueError("an old database is a remote, a local file, or both")
    for value in local_values(old.file, state):
        new.take(value)
    return found_in_journal(state)


def _read_remote(
    remote: OldRemote,
    file: OldFile | None,
    state: LocalState | None,
    new: NewFile,
    wishes: Wishes,
) -> PendingFound:
    """Take what is committed, and on request lay what is pending over it."""
    if file is None or state is None:
        for value in fetch_values(remote, lambda key: not new.has(key), wishes.threads):
            new.take(value)
        return PendingFound()
    pending = find_pending(file, state, remote.index)
    found = pending.found(state)
    covered: set[bytes] = set()
    if wishes.apply_pending:
        sets = pending.sets - pending.conflicts
        covered = sets | (pending.deletes - pending.conflicts)
        for value in pending_values(file, sets):
            new.take(value)
    if not (wishes.apply_pending and found.replaces):
        for value in fetch_values(
            remote, lambda key: key not in covered and not new.has(key), wishes.threads
        ):
            new.take(value)
    if wishes.apply_pending:
        for name in pending.lost(state):
            new.failures[name] = "it was written locally, and lost before it was stored"
        for name in pending.contested():
            new.failures[name] = (
                "it was changed locally, and since then in the remote, whose version was taken"
            )
    return found
