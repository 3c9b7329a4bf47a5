"""Which keys lose their values with the segments that are missing or damaged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from ebooklet.core.entry import Entry, Place
from ebooklet.core.index.node import LeafNode
from ebooklet.core.names import segment_key
from ebooklet.core.sealing import Content, Sealer
from ebooklet.errors import EBookletError, ObjectNotFound, RemoteIntegrityError
from ebooklet.ports.remote_store import ByteRange, RemoteStore
from ebooklet.services.parts import checked

_WINDOW_BYTES: Final = 16 * 1024 * 1024  # of values held at once, but for the last
_WINDOW_KEYS: Final = 256


class LostValues:
    """Tells the keys whose values cannot be read.

    Args:
        store: where the database is.
        db_key: its key.
        sealer: of its values.
        missing: segments that are not there.
        damaged: segments that are there, and of which some values may be whole.
    """

    def __init__(
        self,
        store: RemoteStore,
        db_key: str,
        sealer: Sealer,
        *,
        missing: Collection[bytes],
        damaged: Collection[bytes],
    ) -> None:
        self._store = store
        self._db_key = db_key
        self._sealer = sealer
        self._missing = frozenset(missing)
        self._damaged = frozenset(damaged)

    def of(self, leaves: Iterable[LeafNode]) -> Iterator[str]:
        """Yield the keys, those of one window of values at a time.

        Raises:
            RemoteUnavailable, AccessDenied: values could not be read at all.
        """
        window: list[tuple[Entry, Place]] = []
        size = 0
        for leaf in leaves:
            if not (self._missing | self._damaged).intersection(leaf.sids):
                continue
            for entry in leaf.items():
                place = entry.place
                if place is None:
                    continue
                if place.sid in self._missing:
                    yield entry.key
                elif place.sid in self._damaged:
                    window.append((entry, place))
                    size += place.length
                    if size >= _WINDOW_BYTES or len(window) >= _WINDOW_KEYS:
                        yield from self._unreadable(window)
                        window, size = [], 0
        yield from self._unreadable(window)

    def _unreadable(self, window: list[tuple[Entry, Place]]) -> Iterator[str]:
        parts = [
            ByteRange(segment_key(self._db_key, at.sid), at.offset, at.offset + at.length)
            for _, at in window
        ]
        bodies = self._store.get_ranges(parts)
        for (entry, _), part, body in zip(window, parts, bodies, strict=True):
            if not self._is_whole(entry, part, body):
                yield entry.key

    def _is_whole(self, entry: Entry, part: ByteRange, body: bytes | EBookletError) -> bool:
        def check(data: bytes) -> None:
            value = self._sealer.open(Content.VALUE, data)
            if len(value) != entry.length or self._sealer.digest(value) != entry.digest:
                raise RemoteIntegrityError("a value does not match its digest", op="read")

        try:
            checked(self._store, part, body, check)
        except (RemoteIntegrityError, ObjectNotFound):
            return False
        return True
