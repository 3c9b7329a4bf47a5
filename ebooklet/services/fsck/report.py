"""What was found at a database's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class LostRange:
    """Keys of which only the place among the others is known: the index node is lost.

    Attributes:
        after: they come after this key; None from the first key on.
        last: the last of them; None up to the last key.
        count: how many they are.
    """

    after: str | None
    last: str | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What was found at a database's place. Objects are named by their whole keys, sorted.

    Attributes:
        location: where it is.
        db_object_exists: there is a head, sound or not.
        seq: number of the head that was looked at; 0 without one.
        n_commits: commits that it retains.
        n_segments: segments that those need.
        orphans: segments that nothing needs: of pushes and copies that failed, or are under way.
        skipped_young: those of the orphans that are younger than `min_age`.
        claimed_but_missing: segments that are needed and not there.
        damaged: objects that are not what they should be, with a sentence each.
        lost: keys of the newest commit whose values are in missing or damaged segments, sorted.
            They stay in the database; reading one raises until it is set or deleted.
        lost_ranges: keys of the newest commit that cannot even be named.
        counters: what the newest commit says of its own size and segments and is not so, a
            sentence each. But for lengths of segments only told where the index was walked
            (`check_objects`, `repair`).
        behind: a copy of the head that is older than the other one. Harmless, and ordinary while
            somebody commits.
        strangers: objects among the segments whose names are none; never touched.
        unreadable: what kept this from being the whole truth. While there is anything, no segment
            counts as an orphan.
        depth: how far it was looked: at the "lengths" of segments; at every node of the "index" as
            well (`repair`, `delete_orphans`); or at all "bytes" in use (`check_objects`). "" where
            there is no head to go by. What lies deeper may be damaged.
        not_checked: what could not be looked at without the key of an encrypted database.
        swept: orphans that were deleted.
        not_swept: why nothing was deleted although it was asked for; "" otherwise.
        repaired: what was put right, a sentence each; all else is as it was found after that.
        not_repaired: why not everything was, although it was asked for; "" otherwise.
        not_known: after a rescue, what was lost with the head, and what was not found whole.
    """

    location: str
    db_object_exists: bool
    seq: int = 0
    n_commits: int = 0
    n_segments: int = 0
    orphans: tuple[str, ...] = ()
    skipped_young: tuple[str, ...] = ()
    claimed_but_missing: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    lost_ranges: tuple[LostRange, ...] = ()
    counters: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    depth: Literal["", "lengths", "index", "bytes"] = ""
    not_checked: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()
    not_swept: str = ""
    repaired: tuple[str, ...] = ()
    not_repaired: str = ""
    not_known: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing of the database was found missing, damaged, unreadable or wrong.

        As far as it was looked, see `depth`; orphans do no harm.
        """
        return not (self.claimed_but_missing or self.damaged or self.unreadable or self.counters)
