"""What a database must be, in plain dicts: its history, and the copies of it that are open.

A copy that a model knows the base of has no secrets: what is readable, what is pending, what is in
conflict and what a push would commit all follow. Of what a crash may lose, or what nobody can tell
any more, there are several *candidates* for a key, one of which has to be what is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal, NamedTuple, TypeAlias


class Entry(NamedTuple):
    """A value, and when it was written (µs)."""

    value: Any
    time: int


State: TypeAlias = Entry | None  # None: absent
Content: TypeAlias = dict[str, Entry]
Verdict: TypeAlias = Literal["apply", "drop", "conflict"]
Policy: TypeAlias = Literal["error", "ours", "theirs"]


class Base(Enum):
    """What a key was when it was changed first, where that is no state of its own."""

    COMMITTED = "what the commit has that the copy stands on"
    UNRELATED = "nobody can tell any more"


class Pending(NamedTuple):
    """A change that is not pushed yet."""

    ours: State
    base: State | Base = Base.COMMITTED


Candidate: TypeAlias = Pending | None  # None: nothing is pending


def untimed(state: State) -> State:
    """As it is remembered where only digests are."""
    return None if state is None else state._replace(time=-1)


def decide(base: State | Base, ours: State, theirs: State) -> Verdict:
    """What becomes of our change of a key that they may have changed, too."""
    if ours == theirs:
        return "drop"
    if ours is not None and theirs is not None and ours.value == theirs.value:
        if theirs == base:
            return "apply"
        if ours == base:
            return "drop"
        return "apply" if ours.time > theirs.time else "drop"
    if isinstance(base, Base):
        return "conflict"
    if untimed(theirs) == untimed(base):
        return "apply"
    return "drop" if untimed(ours) == untimed(base) else "conflict"


def carried(change: Candidate, old: State, new: State, *, known: bool = True) -> Candidate:
    """A pending change after the commit under it has moved on.

    Args:
        change: as it was.
        old: what the key was in the commit before.
        new: what it is in the commit now.
        known: whether the commit before could still be read.
    """
    if change is None:
        return None
    base = change.base
    if not known:
        base = Base.UNRELATED if base is Base.COMMITTED else base
    elif old != new:
        base = untimed(old) if base is Base.COMMITTED else base
        only_time = old is not None and new is not None and old.value == new.value
        base = Base.COMMITTED if base == untimed(new) and not only_time else base
    if base is Base.COMMITTED:
        return change
    return None if decide(base, change.ours, new) == "drop" else change._replace(base=base)


@dataclass(frozen=True)
class Commit:
    """One state that was committed."""

    id: str
    seq: int
    content: Content
    parents: tuple[str, ...]


@dataclass
class History:
    """All that was ever committed, and what the head names of it."""

    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metadata: Any = None
    keep: int = 10  # newest commits of a branch that no collection may take

    def tip(self, branch: str) -> Commit:
        """The newest commit of a branch."""
        return self.commits[self.branches[branch]]

    def line(self, commit: str) -> list[Commit]:
        """A commit and all that led to it, newest first."""
        found: dict[str, Commit] = {}
        queue = [commit]
        while queue:
            if (each := queue.pop()) not in found:
                found[each] = self.commits[each]
                queue += found[each].parents
        return sorted(found.values(), key=lambda each: each.seq, reverse=True)

    def retained(self) -> set[str]:
        """Ids of the commits that must be readable, whatever was collected."""
        kept = set(self.tags.values())
        for tip in self.branches.values():
            kept.update(each.id for each in self.line(tip)[: self.keep])
        return kept

    def parted(self, ours: str, theirs: str) -> Commit | None:
        """The newest commit that led to both."""
        here = {each.id for each in self.line(ours)}
        return next((each for each in self.line(theirs) if each.id in here), None)


def merged(
    base: Content | None, ours: Content, theirs: Content, policy: Policy
) -> tuple[Content, list[str]]:
    """What a merge of two branches holds, and the keys that are in conflict."""
    content, conflicts = dict(ours), []
    for key in sorted(ours.keys() | theirs.keys() | (base or {}).keys()):
        was: State | Base = Base.UNRELATED if base is None else base.get(key)
        mine, other = ours.get(key), theirs.get(key)
        if was == other:
            continue
        verdict = decide(was, mine, other)
        if verdict == "conflict":
            conflicts.append(key)
            verdict = "apply" if policy == "ours" else "drop"
        if verdict == "drop":
            put(content, key, other)
    return content, conflicts


def put(content: Content, key: str, state: State) -> None:
    """Set a key, or delete it."""
    if state is None:
        content.pop(key, None)
    else:
        content[key] = state


@dataclass
class Copy:
    """A local half and what is pending in it."""

    history: History
    base: str
    branch: str = "main"
    pending: dict[str, Pending] = field(default_factory=dict)
    replaces: bool = False
    metadata: Any = None  # pending, where `has_metadata`
    has_metadata: bool = False
    earlier: dict[str, list[Candidate]] = field(default_factory=dict)  # since the last sync
    unanswered: list[str] = field(default_factory=list)  # commits of ours that landed unnoticed

    @property
    def committed(self) -> Content:
        """What the commit has that it stands on."""
        return self.history.commits[self.base].content

    def view(self) -> Content:
        """All that is readable."""
        content = {} if self.replaces else dict(self.committed)
        for key, change in self.pending.items():
            put(content, key, change.ours)
        return content

    def changes(self) -> dict[str, tuple[str, bool]]:
        """Kind and conflict of what is pending, by key."""
        shown: dict[str, tuple[str, bool]] = {}
        if self.replaces:
            view = self.view()
            shown = {key: ("deleted", False) for key in self.committed if key not in view}
        for key, change in self.pending.items():
            if (one := self.shown(key, change)) is not None:
                shown[key] = one
        return shown

    def shown(self, key: str, change: Candidate) -> tuple[str, bool] | None:
        """How one change is told of; None where there is nothing to tell."""
        theirs = self.committed.get(key)
        if change is None or (change.ours is None and theirs is None):
            return None
        kind = "added" if theirs is None else "modified" if change.ours else "deleted"
        return kind, not self.replaces and self.in_conflict(key)

    def in_conflict(self, key: str) -> bool:
        """Whether the commit that it stands on has the key changed, too."""
        change = self.pending.get(key)
        if change is None or change.base is Base.COMMITTED:
            return False
        return decide(change.base, change.ours, self.committed.get(key)) == "conflict"

    def conflicts(self) -> list[str]:
        """All keys of which that is so."""
        return [] if self.replaces else sorted(filter(self.in_conflict, self.pending))

    # What its owner does

    def write(self, key: str, state: State, *, durable: bool = False) -> None:
        """Set or delete a key; a deletion is durable at once."""
        before = self.pending.get(key)
        self.earlier.setdefault(key, []).append(before)
        if durable:
            self.earlier.pop(key)
        self.pending[key] = Pending(state, before.base if before else Base.COMMITTED)

    def clear(self) -> None:
        """Delete everything."""
        self.pending.clear()
        self.earlier.clear()
        self.replaces = bool(self.committed) or bool(self.unanswered)

    def discard(self, keys: Iterable[str] | None) -> None:
        """Give up changes."""
        self.earlier.clear()
        if keys is None:
            self.pending.clear()
            self.replaces = self.has_metadata = False
        for key in keys or ():
            self.pending.pop(key, None)

    def synced(self) -> None:
        """Nothing of what is pending can be lost any more."""
        self.earlier.clear()

    # What happens to it

    def settle(self, commit: Commit) -> None:
        """A commit of its own turned out to have landed: what it covered is pending no more."""
        self.base = commit.id
        if self.replaces and commit.content.keys() <= self.pending.keys():
            self.replaces = False
        if not self.replaces:
            self.pending = {
                key: Pending(change.ours)
                for key, change in self.pending.items()
                if commit.content.get(key) != change.ours
            }

    def advance(self, commit: Commit) -> None:
        """Another commit is the one to stand on."""
        before, self.base = self.committed, commit.id
        if self.replaces:
            return
        moved = {
            key: carried(change, before.get(key), commit.content.get(key))
            for key, change in self.pending.items()
        }
        self.pending = {key: change for key, change in moved.items() if change is not None}

    def after(self, commit: Commit) -> Copy:
        """This copy, once it has taken in a commit."""
        copy = replace(self, pending=dict(self.pending), unanswered=list(self.unanswered))
        base = self.history.commits[self.base]
        landed = [self.history.commits[each] for each in self.unanswered]
        newest = max(
            (each for each in landed if base.seq <= each.seq <= commit.seq),
            key=lambda each: each.seq,
            default=None,
        )
        copy.unanswered = [each.id for each in landed if each.seq > commit.seq]
        if newest is not None:
            copy.settle(newest)
        if copy.base != commit.id:
            copy.advance(commit)
        return copy

    def given_up(self, policy: Policy) -> set[str]:
        """Keys whose changes a push drops: they say nothing new, or the policy gives them up."""
        if self.replaces:
            return set()
        return {
            key
            for key, change in self.pending.items()
            if change.base is not Base.COMMITTED
            and (verdict := decide(change.base, change.ours, self.committed.get(key))) != "apply"
            and (verdict == "drop" or policy == "theirs")
        }

    def pushed(self, policy: Policy) -> Content:
        """What a push commits on the commit that it stands on, conflicts aside."""
        content = {} if self.replaces else dict(self.committed)
        for key in self.pending.keys() - self.given_up(policy):
            put(content, key, self.pending[key].ours)
        return content


def candidates(copy: Copy, commit: Commit) -> Iterator[Mapping[str, Candidate]]:
    """What may be pending of each key once a copy whose base is lost has taken in a commit."""
    before = copy.committed
    for known in (True, False):
        yield {
            key: carried(change, before.get(key), commit.content.get(key), known=known)
            for key, change in copy.pending.items()
        }
