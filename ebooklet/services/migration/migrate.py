"""The migration: read the old database whole, then push it by one commit."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from ebooklet.core.headtypes import DatabaseType
from ebooklet.core.legacy.description import serializer_name
from ebooklet.errors import MigrationIncomplete, RemoteMissingError, UUIDMismatchError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.closing import close_copy
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
from ebooklet.services.migration.remote import OldRemote
from ebooklet.services.migration.report import (
    Findings,
    MigrationReport,
    PendingFound,
    decode_slot,
    encode_slot,
)
from ebooklet.services.migration.staging import Staging
from ebooklet.services.migration.values import fetch_values
from ebooklet.services.opening import Request, open_copy
from ebooklet.services.place import RemotePlace
from ebooklet.services.push import PushResult, push
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.migrate")

SLOT: Final = "migration"
_SHOWN: Final = 5  # failures named in a message


@dataclass(frozen=True, slots=True)
class OldDatabase:
    """The halves of the old database that were given: one of them, or both.

    Raises:
        UUIDMismatchError: they belong to different databases.
    """

    remote: OldRemote | None
    file: OldFile | None

    def __post_init__(self) -> None:
        if self.remote and self.file and self.remote.description.uuid != self.file.uuid:
            raise UUIDMismatchError(
                f"{self.file.location} belongs to database {self.file.uuid}, the remote is "
                f"{self.remote.description.uuid}; nothing was read",
                op="migrate",
            )

    @property
    def uuid(self) -> UUID:
        """Its identity."""
        if self.remote is not None:
            return self.remote.description.uuid
        return self._file.uuid

    @property
    def kind(self) -> DatabaseType | None:
        """What it is; None where only its remote could tell."""
        return self.remote.description.kind if self.remote else None

    @property
    def value_serializer(self) -> str:
        """Name of its serializer; "custom" for a class."""
        if self.remote is not None:
            return self.remote.description.value_serializer
        return serializer_name(self._file.value_serializer, self._file.location)

    @property
    def expected_keys(self) -> int:
        """About how many keys it has; 0 where that is not known."""
        return self.remote.index.expected_keys if self.remote else 0

    @property
    def _file(self) -> OldFile:
        if self.file is None:
            raise ValueError("an old database is a remote, a local file, or both")
        return self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller wants."""

    apply_pending: bool
    strict: bool
    message: str
    threads: int


def check_target(place: RemotePlace, *, local_exists: bool) -> None:
    """Refuse a place where a database is, unless a local file may tell that it is this migration's.

    Raises:
        ValueError: a database is there.
        UnsupportedFormatError: something else is there.
    """
    if not local_exists and place.heads().read() is not None:
        raise _exists(place.location)


def check_apart(place: RemotePlace, old: RemoteStore, old_key: str) -> None:
    """Refuse a place among the old database's objects, which 0.11 deletes with it.

    Raises:
        ValueError: it is one.
    """
    if place.store.location == old.location and place.db_key.startswith(f"{old_key}/"):
        raise ValueError(
            f"{place.location} lies among the objects of the old database, which 0.11 deletes with "
            "it; choose another key"
        )


def migrate(old: OldDatabase, request: Request, wishes: Wishes) -> MigrationReport:
    """Read the old database into the new local file, and push that by one commit.

    Args:
        old: what to read.
        request: how the new database is opened, with flag "c".
        wishes: what the caller wants.

    Raises:
        ValueError: the new database, or its local file, exists and is no unfinished migration of
            the same source.
        MigrationIncomplete: in strict mode, something could not be read; nothing was pushed.
        SnapshotExpired: the old database was changed meanwhile; nothing was pushed.
    """
    source = _source(old, wishes)
    copy, findings = _begin(request, source)
    try:
        result = PushResult(updated=False)
        if findings is None:
            findings = _read(old, copy, wishes)
            if wishes.strict:
                _complain(findings)
            # Written down before the commit: a call after a crash has to report the same.
            copy.local.write_slot(SLOT, encode_slot(source, findings))
            result = push(copy, message=wishes.message or _message(old))
        report = _report(old, copy, findings, result, wishes)
        copy.local.write_slot(SLOT, None)
    finally:
        close_copy(copy)
    logger.info("migrated %d keys by commit %s", report.keys, report.commit)
    return report


def _source(old: OldDatabase, wishes: Wishes) -> str:
    """What is being migrated: an unfinished migration goes on only if this is the same."""
    applied = wishes.apply_pending or old.remote is None
    return json.dumps(
        [
            old.uuid.hex,
            old.remote and old.remote.state,
            old.file.state if old.file is not None and applied else None,
            applied,
        ]
    )


