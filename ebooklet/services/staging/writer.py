"""Writers that travel: what they are given goes straight into segments in the bucket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, Self, TypeAlias, TypeVar
from uuid import UUID

from ebooklet.core.dictionaries import MAX_DICTIONARY_BYTES, Dictionaries
from ebooklet.core.entry import Entry
from ebooklet.core.head import Head
from ebooklet.core.index.limits import MAX_VALUE_BYTES
from ebooklet.core.keys import checked_key
from ebooklet.core.minting import SidMinter
from ebooklet.core.refs import NodeRef
from ebooklet.core.sealing import Content, Sealer
from ebooklet.core.timestamps import Timestamp, to_microseconds
from ebooklet.errors import (
    ReadOnlyError,
    RemoteMissingError,
    SerializationError,
    UUIDMismatchError,
)
from ebooklet.ports.serializer import Dictionary, Serializer, TrainedSerializer
from ebooklet.services.parts import read_block
from ebooklet.services.place import RemotePlace
from ebooklet.services.staging.result import Seen, Staged, StagedSegment
from ebooklet.services.staging.tables import lay_table
from ebooklet.services.upload import SegmentUploader

V = TypeVar("V")

OpenWriterPlace: TypeAlias = Callable[[], RemotePlace]
"""Opens the place of the database wherever the writer is by then; can be pickled."""

_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ForkedFrom:
    """The database that a writer was forked from, as it was then.

    Attributes:
        uuid: its identity.
        serializer: the name of its values' serializer.
        root: of its index; what is staged is a change of that.
    """

    uuid: UUID
    serializer: str
    root: NodeRef | None


class StagedWriter(Generic[V]):
    """Writes into a database's bucket what only `merge` makes visible. Made by `fork`.

    It can be pickled, and is used wherever it is by then, as a context manager:

        with writer:
            writer["a"] = 1
        return writer.result

    Each `with` is a staging of its own and leaves a result of its own, and so it is in each thread
    that shares a writer. What goes wrong inside leaves none; what had been sent by then is seen by
    nobody, and is swept in time.

    A pickle holds what the pickle of the connection holds, its credentials if it has any, the
    serializer, and a few hundred bytes that say which state of the database it was forked from. It
    holds no keys of an encrypted database: of a `KeyFile` it holds the path.
    """

    def __init__(
        self, open_place: OpenWriterPlace, serializer: Serializer, source: ForkedFrom
    ) -> None:
        self._open_place = open_place
        self._serializer = serializer
        self._source = source
        self._here = _Here()

    def __reduce__(self) -> tuple[type[Self], tuple[OpenWriterPlace, Serializer, ForkedFrom]]:
        """Travel without what is under way, which belongs to this process."""
        return type(self), (self._open_place, self._serializer, self._source)

    def __repr__(self) -> str:
        state = "" if self._here.staging is None else ", writing"
        return f"<{type(self).__name__} of database {self._source.uuid}{state}>"

    def __enter__(self) -> Self:
        if self._here.staging is not None:
            raise ValueError("this writer is in use in this thread: end its `with` block first")
        self._here.result = None
        place = self._open_place()
        try:
            self._here.staging = _Staging(place, self._serializer, self._source)
        except BaseException:
            place.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        staging, self._here.staging = self._staging(), None
        try:
            if error is None:
                self._here.result = staging.finish()
        finally:
            staging.close()

    def __setitem__(self, key: str, value: V) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        """Have `key` deleted by the merge; nobody is asked whether it is there."""
        self._staging().delete(checked_key(key))

    def set(self, key: str, value: V, timestamp: Timestamp = None) -> None:
        """Stage one value; of several for one key the last counts.

        Args:
            key: at most 65,535 bytes of UTF-8. Values that are written in the order of their keys
                lie side by side, and are read with few requests.
            value: what the database's serializer takes.
            timestamp: µs since the epoch, an ISO 8601 text with zone, or an aware datetime; now by
                default.

        Raises:
            InvalidKeyError, TypeError: not a key.
            SerializationError: the serializer cannot hold the value.
            ValueError: not inside `with`, or the timestamp says no moment.
            EBookletError: an upload failed; leave the `with` block, and stage anew.
        """
        staging = self._staging()
        key = checked_key(key)
        try:
            raw = staging.serializer.dumps(value)
        except SerializationError as exc:
            exc.key = key
            raise
        staging.set(key, raw, timestamp)

    def update(self, other: Mapping[str, V] | Iterable[tuple[str, V]], /) -> None:
        """`set` all items of a mapping, or of an iterable of pairs."""
        for key, value in other.items() if isinstance(other, Mapping) else other:
            self.set(key, value)

    @property
    def result(self) -> Staged:
        """What the last `with` block of this thread left, for `merge`.

        Raises:
            ValueError: none has ended well.
        """
        if self._here.result is None:
            raise ValueError("there is a result once a `with` block of this writer has ended well")
        return self._here.result

    def _staging(self) -> _Staging:
        staging = self._here.staging
        if staging is None:
            raise ValueError("a staged writer writes inside `with writer:` only")
        return staging


class _Here(threading.local):
    """What a writer has under way in one thread."""

    def __init__(self) -> None:
        self.staging: _Staging | None = None
        self.result: Staged | None = None


class _Staging:
    """One staging, from the head it found to its result."""

    def __init__(self, place: RemotePlace, serializer: Serializer, source: ForkedFrom) -> None:
        self._place = place
        self._source = source
        self._id = place.clock.token_bytes(_ID_BYTES)
        head = self._head = _writable_head(place, source)
        self._params = head.params
        self._sealer: Sealer = place.keyring.sealer_of(head)
        dictionary = None
        if isinstance(serializer, TrainedSerializer):
            dictionary = _newest_dictionary(place, head, self._sealer)
            known = Dictionaries()
            known.add(() if dictionary is None else (dictionary,))
            serializer = serializer.bind(known)
        self.serializer = serializer
        # A head that says something else about the same commits may stand in no history.
        newest = head.recent[-1] if head.recent else head
        self._seen = Seen(
            newest.seq,
            newest.write_id,
            head.gc.epoch,
            self._sealer.current,
            None if dictionary is None else dictionary.id,
        )
        minter = SidMinter(floor_ms=head.gc.floor)

        def mint() -> bytes:
            now_ms = place.store.server_time_ms() or place.clock.now_us() // 1000
            return minter.mint(now_ms, place.clock.token_bytes(10))

        self._uploader = SegmentUploader(
            place.store, place.db_key, uuid=head.uuid, write_id=self._id, mint=mint
        )
        self._sets: dict[str, Entry] = {}
        self._deletes: dict[str, Entry] = {}

    def set(self, key: str, value: bytes, timestamp: Timestamp) -> None:
        length = len(value)
        if length > MAX_VALUE_BYTES:
            raise ValueError(f"a value has {MAX_VALUE_BYTES} bytes at most, not {length}")
        moment = to_microseconds(timestamp, self._place.clock.now_us())
        digest = self._sealer.digest(value)
        known = self._sets.get(key)
        if known is not None and known.digest == digest and known.length == length:
            entry = known._replace(timestamp=moment)
        elif length <= self._params.inline_max:
            entry = Entry(key, length, digest, moment, value, None)
        else:
            place = self._uploader.add_value(self._sealer.seal(Content.VALUE, value))
            entry = Entry(key, length, digest, moment, None, place)
        self._sets[key] = entry
        self._deletes.pop(key, None)

    def delete(self, key: str) -> None:
        now = self._place.clock.now_us()
        self._deletes[key] = Entry(key, 0, self._sealer.digest(b""), now, b"", None)
        self._sets.pop(key, None)

    def finish(self) -> Staged:
        uploader = self._uploader
        sets, deletes = (
            lay_table([table[key] for key in sorted(table)], self._params, self._sealer, uploader)
            for table in (self._sets, self._deletes)
        )
        uploader.finish()
        kinds = uploader.segment_kinds()
        return Staged(
            id=self._id,
            uuid=self._head.uuid,
            serializer=self._source.serializer,
            location=self._place.location,
            root=self._source.root,
            seen=self._seen,
            segments=tuple(
                StagedSegment(sid, length, kinds[sid])
                for sid, length in sorted(uploader.lengths().items())
            ),
            sets=sets,
            deletes=deletes,
        )

    def close(self) -> None:
        self._uploader.close()
        self._place.close()


def _writable_head(place: RemotePlace, source: ForkedFrom) -> Head:
    """The head that stands, if what is staged can be merged into its database."""
    if not place.store.capabilities.writable:
        raise ReadOnlyError(
            f"{place.location} can only be read from here: the database has to be forked where it "
            "is opened with credentials",
            op="stage",
            key=place.db_key,
        )
    snapshot = place.heads().read()
    if snapshot is None:
        raise RemoteMissingError(
            f"there is no database at {place.location} as seen from here: push it before it is "
            "forked, at a place that every worker can reach",
            op="stage",
            key=place.db_key,
        )
    head = snapshot.head
    if head.uuid != source.uuid or head.value_serializer != source.serializer:
        raise UUIDMismatchError(
            f"{place.location} holds the database {head.uuid} by now, and this writer was forked "
            f"from {source.uuid}; nothing was written. Fork the one that is there",
            op="stage",
            key=place.db_key,
        )
    head.require_writable("stage", place.location, place.db_key)
    return head


def _newest_dictionary(place: RemotePlace, head: Head, sealer: Sealer) -> Dictionary | None:
    if not head.dictionaries:
        return None
    row = head.dictionaries[-1]
    data = read_block(
        *(place.store, place.db_key, row.block, sealer, Content.DICTIONARY),
        limit=MAX_DICTIONARY_BYTES,
    )
    return Dictionary(row.id, data)
