"""Keys as both sides of a merge have them, seen together, and those in conflict decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from ebooklet.core import merge
from ebooklet.core.entry import Entry
from ebooklet.core.sealing import Content
from ebooklet.errors import ObjectNotFound, RemoteIntegrityError, SnapshotExpired
from ebooklet.ports.hooks import Conflict
from ebooklet.services.fetching import values_of
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.resolving import Answer, looks_at_values, resolve
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

_SHOWN_KEYS: Final = 100  # whose values are held at once, for whoever decides by them


class Meeting(NamedTuple):
    """One key, as each side of a merge has it.

    Attributes:
        key: the key.
        base: what it was when the sides parted; None: absent, or not known.
        ours: what one side has; None: absent, or to be deleted.
        theirs: what the other has; None: absent.
        base_known: whether the state in which they parted is retained.
        ours_timestamp: when ours was set or deleted, in µs; None where that is not told.
    """

    key: str
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None
    base_known: bool
    ours_timestamp: int | None

    @property
    def verdict(self) -> merge.Verdict:
        """What is to become of ours."""
        base = state_of(self.base) if self.base_known else merge.UNKNOWN
        return merge.decide(base, state_of(self.ours), state_of(self.theirs))


def state_of(entry: Entry | None) -> merge.State:
    """What decides of an entry; None: absent."""
    return merge.ABSENT if entry is None else merge.Version(entry.digest, entry.timestamp)


def find_answers(
    copy: WorkingCopy, meetings: Iterable[Meeting], policy: ConflictPolicy
) -> tuple[dict[str, Answer], list[str]]:
    """Decide all keys that are in conflict.

    Returns:
        The answers by key, and the keys that are left open.

    Raises:
        Exception: what a hook, or the caller's function, raised.
        EBookletError: a value that somebody is to decide by cannot be fetched.
    """
    conflicts = (met for met in meetings if met.verdict is merge.Verdict.CONFLICT)
    answers: dict[str, Answer] = {}
    left: list[str] = []
    while shown := list(islice(conflicts, _SHOWN_KEYS)):
        for key, answer in _resolved(copy, shown, policy):
            if answer is None:
                left.append(key)
            else:
                answers[key] = answer
    return answers, left


def lay_merged(
    copy: WorkingCopy, key: str, value: bytes | None, uploader: SegmentUploader
) -> Entry | None:
    """The entry of a value that was made of both sides, laid down; None: absent."""
    if value is None:
        return None
    digest, now = copy.sealer.digest(value), copy.clock.now_us()
    if len(value) <= copy.params.inline_max:
        return Entry(key, len(value), digest, now, value, None)
    place = uploader.add_value(copy.sealer.seal(Content.VALUE, value))
    return Entry(key, len(value), digest, now, None, place)


def _resolved(
    copy: WorkingCopy, conflicts: Sequence[Meeting], policy: ConflictPolicy
) -> Iterator[tuple[str, Answer | None]]:
    if not looks_at_values(copy, policy):
        for met in conflicts:
            yield met.key, policy if policy == "ours" or policy == "theirs" else None
        return
    ours = values_of(copy, filter(None, (met.ours for met in conflicts)))
    theirs = values_of(copy, filter(None, (met.theirs for met in conflicts)))
    try:
        bases, kept = values_of(copy, filter(None, (met.base for met in conflicts))), True
    except (ObjectNotFound, RemoteIntegrityError, SnapshotExpired):
        bases, kept = {}, False
    for met in conflicts:
        conflict = Conflict(
            key=met.key,
            base=bases.get(met.key),
            ours=ours.get(met.key),
            theirs=theirs.get(met.key),
            ours_timestamp=met.ours_timestamp,
            theirs_timestamp=None if met.theirs is None else met.theirs.timestamp,
            base_known=met.base_known and (kept or met.base is None),
        )
        yield met.key, resolve(copy, conflict, policy)