def _begin(request: Request, source: str) -> tuple[WorkingCopy, Findings | None]:
    """Open the new database; with the findings of an earlier call that got as far as its commit."""
    copy = open_copy(request)
    try:
        slot = copy.local.read_slot(SLOT)
        begun, findings = (None, None) if slot is None else decode_slot(slot)
        _check_own(copy, begun == source and findings is not None, is_begun=slot is not None)
        if copy.base is not None:
            return copy, findings
        if slot is not None and begun != source:
            logger.info("the old database is not as an earlier call saw it: it is read anew")
            close_copy(copy)
            copy = open_copy(replace(request, flag="n"))
        copy.local.write_slot(SLOT, encode_slot(source, None))
    except BaseException:
        close_copy(copy)
        raise
    return copy, None


def _check_own(copy: WorkingCopy, is_landed: bool, *, is_begun: bool) -> None:
    """Refuse a database that is not this very migration's, landed or only begun."""
    if copy.base is not None and not is_landed:
        raise _exists(copy.location)
    if not is_begun and copy.local.count():
        raise _exists(copy.local.location)


def _exists(location: str) -> ValueError:
    return ValueError(
        f"there is a database at {location} already; migrate to a new place, with a file_path where "
        "no file is"
    )


def _read(old: OldDatabase, copy: WorkingCopy, wishes: Wishes) -> Findings:
    """Take in all there is, durably; tell what there is not."""
    staging = Staging(copy)
    state = read_state(old.file) if old.file is not None else None
    notes: list[str] = [] if state is None else state.notes
    if old.remote is None:
        metadata = state.metadata if state is not None else None
        found = _read_file(old, state, staging)
    else:
        metadata = old.remote.metadata
        notes = old.remote.notes + notes
        found = _read_remote(old.remote, old.file, state, staging, wishes)
        if found.metadata and wishes.apply_pending and state is not None:
            metadata = state.metadata
    staging.flush()
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
    return Findings(staging.failures, tuple(notes), found)


def _read_file(old: OldDatabase, state: LocalState | None, staging: Staging) -> PendingFound:
    """Take all that the local file has, pending or not: nothing else was given."""
    if old.file is None or state is None:
        raise ValueError("an old database is a remote, a local file, or both")
    for value in local_values(old.file, state):
        staging.take(value)
    return found_in_journal(state)


def _read_remote(
    remote: OldRemote,
    file: OldFile | None,
    state: LocalState | None,
    staging: Staging,
    wishes: Wishes,
) -> PendingFound:
    """Take what is committed, and on request lay what is pending over it."""
    if file is None or state is None:
        for value in fetch_values(remote, lambda key: not staging.has(key), wishes.threads):
            staging.take(value)
        return PendingFound()
    pending = find_pending(file, state, remote.index)
    found = pending.found(state)
    covered: set[bytes] = set()
    if wishes.apply_pending:
        sets = pending.sets - pending.conflicts
        covered = sets | (pending.deletes - pending.conflicts)
        for value in pending_values(file, sets):
            staging.take(value)
    if not (wishes.apply_pending and found.replaces):
        for value in fetch_values(
            remote, lambda key: key not in covered and not staging.has(key), wishes.threads
        ):
            staging.take(value)
    if wishes.apply_pending:
        for name in pending.lost(state):
            staging.failures[name] = "it was written locally, and lost before it was stored"
        for name in pending.contested():
            staging.failures[name] = (
                "it was changed locally, and since then in the remote, whose version was taken"
            )
    return found


def _complain(findings: Findings) -> None:
    if not findings.failures and not findings.notes:
        return
    first = [f"{key!r}: {why}" for key, why in list(findings.failures.items())[:_SHOWN]]
    more = len(findings.failures) - len(first)
    told = "; ".join([*findings.notes, *first, *([f"and {more} more"] if more else [])])
    raise MigrationIncomplete(
        f"{len(findings.failures)} keys could not be read, and nothing was pushed. What was read is "
        "kept in file_path, if one was given: repair the old database and call again, or call "
        f"again with strict=False to leave them out. {told}",
        failures=findings.failures,
        notes=findings.notes,
        op="migrate",
    )


def _message(old: OldDatabase) -> str:
    return f"migrated from EBooklet 0.11, database {old.uuid.hex}"


def _report(
    old: OldDatabase,
    copy: WorkingCopy,
    findings: Findings,
    result: PushResult,
    wishes: Wishes,
) -> MigrationReport:
    base = copy.base
    if base is None:
        raise RemoteMissingError("the new database is gone again", op="migrate", key=copy.db_key)
    return MigrationReport(
        old_uuid=old.uuid,
        new_uuid=copy.uuid,
        kind=copy.settings.kind,
        value_serializer=copy.settings.value_serializer,
        commit=base.head.branch.commit.id.hex(),
        keys=base.count,
        value_bytes=base.commit.value_bytes,
        bytes_up=result.bytes_up,
        failures=findings.failures,
        notes=findings.notes,
        pending=findings.pending,
        pending_applied=wishes.apply_pending or old.remote is None,
    )
