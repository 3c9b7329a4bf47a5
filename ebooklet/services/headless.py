"""Places where no head is, and a database lies all the same: its head was lost, not deleted.

A deletion removes the head first, then the segments. So a commit whose segments are all there tells
of a head that went without one, or of a deletion or a copy that did not end. To create a database
beside it would have everybody go on from that one, and a later collection delete the rest. So it is
said, and a push has to be forced (decision 0051).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, TypeAlias
from uuid import UUID

from ebooklet.core.callers import stacklevel
from ebooklet.core.descent import FoundCommit
from ebooklet.core.names import parse_sid, segment_prefix, sid_ms
from ebooklet.errors import AccessDenied, UnsupportedOperation
from ebooklet.services.fsck.finding import find_records
from ebooklet.services.inventory import list_segments
from ebooklet.services.place import place_of
from ebooklet.services.working_copy import WorkingCopy

REMEDY: Final = (
    "`ebooklet fsck URL --rescue`, or ebooklet.fsck(..., rescue=True), makes a new head of what is "
    "there"
)
Segments: TypeAlias = Callable[[], Mapping[bytes, int] | None]
"""Says what `segment_sizes` found, or raises what it raised."""

_AT_ONCE: Final = 64  # segments, newest first
# After its record, a founder's push has to write the head, and may have to wait for the lock.
_FOUNDING_MS: Final = 15 * 60 * 1000


def segment_sizes(copy: WorkingCopy) -> Mapping[bytes, int] | None:
    """The bytes of each segment, by its sid; None where that cannot be told."""
    prefix = segment_prefix(copy.db_key)
    try:
        return {
            parse_sid(meta.key.removeprefix(prefix)): meta.size
            for meta in list_segments(place_of(copy))
        }
    except (AccessDenied, UnsupportedOperation):
        return None  # whoever may not list is not kept from writing


def find_headless(copy: WorkingCopy, segments: Segments | None = None) -> FoundCommit | None:
    """A commit that tells of a head that was lost, where none stands; None if nothing does.

    Costs one list where no segments are; where there are some, their newest are read.

    Founders who race leave first commits without a head as well, young ones or their own: those
    tell nothing. Nor does one whose segments went with a deletion: it had lost a race.

    Args:
        copy: the working copy.
        segments: what lies there, where that was asked for already.
    """
    place = place_of(copy)
    sizes = segment_sizes(copy) if segments is None else segments()
    if sizes is None:
        return None
    now_ms = place.store.server_time_ms() or place.clock.now_us() // 1000
    base = copy.base

    def tells(found: FoundCommit) -> bool:
        commit = found.commit
        if any(row.sid not in sizes for row in commit.segs):
            return False
        if commit.parents or (base is not None and base.ref.id == found.ref.id):
            return True
        is_own = UUID(bytes=found.uuid) == copy.uuid
        return not is_own and sid_ms(found.ref.block.sid) < now_ms - _FOUNDING_MS

    rest = iter(sorted(sizes.items(), reverse=True))
    while batch := dict(islice(rest, _AT_ONCE)):
        commits = find_records(place, batch).commits.values()
        telling = max(filter(tells, commits), key=lambda found: found.age, default=None)
        if telling is not None:
            # A founder, and others after it, may have come since the head was looked for.
            return telling if copy.heads.copies.read().best is None else None
    return None


def warn_headless(copy: WorkingCopy, found: FoundCommit, *, writes: bool) -> None:
    """Say at an open that the head is lost, and what becomes of what is written."""
    then = (
        "What is written here stays pending until then: a push is refused, unless with "
        "force_push=True"
        if writes
        else "What was committed up to what this copy has seen can be read meanwhile"
    )
    warnings.warn(
        f"{describe_headless(copy, found)}: {REMEDY}. {then}", UserWarning, stacklevel=stacklevel()
    )


def describe_headless(copy: WorkingCopy, found: FoundCommit) -> str:
    """What was found, for messages."""
    return (
        f"there is no head at {copy.location}, but segments of a database are, commit "
        f"{found.commit.seq} of {found.commit.count} keys among them: its head was lost, or a "
        "deletion or a copy of it did not end"
    )
