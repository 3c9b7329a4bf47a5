"""The migration: read the old database whole, then push it by one commit."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Final

from ebooklet.errors import MigrationIncomplete, RemoteMissingError
from ebooklet.ports.remote_store import RemoteStore
from ebooklet.services.attempts import PushResult
from ebooklet.services.claiming import read_remote
from ebooklet.services.closing import close_copy
from ebooklet.services.founding import make_founder
from ebooklet.services.localhalf import LocalPlan
from ebooklet.services.migration.gathering import Wishes, gather
from ebooklet.services.migration.olddatabase import OldDatabase
from ebooklet.services.migration.report import (
    Findings,
    MigrationReport,
    decode_slot,
    encode_slot,
)
from ebooklet.services.opening import open_copy
from ebooklet.services.place import RemotePlace
from ebooklet.services.push import push
from ebooklet.services.request import Request
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.migrate")

SLOT: Final = "migration"
_SHOWN: Final = 5  # failures named in a message


def check_target(place: RemotePlace, *, local_exists: bool) -> None:
    """Refuse a place where a database is, unless a local file may tell that it is this migration's.

    Raises:
        ValueError: a database is there.
        UnsupportedFormatError: something else is there.
    """
    if not local_exists and place.heads().read() is not None:
        raise _exists(place.location)


def check_apart(place: RemotePlace, old: RemoteStore, old_key: str) -> None:
    """Refuse the old database's own place, and one among its objects, which 0.11 deletes with it.

    Raises:
        ValueError: it is one.
    """
    if place.store.location == old.location and place.db_key == old_key:
        raise ValueError(
            f"old and new are both {place.location}, and the old database stays as it is: give new "
            "another key"
        )
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
            findings = gather(old, copy, wishes)
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
    begun, findings = _look_at_file(request) if request.open_half.exists else (None, None)
    landed = begun == source and findings is not None
    current = read_remote(request)
    if current is not None and not landed:
        raise _exists(f"{request.remote.location if request.remote else ''}/{request.db_key}")
    if begun not in (None, source):
        logger.info("the old database is not as an earlier call saw it: it is read anew")
        request = replace(request, flag="n")
    copy = open_copy(request)
    try:
        if copy.base is None:
            copy.local.write_slot(SLOT, encode_slot(source, None))
            make_founder(copy.local, None)  # to join nobody: that would add to what others made
            return copy, None
        _check_landed(copy, landed=landed)
    except BaseException:
        close_copy(copy)
        raise
    return copy, findings


def _look_at_file(request: Request) -> tuple[str | None, Findings | None]:
    """What an earlier call left beside the new local file.

    It is looked at before it is opened as the new database's: another database's file would be
    brought into step with a remote that is not its own.

    Raises:
        ValueError: it is another database's.
    """
    plan = LocalPlan(
        uuid=None,
        value_serializer=None,
        replace=False,
        create=False,
        writable=False,
        expected_keys=0,
    )
    local = request.open_half(plan)
    try:
        slot = local.read_slot(SLOT)
        if slot is not None:
            return decode_slot(slot)
        if local.count():
            raise _exists(local.location)
    finally:
        local.close()
    return None, None


def _check_landed(copy: WorkingCopy, *, landed: bool) -> None:
    if not landed:  # somebody created it since it was looked for
        raise _exists(copy.location)


def _exists(location: str) -> ValueError:
    return ValueError(
        f"there is a database at {location} already; migrate to a new place, with a file_path where "
        "no file is"
    )


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
        kind=copy.settings.type,
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
