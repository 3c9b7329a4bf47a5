"""The old remote: what its one mutable object says, held still while values are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from ebooklet.core.legacy.description import Description, read_description
from ebooklet.core.legacy.index import Buffer, IndexTable
from ebooklet.core.legacy.payload import (
    FRAME,
    Sections,
    damaged,
    read_frame,
    read_manifest,
    read_metadata,
)
from ebooklet.errors import (
    ObjectNotFound,
    RemoteIntegrityError,
    RemoteMissingError,
    SnapshotExpired,
)
from ebooklet.ports.remote_store import ObjectMeta, RemoteStore

_PART: Final = 1 << 20  # bytes of one request


class Spool(Protocol):
    """A place on disk for something too large for memory, gone when it is closed."""

    def write(self, data: bytes, /) -> object:
        """Append."""
        ...

    def view(self) -> Buffer:
        """All that was written, without taking it into memory."""
        ...


class OldRemote:
    """A remote database of 0.11. It is only ever read, and no lock of it is taken.

    Args:
        store: where it lies.
        db_key: its object.
        spool: for its index.

    Attributes:
        description: what its object's user metadata say.
        metadata: the user's metadata and their timestamp (µs), or None.
        notes: what of it could not be read.
        manifest: the generation of each group.
        index: its keys.

    Raises:
        RemoteMissingError: there is no object.
        UnsupportedFormatError: the object is no database of 0.11.
        RemoteIntegrityError: it is damaged.
        SnapshotExpired: it was replaced while it was read.
    """

    def __init__(self, store: RemoteStore, db_key: str, spool: Spool) -> None:
        self.store = store
        self.db_key = db_key
        self.notes: list[str] = []
        try:
            first = store.get(db_key, stop=_PART)
        except ObjectNotFound:
            raise RemoteMissingError(
                f"there is no database at {self.location}; correct the old connection",
                op="migrate",
                key=db_key,
            ) from None
        self._meta = first.meta
        self.description: Description = read_description(first.meta.user_metadata, db_key)
        sections = read_frame(first.body[: FRAME.size], first.meta.size, db_key)
        pieces = self._pieces(first.body)
        manifest, metadata = self._read_front(pieces, sections, spool)
        self.manifest = read_manifest(manifest, db_key)
        self.metadata = self._read_metadata(metadata)
        self.index = IndexTable(spool.view(), db_key)
        if self.index.layout != self.description.layout:
            raise damaged("its index and its description disagree about the layout", db_key)

    @property
    def location(self) -> str:
        """Where it is, for messages."""
        return f"{self.store.location}/{self.db_key}"

    @property
    def state(self) -> list[Any]:
        """What tells this commit of it from every other."""
        return [self._meta.etag, self._meta.size, self.description.timestamp]

    def check_unchanged(self) -> None:
        """Look at its object once more.

        Raises:
            SnapshotExpired: a writer of 0.11 committed since, or deleted it.
        """
        try:
            now = self.store.head(self.db_key)
        except ObjectNotFound:
            raise self._changed() from None
        if not self._is_same(now):
            raise self._changed()

    def _pieces(self, first: bytes) -> Iterator[bytes]:
        yield first
        at, size = len(first), self._meta.size
        while at < size:
            try:
                part = self.store.get(self.db_key, start=at, stop=min(size, at + _PART))
            except ObjectNotFound:
                raise self._changed() from None
            if not self._is_same(part.meta):
                raise self._changed()
            yield part.body
            at += len(part.body)

    def _read_front(
        self, pieces: Iterator[bytes], sections: Sections, spool: Spool
    ) -> tuple[bytes, bytes]:
        """Keep manifest and metadata; let the index run through to the disk."""
        begin = sections.index[0]
        front = bytearray()
        for piece in pieces:
            missing = begin - len(front)
            front += piece[:missing]
            if len(piece) > missing:
                spool.write(piece[missing:])
        return bytes(front[slice(*sections.manifest)]), bytes(front[slice(*sections.metadata)])

    def _read_metadata(self, data: bytes) -> tuple[Any, int] | None:
        try:
            return read_metadata(data, self.db_key)
        except RemoteIntegrityError:
            self.notes.append("the user's metadata are damaged and were left out")
            return None

    def _is_same(self, meta: ObjectMeta) -> bool:
        mine = self._meta
        # A HEAD of some public servers shows no user metadata, so size and ETag decide with it.
        return (meta.etag, meta.size) == (mine.etag, mine.size) and (
            not meta.user_metadata or meta.user_metadata == mine.user_metadata
        )

    def _changed(self) -> SnapshotExpired:
        return SnapshotExpired(
            f"{self.location} was changed while it was read: end whatever writes to it with "
            "EBooklet 0.11, then migrate again; nothing was pushed",
            op="migrate",
            key=self.db_key,
        )
