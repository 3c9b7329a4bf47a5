"""What is pending, as users see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal, TypedDict

from ebooklet.core.timestamps import to_datetime
from ebooklet.services import writing
from ebooklet.services.attempts import PushResult
from ebooklet.services.conflicts import standing_conflicts
from ebooklet.services.entries import base_entries, iter_base
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.pull import PullResult, pull
from ebooklet.services.push import push
from ebooklet.services.working_copy import WorkingCopy


class Change(TypedDict):
    """One pending key. Times are aware, UTC.

    `conflict` says whether the remote has changed the key as well, differently: a push has to be
    told what to do with it. It is so as of the last pull, push or open.
    """

    key: str
    kind: Literal["added", "modified", "deleted"]
    local_timestamp: datetime
    remote_timestamp: datetime | None
    conflict: bool


class Changes:
    """A live view of what is pending; iterating twice is fine, and so is writing in between."""

    def __init__(self, copy: WorkingCopy) -> None:
        self._copy = copy

    def iter_changes(self) -> Iterator[Change]:
        """Yield pending keys in order, deletions included.

        Costs as much as there are changes, never as much as there are keys. Nothing pending, no
        request; else at most the index nodes on the way to the keys that are not cached yet.
        """
        copy = self._copy
        copy.require_open()
        with copy.lock:
            copy.pending.absorb()
            sets = set(copy.pending.sets)
            deletes = dict(copy.pending.delete_times)
            replacing = copy.pending.replace
        if not (sets or deletes or replacing):
            return
        entries = base_entries(copy, (*sets, *deletes))
        cleared = _cleared(copy, sets) if replacing else {}
        conflicts = frozenset() if replacing else standing_conflicts(copy, entries)
        now = copy.clock.now_us()
        for key in sorted({*sets, *deletes, *cleared}):
            entry = entries.get(key)
            remote = to_datetime(entry.timestamp) if entry else None
            if key in sets:
                found = copy.local.get_entry(key)
                if found is not None:
                    kind: Literal["added", "modified"] = "modified" if entry else "added"
                    yield Change(
                        key=key,
                        kind=kind,
                        local_timestamp=to_datetime(found.timestamp),
                        remote_timestamp=remote,
                        conflict=key in conflicts,
                    )
            elif entry is not None or key in cleared:
                yield Change(
                    key=key,
                    kind="deleted",
                    local_timestamp=to_datetime(deletes.get(key) or now),
                    remote_timestamp=remote or to_datetime(cleared[key]),
                    conflict=key in conflicts,
                )

    def __iter__(self) -> Iterator[Change]:
        return self.iter_changes()

    def __len__(self) -> int:
        """Number of pending keys."""
        return sum(1 for _ in self.iter_changes())

    def __repr__(self) -> str:
        pending = self._copy.pending
        committed = self._copy.base is not None
        gone = {key for key in pending.deletes if committed and pending.is_pushable(key)}
        n_keys = len(pending.touched.keys() | pending.sets.keys() | gone)
        parts = [f"{n_keys} keys", *(["metadata"] if pending.metadata else [])]
        parts += ["a replacement of everything"] if pending.replace else []
        return f"<Changes: {', '.join(parts)}>"

    def __bool__(self) -> bool:
        """Whether a push would have anything to do, metadata included."""
        self._copy.require_open()
        return bool(self._copy.pending)

    @property
    def pending_deletes(self) -> frozenset[str]:
        """Keys whose deletion is pending."""
        return frozenset(c["key"] for c in self.iter_changes() if c["kind"] == "deleted")

    @property
    def conflicts(self) -> frozenset[str]:
        """Keys that changed both here and in the remote, as of the last pull, push or open."""
        return frozenset(c["key"] for c in self.iter_changes() if c["conflict"])

    def update(self) -> None:
        """Kept for older programs; a view that is always current has nothing to recompute."""
        self._copy.require_open()
        self._copy.sync()

    build_changelog = update

    def push(
        self,
        message: str | bool | None = None,
        force_push: bool = False,
        *,
        conflict: ConflictPolicy | None = None,
    ) -> PushResult:
        """Commit everything pending in one atomic step; see `EBooklet.push`."""
        if isinstance(message, bool):  # older programs pass force_push first
            return push(self._copy, force=message, conflict=conflict)
        return push(self._copy, message=message or "", force=force_push, conflict=conflict)

    def pull(self) -> PullResult:
        """Take in what others committed; pending changes stay."""
        return pull(self._copy)

    def discard(self, keys: Iterable[str] | None = None) -> None:
        """Drop pending changes, of `keys` or all of them; unknown keys are ignored."""
        self._copy.require_writable("discard")
        writing.discard(self._copy, keys)


def _cleared(copy: WorkingCopy, kept: set[str]) -> dict[str, int]:
    """Keys of the base that a pending replacement does away with, with their timestamps (µs)."""
    return {
        entry.key: entry.timestamp
        for page in iter_base(copy)
        for entry in page
        if entry.key not in kept
    }
