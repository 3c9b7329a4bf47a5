"""Changes made here and not yet pushed: kept in memory, journalled beside the local file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from ebooklet.core.entry import Entry
from ebooklet.core.index.diff import Change
from ebooklet.core.journal import ABSENT, UNKNOWN, Base

_PIECE: Final = 10_000  # keys taken in at a time, as millions are held in other tables too
_PRESENT_ADDS: Final = {True: 0, False: 1}  # what a pending set adds to the base's count
_PRESENT_DELETES: Final = {True: -1, False: 0}  # and a pending deletion


class Left(NamedTuple):
    """Changes that were dropped, as far as others need to know."""

    shape: int
    keys: tuple[Set[str], Set[str], bool]  # set, deleted, and whether all is to be replaced
    in_base: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Covered:
    """The keys whose pending changes a commit settles, each once."""

    sets: list[str] = field(default_factory=list)  # which are in it
    deletes: list[str] = field(default_factory=list)  # which are not

    def __len__(self) -> int:
        return len(self.sets) + len(self.deletes)

    def __iter__(self) -> Iterator[str]:
        return chain(self.sets, self.deletes)


class PendingChanges:
    """The keys that differ, or may differ, from the base commit.

    `touched` is the hot path's only duty: a set marks its key there and nothing else. Everything
    that costs more (journal, counting, undoing a deletion) waits for `absorb`, which every other
    operation calls first. All methods are called under the working copy's lock.

    The *base* of a change is what the key was when it was first changed here: `UNKNOWN` as long
    as the base commit itself tells (no request is ever made just to note it), and a digest or
    `ABSENT` once the base commit has moved on underneath it: then it is what finds the conflict.
    """

    def __init__(self) -> None:
        self.touched: dict[str, None] = {}
        self.sets: dict[str, Base] = {}
        self.deletes: dict[str, Base] = {}
        self.delete_times: dict[str, int] = {}  # µs
        self.undone: dict[str, int] = {}  # when keys were deleted (µs) that were set since
        self.metadata = False
        self.replace = False
        self.shape = 0  # grows whenever the set of keys may have changed; iterators watch it
        self.delta = 0  # keys added minus keys deleted, exact when nothing is unresolved
        self.unwritten: dict[str, None] = {}  # sets that the journal does not hold yet
        self._in_base: dict[str, bool] = {}
        self.undecided: dict[str, None] = {}  # pending keys of which the base was not asked yet
        self._since: dict[str, None] | None = None  # keys changed since the push under way began

    def __bool__(self) -> bool:
        return bool(self.touched or self.sets or self.deletes or self.metadata or self.replace)

    def __contains__(self, key: str) -> bool:
        return key in self.sets or key in self.touched or key in self.deletes

    def absorb(self) -> None:
        """Take in what the hot path only marked."""
        if not self.touched:
            return
        touched = list(self.touched)
        sets, deletes, in_base = self.sets, self.deletes, self._in_base
        # Of these nothing is known: they count for nothing until they are looked up.
        new = [k for k in touched if not (k in sets or k in deletes or k in in_base)]
        if len(new) < len(touched):
            for key in touched:
                if key in deletes or (key in in_base and key not in sets):
                    self.mark_set(key)
        for at in range(0, len(touched), _PIECE):
            piece = new[at : at + _PIECE]
            sets.update(dict.fromkeys(piece, UNKNOWN))
            self.undecided.update(dict.fromkeys(piece))
            self.unwritten.update(dict.fromkeys(touched[at : at + _PIECE]))
        if self._since is not None:
            self._since.update(dict.fromkeys(touched))
        # Last, so that an interrupt loses no mark. The very dict stays: the hot path holds on to it.
        self.touched.clear()

    def mark_set(self, key: str, base: Base = UNKNOWN) -> None:
        """Note that `key` has a local value to push."""
        before = self._contribution(key)
        if key in self.deletes:
            base = self.deletes[key]
            self.undone[key] = self.delete_times[key]
            self.shape += 1
        # In two tables for a moment: an interrupt must not leave it in none.
        self.sets[key] = base
        self.deletes.pop(key, None)
        self.delete_times.pop(key, None)
        self._account(key, before)

    def mark_deleted(self, key: str, timestamp: int, base: Base = UNKNOWN) -> None:
        """Note that `key` is to be deleted from the remote."""
        before = self._contribution(key)
        self.delete_times[key] = timestamp
        self.deletes[key] = self.sets.get(key, base)
        for table in (self.sets, self.unwritten, self.undone):
            table.pop(key, None)
        self.shape += 1
        self._account(key, before)
        if self._since is not None:
            self._since[key] = None

    def become(self, key: str, *, deleted_at: int | None) -> None:
        """Note what a conflict was decided to be: a value, or a deletion (µs).

        It is part of a push under way, and no change that came after that began.
        """
        since, self._since = self._since, None
        if deleted_at is None:
            self.mark_set(key, self.sets.get(key, UNKNOWN))
            self.unwritten[key] = None
        else:
            self.mark_deleted(key, deleted_at)
        self._since = since

    def forget(self, key: str) -> None:
        """Drop the change of `key`: pushed, discarded or found to be none."""
        before = self._contribution(key)
        self.sets.pop(key, None)
        self.deletes.pop(key, None)
        self.delete_times.pop(key, None)
        self.undone.pop(key, None)
        self.unwritten.pop(key, None)
        self._in_base.pop(key, None)
        self.undecided.pop(key, None)
        self.delta -= before

    def may_count(self, key: str) -> bool:
        """Whether to drop the change of `key` may change the set of keys."""
        return key in self.deletes or not self._in_base.get(key, False)

    def is_pushable(self, key: str) -> bool:
        """Whether a push may have something to do for `key`: not for what came and went here."""
        return key not in self.deletes or self._in_base.get(key, True)

    def clear(self) -> Left:
        """Drop every change of keys; return what they were."""
        left = Left(
            shape=self.shape,
            keys=(self.sets.keys() | self.touched.keys(), set(self.deletes), self.replace),
            in_base=dict(self._in_base),
        )
        self.touched.clear()
        self._drop_all()
        self.shape += 1
        return left

    def resume(self, left: Left, *, same_base: bool) -> bool:
        """After a `clear` and a reload, go on from what was known before.

        Args:
            left: what `clear` returned.
            same_base: the base commit is the one of then.

        Returns:
            Whether the set of keys is what it was: then no iterator has to end.
        """
        if same_base:
            for key in (*self.sets, *self.deletes):
                if key in left.in_base:
                    self._set_presence(key, left.in_base[key])
        same = same_base and left.keys == (self.sets.keys(), self.deletes.keys(), self.replace)
        self.shape = left.shape if same else max(self.shape, left.shape + 1)
        return same

    def unresolved(self) -> list[str]:
        """Pending keys whose presence in the base is not known yet."""
        self.absorb()
        return list(self.undecided)

    def resolve(self, keys: Iterable[str], entries: Mapping[str, Entry]) -> None:
        """Learn which of `keys` the base commit has."""
        sets, undecided = self.sets, self.undecided
        added = 0
        for key in keys:
            if key in undecided and key in sets:  # it counts for nothing so far
                present = self._in_base[key] = key in entries
                del undecided[key]
                added += _PRESENT_ADDS[present]
            elif key in self:
                self._set_presence(key, key in entries)
        self.delta += added
        self.shape += added

    def delta_of(self, within: Callable[[str], bool]) -> int:
        """`delta`, of the keys within alone; exact when nothing is unresolved."""
        return sum(self._contribution(k) for k in (*self.sets, *self.deletes) if within(k))

    def base_moved(self, change: Change) -> None:
        """Note that the base commit moved from `change.old` to `change.new` under a pending key."""
        table = self.sets if change.key in self.sets else self.deletes
        base = table[change.key]
        if base is UNKNOWN:
            base = change.old.digest if change.old else ABSENT
        now = change.new.digest if change.new else ABSENT
        # Times decide between equal values, so a change of the time has to be looked at as well.
        table[change.key] = UNKNOWN if base == now and not change.same_value else base
        self._set_presence(change.key, change.new is not None)

    def set_bases(self, keys: Iterable[str], base: Base) -> None:
        """Note what `keys` were when they were first changed; their presence is to be looked up."""
        for key in keys:
            before = self._contribution(key)
            (self.sets if key in self.sets else self.deletes)[key] = base
            self._in_base.pop(key, None)
            self._account(key, before)

    def begin_push(self) -> None:
        """Watch for keys that change from here on, until `end_push`."""
        self.absorb()
        self._since = {}

    def end_push(self, committed: Covered) -> None:
        """Note what a push committed.

        A key changed again while the push was under way stays pending, on top of the new base.
        """
        self.absorb()
        since, self._since = self._since or {}, None
        if not since and self._is_all_in(committed):
            self._drop_all()
            return
        for keys, present in ((committed.sets, True), (committed.deletes, False)):
            for key in keys:
                if key not in since:
                    self.forget(key)
                elif key in self:
                    (self.sets if key in self.sets else self.deletes)[key] = UNKNOWN
                    self.undone.pop(key, None)
                    self._set_presence(key, present)

    def _is_all_in(self, committed: Covered) -> bool:
        # Counted, as sets of millions of keys take much memory.
        n_sets = sum(map(self.sets.__contains__, committed.sets))
        n_deletes = sum(map(self.deletes.__contains__, committed.deletes))
        return (n_sets, n_deletes) == (len(self.sets), len(self.deletes))

    def _drop_all(self) -> None:
        for table in (self.sets, self.deletes, self.delete_times, self.undone, self.unwritten):
            table.clear()
        self._in_base.clear()
        self.undecided.clear()
        self.delta = 0

    def _set_presence(self, key: str, present: bool) -> None:
        before = self._contribution(key)
        self._in_base[key] = present
        self.undecided.pop(key, None)
        after = self._contribution(key)
        self.delta += after - before
        if after != before:
            self.shape += 1

    def _account(self, key: str, before: int) -> None:
        self.delta += self._contribution(key) - before
        if key not in self._in_base:
            self.undecided[key] = None

    def _contribution(self, key: str) -> int:
        present = self._in_base.get(key)
        if present is None:
            return 0
        if key in self.sets:
            return _PRESENT_ADDS[present]
        return _PRESENT_DELETES[present] if key in self.deletes else 0
