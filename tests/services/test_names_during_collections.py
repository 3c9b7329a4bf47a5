"""FORMAT 10.5: names made, and versions restored, at each step of a collection (FORMAT §8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, BinaryIO

import pytest

import ebooklet
from ebooklet.adapters.remote.memory import MemoryRemoteStore
from ebooklet.database import EBooklet
from ebooklet.errors import EBookletError, SnapshotExpired
from ebooklet.ports.remote_store import (
    Body,
    ByteRange,
    Condition,
    ObjectMeta,
    StoredObject,
)

FIRST = {f"k{n}": "v" * 200 for n in range(20)}
MAKERS: dict[str, Callable[[EBooklet[Any]], object]] = {
    "tag": lambda db: db.tag("kept", 1),
    "branch": lambda db: db.branch("kept", 1),
    "revert": lambda db: db.revert(1),
}


class SteppedStore(MemoryRemoteStore):
    """Lets something happen before the request of a given number."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.then: Callable[[], object] = lambda: None

    def _step(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            self.then()

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> StoredObject:
        """Step, and answer."""
        self._step()
        return super().get(key, start=start, stop=stop)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> Iterator[bytes | EBookletError]:
        """Step, and answer."""
        self._step()
        return super().get_ranges(ranges)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectMeta]:
        """Step, and answer."""
        self._step()
        return super().list(prefix, after=after)

    def put(
        self,
        key: str,
        body: Body | BinaryIO,
        *,
        condition: Condition | None = None,
        cache_control: str | None = None,
    ) -> ObjectMeta:
        """Step, and write."""
        self._step()
        return super().put(key, body, condition=condition, cache_control=cache_control)

    def delete(self, keys: Iterable[str]) -> None:
        """Step, and delete."""
        self._step()
        super().delete(keys)


def meet(step: int, make: Callable[[EBooklet[Any]], object], *, within: str) -> tuple[bool, bool]:
    """Name the first of three commits, and collect all but the newest, the one inside the other.

    Args:
        step: before which request of the outer one the inner one happens.
        make: names it.
        within: the outer one, "collection" or "naming".

    Returns:
        Whether the outer one had so many requests, and whether the name was made.
    """
    store = SteppedStore()
    made: list[bool] = []
    with ebooklet.open(store, None, "c", "json", lock="optimistic") as db:
        db.update(FIRST)
        db.push()
        for n in range(2):
            db.update(dict.fromkeys(FIRST, f"{n}" * 200))
            db.push()

        def name() -> None:
            try:
                make(db)
                made.append(True)
            except SnapshotExpired:
                made.append(False)

        def collect() -> None:
            with ebooklet.open(store, None, "w", history=0, lock="optimistic") as collector:
                collector.gc(grace=timedelta(0))

        outer, inner = (collect, name) if within == "collection" else (name, collect)
        store.left, store.then = step, inner
        outer()
        reached, store.left = store.left is None, None
        if not reached:
            inner()
        report = ebooklet.fsck(store, check_objects=True)
        assert not any((report.damaged, report.claimed_but_missing, report.unreadable))
        if made == [True]:
            named = {*db.tags(), *db.branches()} & {"kept"}
            with ebooklet.open(store, version="kept" if named else None) as first:
                assert first.load_items() == {}
                assert dict(first) == FIRST
    return reached, made == [True]


@pytest.mark.parametrize("within", ["collection", "naming"])
@pytest.mark.parametrize("name", MAKERS)
def test_refused_or_it_survives(name: str, within: str) -> None:
    """FORMAT 10.5: whatever comes first, a collection sees the name, or the name is refused.

    Fails without: looking at the head of each attempt anew; `_check_retained` in `revert`.
    """
    outcomes: list[bool] = []
    reached = True
    while reached:
        reached, made = meet(len(outcomes), MAKERS[name], within=within)
        outcomes.append(made)
    assert set(outcomes) == {True, False}
    first_comes_first = within == "collection"
    assert outcomes == sorted(outcomes, reverse=first_comes_first)
