"""Heads that were read before the local half was looked at: others may have moved both since.

Whoever waits for a local file waits for somebody who may push, and leave it in step with a head that
came after the one read before. That one would then look like a remote that is gone, or that was
rewound, so nothing is concluded from it: it is read once more, and costs a request only then.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from ebooklet.errors import LockTimeout
from ebooklet.ports.local_store import LocalStore
from ebooklet.services.claiming import read_both
from ebooklet.services.heads import deleted_meanwhile
from ebooklet.services.journal import Journal
from ebooklet.services.lastplace import LastPlace
from ebooklet.services.localhalf import LocalPlan
from ebooklet.services.refusals import check_head
from ebooklet.services.request import Request
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.working_copy import WorkingCopy


class Seen(NamedTuple):
    """What was read of the remote."""

    current: Snapshot | None  # the head; None when there is none, or nobody was asked
    mirrored: UUID | None  # see `claiming.read_both`


def open_half(request: Request, plan: LocalPlan) -> tuple[LocalStore, bool]:
    """Open the local half, and say whether another handle had to be waited for."""
    with suppress(LockTimeout):
        return request.open_half(plan, wait=False), False
    return request.open_half(plan), True


def become_writer(local: LocalStore, timeout: float) -> bool:
    """Make a reader's local half the writer's, and say whether another had to be waited for."""
    with suppress(LockTimeout):
        local.change_mode("write", timeout=0)
        return False
    local.change_mode("write", timeout=timeout)
    return True


def see_again(request: Request, local: LocalStore, seen: Seen, *, waited: bool) -> Seen:
    """What stands in the remote, once the local half is open; read again where it may have moved.

    Args:
        request: what is opened.
        local: its local half, which others move no more if this is for a writer.
        seen: what was read before.
        waited: whether another handle had the local half meanwhile.

    Raises:
        EBookletError and others: see `refusals.check_head`.
    """
    if request.remote is None or request.settings.offline or request.version is not None:
        return seen
    if not waited:
        journal = Journal(local, LastPlace(local, request.remote, request.db_key))
        base = journal.read_base()
        if not _is_outdated(seen.current, base, journal.read_former() if base is None else None):
            return seen
    again = Seen(*read_both(replace(request, look_ahead=None)))
    check_head(request, again.current)
    return again


def newest(copy: WorkingCopy, current: Snapshot) -> Snapshot:
    """The same head, or the one that stands now if this copy is further by now than that.

    Args:
        copy: what is written down in its local half was taken over just now, and is held.
        current: a head that was read before.

    Raises:
        RemoteDeleted: none stands there any more.
    """
    if copy.settings.stays_at is not None or not _is_outdated(current, copy.base, copy.former):
        return current
    again = copy.heads.read()
    if again is None:
        raise deleted_meanwhile(copy.db_key)
    return again


def _is_outdated(current: Snapshot | None, base: Snapshot | None, former: Snapshot | None) -> bool:
    """Whether a local half was in step with a later head, or with one deleted since."""
    if base is not None:
        return current is None or current.is_behind(base)
    if former is None or current is None:
        return False
    return current.is_as(former) or current.is_behind(former)
