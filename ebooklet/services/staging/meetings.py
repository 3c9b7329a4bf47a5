"""What staged results say, key by key, beside what the database holds by now."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple

from ebooklet.core.entry import Entry
from ebooklet.core.index.node import InnerNode
from ebooklet.core.refs import NodeRef
from ebooklet.errors import ConflictError, ObjectNotFound
from ebooklet.services.conflicts import describe
from ebooklet.services.explaining import explaining
from ebooklet.services.meeting import Meeting, find_answers
from ebooklet.services.nodes import NodeReader
from ebooklet.services.policy import ConflictPolicy
from ebooklet.services.resolving import Answer
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.staging.result import Staged
from ebooklet.services.staging.tables import entries_in
from ebooklet.services.working_copy import WorkingCopy

_CHUNK_KEYS: Final = 5_000
_WARMED_ENTRIES: Final = 200_000  # that are read ahead of all, half of what a reader keeps


class _Word(NamedTuple):
    """What one result says of one key."""

    key: str
    entry: Entry | None  # None: deleted
    number: int  # of the result
    timestamp: int


class StagedMeetings:
    """The keys of staged results, as they meet one snapshot: ours is what was staged.

    Args:
        copy: the working copy.
        base: what they are to be merged into.
        results: of the writers.
    """

    def __init__(self, copy: WorkingCopy, base: Snapshot, results: Sequence[Staged]) -> None:
        self._copy = copy
        self._base = base
        self._results = results
        self._nodes = NodeReader(copy.segments, copy.db_key)
        self._nodes.params, self._nodes.sealer = base.head.params, copy.sealer
        tables = [table for each in results for table in (each.sets, each.deletes)]
        afar = [table.root for table in tables if table.data is None and table.root is not None]
        if sum(root.count for root in afar) <= _WARMED_ENTRIES:
            _warm(self._nodes, afar)

    def parts(self) -> Iterator[list[Meeting]]:
        """Yield all of them in key order, in lists."""
        words = self._words()
        while part := list(islice(words, _CHUNK_KEYS)):
            yield list(self._met(part))

    def answers(self, policy: ConflictPolicy) -> dict[str, Answer]:
        """Decide all that are in conflict.

        Raises:
            ConflictError: some are left open.
            Exception: what a hook, or the caller's function, raised.
        """
        if all(_have_same_content(each.root, self._base.root) for each in self._results):
            return {}
        meetings = chain.from_iterable(self.parts())
        answers, left = find_answers(self._copy, meetings, policy)
        if left:
            raise ConflictError(
                f"others changed {describe(left)} since the database was forked; nothing was "
                "merged: merge with conflict='ours' to take what was staged, or with "
                "conflict='theirs' to keep what is there",
                keys=left,
                op="merge",
            )
        return answers

    def _words(self) -> Iterator[_Word]:
        """One for each key, in key order: the last-named result's."""
        streams = [
            self._stream(number, each, deletes=deletes)
            for number, each in enumerate(self._results)
            for deletes in (False, True)
        ]
        in_order = heapq.merge(*streams, key=itemgetter(0))
        for _, same in groupby(in_order, key=itemgetter(0)):
            yield max(same, key=attrgetter("number"))

    def _stream(self, number: int, staged: Staged, *, deletes: bool) -> Iterator[_Word]:
        table = staged.deletes if deletes else staged.sets
        for entry in entries_in(table, self._nodes):
            yield _Word(entry.key, None if deletes else entry, number, entry.timestamp)

    def _met(self, words: Sequence[_Word]) -> Iterator[Meeting]:
        copy, root = self._copy, self._base.root
        with explaining(copy):
            current = copy.nodes.lookup(root, [word.key for word in words])
        before: dict[NodeRef | None, Mapping[str, Entry] | None] = {root: current}
        roots = [self._results[word.number].root for word in words]
        for other in set(roots) - before.keys():
            if _have_same_content(other, root):
                before[other] = current
                continue
            keys = [word.key for word, forked in zip(words, roots, strict=True) if forked == other]
            try:
                before[other] = copy.nodes.lookup(other, keys)
            except ObjectNotFound:
                before[other] = None
        for word, forked in zip(words, roots, strict=True):
            known = before[forked]
            yield Meeting(
                key=word.key,
                ours=word.entry,
                base=None if known is None else known.get(word.key),
                theirs=current.get(word.key),
                base_known=known is not None,
                ours_timestamp=word.timestamp,
            )


def _have_same_content(one: NodeRef | None, other: NodeRef | None) -> bool:
    """Whether two trees hold the same keys and values; times do not count, nor places."""
    return one == other or (one is not None and other is not None and one.digest == other.digest)


def _warm(nodes: NodeReader, roots: Iterable[NodeRef]) -> None:
    """Read trees level by level, many at once, rather than one after the other."""
    level = list(roots)
    while level:
        found = nodes.fetch(level)
        level = [
            child
            for node in found.values()
            if isinstance(node, InnerNode)
            for child in node.children()
        ]
