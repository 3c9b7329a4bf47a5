"""Rewriting: the same content in other blocks, by a commit of moves (FORMAT §8).

Streams: what is held at once is a window of values, and the segments that are on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

from ebooklet.core.advance import LiveBytes
from ebooklet.core.entry import Entry, Place
from ebooklet.core.head import Head
from ebooklet.core.index.diff import diff
from ebooklet.core.index.lookup import scan
from ebooklet.core.names import sid_ms
from ebooklet.core.refs import NodeRef
from ebooklet.core.sealing import Content
from ebooklet.errors import RemoteIntegrityError
from ebooklet.services.attempts import Outcome, Write, nothing_to_do
from ebooklet.services.committing import stored_metadata
from ebooklet.services.draft import Draft, Edit
from ebooklet.services.explaining import explaining
from ebooklet.services.fetching import values_of
from ebooklet.services.guards import to_be_replaced
from ebooklet.services.metadata import committed_metadata
from ebooklet.services.pending import Covered
from ebooklet.services.placed import PlacedValues
from ebooklet.services.snapshot import Snapshot
from ebooklet.services.upload import SegmentUploader
from ebooklet.services.working_copy import WorkingCopy

_WINDOW_BYTES: Final = 16 * 1024 * 1024  # of values held at once, but for the last
_WINDOW_KEYS: Final = 4096


def moved(
    copy: WorkingCopy,
    entries: Iterable[Entry],
    chosen: Callable[[Place], bool],
    uploader: SegmentUploader,
) -> Iterator[Entry]:
    """Yield the entries in their order, values at chosen places laid down anew.

    Each is fetched, verified, sealed under the current key and laid where `uploader` puts it.

    Args:
        copy: whose values they are.
        entries: of its index, in key order.
        chosen: whether what lies there is to move.
        uploader: where to.

    Raises:
        EBookletError: a value cannot be read.
    """
    window: list[Entry] = []
    size = 0
    for entry in entries:
        window.append(entry)
        if entry.place is not None and chosen(entry.place):
            size += entry.length
        if size >= _WINDOW_BYTES or len(window) >= _WINDOW_KEYS:
            yield from _moved(copy, window, chosen, uploader)
            window, size = [], 0
    yield from _moved(copy, window, chosen, uploader)


def _moved(
    copy: WorkingCopy,
    window: list[Entry],
    chosen: Callable[[Place], bool],
    uploader: SegmentUploader,
) -> Iterator[Entry]:
    wanted = [entry for entry in window if entry.place is not None and chosen(entry.place)]
    values = values_of(copy, wanted)
    for entry in window:
        if entry.key not in values:
            yield entry
            continue
        stored = copy.sealer.seal(Content.VALUE, values.pop(entry.key))
        yield entry._replace(place=uploader.add_value(stored))


def check_same_content(
    copy: WorkingCopy, op: str, old: NodeRef | None, new: NodeRef | None
) -> None:
    """Refuse to commit a tree that is to hold what another one does, and does not.

    Raises:
        RemoteIntegrityError: what was read of the old one was damaged.
    """
    if (new.digest if new else b"") != (old.digest if old else b""):
        raise RemoteIntegrityError(
            f"cannot {op}: what was read of the index is not what its root says; run fsck",
            op=op,
            key=copy.db_key,
        )


class Rewrite(Write):
    """One logical write whose snapshot holds what the last one held, in other blocks.

    All index nodes are new, and so are the values at chosen places. What is pending stays so. When
    another commit wins the race, what it changed is moved after, and nothing else again.

    Args:
        copy: the working copy, writable.
        message: of the commit.
        op: what the commit says it is.
        chosen: which values are to move.
    """

    def __init__(
        self, copy: WorkingCopy, message: str, op: str, chosen: Callable[[Place], bool]
    ) -> None:
        super().__init__(copy, message, force=False, conflict="ours")
        self.op = op
        self._chosen = chosen
        self._done: tuple[NodeRef, NodeRef, LiveBytes] | None = None  # from, to, its segments

    def _forget_attempts(self) -> None:
        super()._forget_attempts()
        self._done = None

    def _write(self, base: Snapshot | None, *, replacing: bool, metadata: bool) -> Outcome:
        copy = self.copy
        if replacing:
            raise to_be_replaced(self.op, copy.db_key)
        if base is None:
            return Outcome(Covered(), nothing_to_do(base), None)
        uploader = self._uploader(base)
        try:
            draft, root = self._rebuilt(base, uploader)
            head = self._next_head(base, draft, root, uploader, replacing=False)
            self._finish(uploader)
        finally:
            uploader.close()
        if base.root is not None and root is not None:
            self._done = base.root, root, draft.live
        snapshot = self._land(head, base, draft)
        return Outcome(Covered(), self._pushed(snapshot, uploader), snapshot)

    def _rebuilt(self, base: Snapshot, uploader: SegmentUploader) -> tuple[Draft, NodeRef | None]:
        """Lay down the base's tree in new nodes, over values of which the chosen ones are moved."""
        copy = self.copy
        done = self._done
        floor = base.head.gc.floor
        if done is not None and any(sid_ms(sid) <= floor for sid in self.lengths):
            done = None  # it may have been collected meanwhile
        draft = self._draft(base, None if done is None else done[1], uploader, PlacedValues())
        if done is None:
            whole = chain.from_iterable(copy.nodes.scan(scan(base.root)))
            edits: Iterator[Edit] = (
                (entry.key, entry) for entry in moved(copy, whole, self._chosen, uploader)
            )
        else:
            live = done[2]
            draft.live = LiveBytes(
                {sid: [*row] for sid, row in live.rows.items()}, live.value_bytes
            )
            edits = self._followed(done[0], base.root, uploader)
        with explaining(copy):
            root = draft.build(edits)
        check_same_content(copy, self.op, base.root, root)
        return draft, root

    def _followed(
        self, old: NodeRef, new: NodeRef | None, uploader: SegmentUploader
    ) -> Iterator[Edit]:
        """What others have committed since, moved as well."""
        for changes in self.copy.nodes.scan(diff(old, new, times=True)):
            news = [change.new for change in changes if change.new is not None]
            entries = moved(self.copy, news, self._chosen, uploader)
            for change in changes:
                yield change.key, None if change.new is None else next(entries)

    def _kept_keys(self, last: Head | None) -> tuple[str, ...]:
        return ()  # all of it lies under the current one

    def _metadata_fields(self, uploader: SegmentUploader) -> Mapping[str, object]:
        """The committed metadata, sealed anew; what is pending of them stays pending."""
        copy = self.copy
        stored = None if copy.base is None else committed_metadata(copy, copy.base.head)
        return stored_metadata(stored, copy.sealer, uploader)


__all__ = ["Rewrite", "check_same_content", "moved"]
