"""Opening: bringing both halves together under one of the dbm flags (CONTRACT §3)."""

from __future__ import annotations

import logging
import warnings
from contextlib import ExitStack
from dataclasses import replace

from ebooklet.core.callers import stacklevel
from ebooklet.core.names import check_db_key
from ebooklet.core.serializer_names import BOOKLET_NAMES, CUSTOM_NAME
from ebooklet.errors import ReadOnlyError, RemoteUnavailable
from ebooklet.ports.local_store import LocalStore
from ebooklet.services.afresh import Seen, open_half, see_again
from ebooklet.services.attaching import attach, attach_anew
from ebooklet.services.claiming import Claim, claim_writing, read_both
from ebooklet.services.founding import stored_type
from ebooklet.services.localhalf import LocalPlan
from ebooklet.services.mirrors import check_mirror
from ebooklet.services.packing import settle_group_bytes
from ebooklet.services.refusals import (
    check_exists,
    check_head,
    check_same,
    check_type,
    check_writable,
    naming_rescue,
)
from ebooklet.services.request import Request, offline
from ebooklet.services.settings import Settings
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.staying import at_version, check_unchanged, settle_half
from ebooklet.services.working_copy import WorkingCopy

logger = logging.getLogger("ebooklet.open")


def open_copy(request: Request) -> WorkingCopy:
    """Open both halves, bring them into step, and hold the write lock where one is due.

    Raises:
        RemoteMissingError: flag r or w, and neither half exists.
        UUIDMismatchError: the halves belong to different databases; nothing was changed.
        UnknownVersionError, SnapshotExpired: see `staying.at_version`.
        LockTimeout, LockLostError, AccessDenied, RemoteUnavailable, UnsupportedFormatError, …:
            locks taken on the way are free again, files closed.
    """
    check_db_key(request.db_key)
    check_writable(request)
    # What a failed attempt has made is no database to serve from.
    may_fall_back = request.falls_back and request.flag != "n" and request.open_half.exists
    try:
        return _open_whole(request)
    except RemoteUnavailable as exc:
        if not may_fall_back:
            raise
        warn_of_fallback(exc, writes=request.flag != "r")
    return _open_whole(offline(request))


def warn_of_fallback(reason: RemoteUnavailable, *, writes: bool) -> None:
    """Say that the local half is used alone, and why."""
    also = " Changes stay pending until the next open that reaches it." if writes else ""
    warnings.warn(
        f"opened offline, as the remote cannot be reached: {reason}. What is stored locally is "
        f"served, and may be old.{also}",
        UserWarning,
        stacklevel=stacklevel(),
    )


def _open_whole(request: Request) -> WorkingCopy:
    with ExitStack() as undo:
        copy = _open(request, undo)
        undo.pop_all()
    logger.info(
        "opened %s with flag %s: %s", copy.location, request.flag, _commits_go_by(copy.commit_mode)
    )
    return copy


def _commits_go_by(mode: str | None) -> str:
    if mode == "cas":
        return "mode cas, a commit is one conditional write"
    if mode == "lock":
        return "mode lock, commits go under the lock, one at a time"
    return "no database there yet, and no server probed" if mode is None else f"mode {mode}"


def _open(request: Request, undo: ExitStack) -> WorkingCopy:
    writes = request.flag != "r"
    with naming_rescue(request):
        current, shown = read_both(request)
    check_exists(request, current)
    check_head(request, current)
    if request.version is not None:
        request, current = at_version(request, current)
    claim = Claim(None if current is None else current.head.proto, None, current)
    if current is not None or request.flag == "n" or not request.open_half.exists:
        check_mirror(shown, current.head.uuid if current else None, request.db_key)
    if writes:
        claim = claim_writing(request, current, undo)
        current = claim.current
        check_exists(request, current)
    group_bytes = settle_group_bytes(
        request.group_bytes, replacing=request.flag == "n" and current is not None
    )
    local, (current, shown) = _open_local(request, Seen(current, shown), undo)
    if writes and not local.writable:
        raise ReadOnlyError(
            f"{local.location} was opened for reading only, and is to be written to: open the "
            "store for writing, or the database with flag 'r'",
            op="open",
            key=request.db_key,
        )
    settings = replace(_settle_settings(request, local, current), group_bytes=group_bytes)
    # A half of its own may be about to join the database that is there.
    own = None if request.flag == "n" else local.uuid
    check_mirror(shown, current.head.uuid if current else own, request.db_key)
    copy = WorkingCopy(
        local=local,
        remote=request.remote,
        db_key=request.db_key,
        clock=request.clock,
        settings=settings,
        mirrored=request.mirror.segments if request.mirror is not None else None,
        keyring=request.keyring,
    )
    copy.owns_local, copy.owns_remote = request.owns_local, request.owns_remote
    copy.proto = claim.proto
    copy.lease = claim.lease
    copy.exclusive_locks, copy.lock_timeout = request.exclusive_locks, request.lock_timeout
    copy.forces_turn = request.force_lock
    if request.flag == "n":
        attach_anew(copy, None if current is None else copy.heads.of_branch(current))
    elif current is not None and request.version is not None:
        attach(copy, settle_half(copy, current, request.version), local.condition, writes=False)
        check_unchanged(copy)
    else:
        attach(copy, current, local.condition, writes=writes)
    local.guard(copy.check_place)
    return copy


def _open_local(request: Request, seen: Seen, undo: ExitStack) -> tuple[LocalStore, Seen]:
    """Open the local half, and see what stands in the remote once others move it no more."""
    while True:
        plan = _plan(request, seen.current)
        local, waited = open_half(request, plan)
        if request.owns_local:
            undo.callback(local.close)
        seen = see_again(request, local, seen, waited=waited)
        again = _plan(request, seen.current)
        named = (again.uuid, again.value_serializer) == (plan.uuid, plan.value_serializer)
        if named or not (plan.replace and request.owns_local):
            return local, seen
        local.close()  # made anew for another database than the one that is to be replaced


def _plan(request: Request, current: Snapshot | None) -> LocalPlan:
    head = current.head if current else None
    exists = request.open_half.exists
    return LocalPlan(
        uuid=head.uuid if head else None,
        value_serializer=head.value_serializer if head else None,
        replace=request.flag == "n",
        create=not exists and (head is not None or request.flag in ("c", "n")),
        writable=request.flag != "r",
        expected_keys=current.count if current and request.flag != "n" else 0,
    )


def _settle_settings(request: Request, local: LocalStore, current: Snapshot | None) -> Settings:
    """What the stored halves decide, over what the caller assumed."""
    settings = request.settings
    if current is not None:
        check_same(request, local, current)
        return replace(
            settings,
            type=current.head.type,
            key_serializer=current.head.key_serializer,
            value_serializer=current.head.value_serializer,
        )
    settings = replace(settings, value_serializer=_stored_serializer(request, local))
    stored = stored_type(local)
    if stored is not None and request.flag != "n":
        check_type(request, stored)
        settings = replace(settings, type=stored)
    return settings


def _stored_serializer(request: Request, local: LocalStore) -> str:
    """The serializer of a local half that has no remote to tell it."""
    stored = local.value_serializer
    explicit = request.explicit_serializer
    if stored is None:
        # None that Booklet has a number for. What the name was is lost with the folder beside it.
        stored = CUSTOM_NAME if explicit is None or explicit in BOOKLET_NAMES else explicit
    if explicit is not None and explicit != stored:
        raise ValueError(
            f"{local.location} holds values serialised with {stored!r}, not {explicit!r}; "
            "leave value_serializer out"
        )
    request.accept_serializer(stored)
    return stored
