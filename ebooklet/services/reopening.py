"""Reopening: changing the mode of an open database in place (CONTRACT §4).

The working copy stays the same one, so that views, iterators and changes taken before go on with
what it then is. A reader holds what a writer needs before anything says that it is one; a writer
gives up its right to write first, and then needs nobody's consent.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Literal, TypeAlias, get_args

from ebooklet.errors import RemoteUnavailable
from ebooklet.services.afresh import Seen, become_writer, see_again
from ebooklet.services.attaching import attach
from ebooklet.services.claiming import claim_writing, read_both
from ebooklet.services.closing import settle_writes
from ebooklet.services.hooking import telling_evictions
from ebooklet.services.mirrors import check_mirror
from ebooklet.services.opening import warn_of_fallback
from ebooklet.services.refusals import check_head, check_same, check_writable
from ebooklet.services.request import Request, check_flag, offline
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy

Mode: TypeAlias = Literal["r", "w"]
_MODES: Final[tuple[Mode, ...]] = get_args(Mode)


def reopen_copy(copy: WorkingCopy, request: Request, flag: Mode) -> None:
    """Change the mode in place; nothing to do where it is the right one already.

    A handle that had fallen back to working offline tries the remote again, whatever its mode.

    Args:
        copy: the working copy, which stays usable in its old mode if this fails.
        request: as it was opened.
        flag: "r" or "w".

    Raises:
        ValueError: another flag; or "w" of a handle that was opened with `offline=True`.
        ReadOnlyError: "w", and one of the halves can only be read, or it shows a version.
        LockTimeout: "w", and another writer kept the lock.
        PushInProgressError: a push is under way on this handle.
        EBookletError: "w", and the remote failed, or is another database by now.
    """
    check_flag(flag, _MODES)
    copy.require_open()
    request = replace(request, flag=flag, force_lock=False)
    writes, wrote = flag == "w", copy.settings.writable
    if writes:
        copy.require_following("reopen")
    fell_back = copy.settings.offline and not request.settings.offline
    if writes == wrote and not fell_back:
        return
    with telling_evictions(copy), copy.pushing("reopen"), copy.base_lock:
        if wrote and not writes:
            _cease_to_write(copy)
        else:
            _begin(copy, request)


def _cease_to_write(copy: WorkingCopy) -> None:
    """Become a reader. Nothing here can fail on the network, or wait for another's lock."""
    with copy.lock:
        copy.settings = replace(copy.settings, writable=False)
    try:
        copy.sync()
        settle_writes(copy)
        copy.local.change_mode("read", timeout=0)
    except BaseException:
        copy.settings = replace(copy.settings, writable=True)
        raise
    lease, copy.lease = copy.lease, None
    if lease is not None:
        lease.release()


def _begin(copy: WorkingCopy, request: Request) -> None:
    """Become a writer, or a reader that asks the remote again."""
    if request.flag == "w" and request.settings.offline:
        raise ValueError("opened with offline=True, which goes with flag 'r' only: open it again")
    check_writable(request)
    try:
        _begin_as(copy, request)
    except RemoteUnavailable as exc:
        if not request.falls_back:
            raise
        warn_of_fallback(exc, writes=request.flag == "w")
        _begin_as(copy, offline(request))


def _begin_as(copy: WorkingCopy, request: Request) -> None:
    writes = request.flag == "w"
    before = copy.settings
    with ExitStack() as undo:
        current, shown = read_both(request)
        check_head(request, current)
        check_mirror(shown, copy.uuid if current is None else current.head.uuid, request.db_key)
        lease = None
        if writes:
            proto, lease, current = claim_writing(request, current, undo)
            copy.proto = proto or copy.proto
        if current is not None:
            check_same(request, copy.local, current)
        copy.sync()
        condition = copy.local.condition if writes and not copy.local.writable else "clean"
        if writes and not copy.local.writable:
            waited = become_writer(copy.local, request.lock_timeout)
            undo.callback(_step_back, copy)
            condition = copy.local.condition
            current = _still(copy, request, Seen(current, shown), waited=waited)
        if before.offline != request.settings.offline:
            _connect(copy, offline=request.settings.offline)
            undo.callback(_connect, copy, offline=before.offline)
        undo.callback(setattr, copy, "lease", copy.lease)
        copy.lease = lease  # to write a lost head again takes it
        attach(copy, current, condition, writes=writes)
        undo.pop_all()
    copy.settings = replace(copy.settings, writable=writes)


def _still(copy: WorkingCopy, request: Request, seen: Seen, *, waited: bool) -> Snapshot | None:
    """The head that stands once others move the local half no more."""
    again = see_again(request, copy.local, seen, waited=waited)
    if again is not seen:
        current, shown = again
        check_mirror(shown, copy.uuid if current is None else current.head.uuid, request.db_key)
        if current is not None:
            check_same(request, copy.local, current)
    return again.current


def _connect(copy: WorkingCopy, *, offline: bool) -> None:
    copy.settings = replace(copy.settings, offline=offline)
    copy.connect()
    copy.set_base(copy.base)


def _step_back(copy: WorkingCopy) -> None:
    copy.local.change_mode("read", timeout=0)
    copy.reload()
